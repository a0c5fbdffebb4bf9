// SPDX-License-Identifier: Apache-2.0

/**
 * What becomes of a packet between two label sets, by walking through the rules: policy-language 9.3. Policy maps say
 * the same by other means; tests hold the two together.
 */
import type { LabelSet } from '../../identity/label-set.ts';
import { LABEL_SOURCE } from '../../identity/label.ts';
import type { EndpointSelector } from '../../identity/selector.ts';
import type { Reason } from '../explanation.ts';
import { l4Covers, l4Key, PRECEDENCE_ALLOW, PRECEDENCE_DENY } from '../map-entry.ts';
import { peerSelectors } from '../peer-selectors.ts';
import type { RepositoryView } from '../repository-view.ts';
import { isDeny, type Direction, type Entry, type Peer } from '../rule.ts';
import { subjectKind } from '../subject-policy.ts';
import { openSetting, type AskedSubject, type OpenSetting, type RuleFilter } from './subject.ts';

/** `redirect`: a proxy gets it, which may still refuse what is inside. */
export type PacketVerdict = 'allowed' | 'denied' | 'redirect';

/** Something a rule says about a packet. */
export interface Hit extends Reason {
  /** The highest among all hits decides. */
  readonly precedence: number;
  /** Which item of the entry's toPorts; undefined: it has none. */
  readonly portRuleIndex: number | undefined;
  /** Those of the entry's peers that select the peer; none: the entry names no peers. */
  readonly peers: readonly Peer[];
}

export type AllowingSetting = OpenSetting | 'allow-localhost';

export interface Judgement {
  readonly verdict: PacketVerdict;
  /** The strongest first. */
  readonly hits: readonly Hit[];
  /** What lets the packet through where no rule denies it. */
  readonly setting: AllowingSetting | undefined;
}

export interface Packet {
  /** IPPROTO number; 0: none in particular, so that only what holds for all protocols and ports counts. */
  readonly protocol: number;
  /** The receiver's, or the type of an ICMP message. */
  readonly port: number;
}

export function judge(
  view: RepositoryView,
  subject: AskedSubject,
  direction: Direction,
  peer: LabelSet,
  { protocol, port }: Packet,
): Judgement {
  const wanted = l4Key(protocol, port);
  const hits = subject.filters
    .filter(
      ({ spec }) =>
        spec.egress === (direction === 'egress') &&
        (spec.peers?.some((selector) => selector.matches(peer)) ?? true) &&
        subject.portsOf(spec).some((l4) => l4Covers(l4, wanted)),
    )
    .map((filter) => hitOf(view, subject, filter, peer))
    .sort((a, b) => b.precedence - a.precedence);
  const setting = allowingSetting(view, subject, direction, peer);
  const strongest = hits[0]?.precedence ?? 0;
  return {
    verdict: verdictOf(setting === undefined ? strongest : Math.max(strongest, PRECEDENCE_ALLOW)),
    hits,
    setting,
  };
}

/** Whether a packet with this verdict gets to where it is sent, as far as policy decides. */
export function passes({ dropsRedirects }: RepositoryView, verdict: PacketVerdict): boolean {
  return verdict === 'allowed' || (verdict === 'redirect' && !dropsRedirects);
}

/** By the precedence of what is strongest; 0: nothing hits. */
export function verdictOf(precedence: number): PacketVerdict {
  if (precedence === 0 || precedence === PRECEDENCE_DENY) return 'denied';
  return precedence === PRECEDENCE_ALLOW ? 'allowed' : 'redirect';
}

export function allowingSetting(
  view: RepositoryView,
  { managed, labels, rules }: AskedSubject,
  direction: Direction,
  peer: LabelSet,
): AllowingSetting | undefined {
  if (!managed) return 'not-an-endpoint';
  const open = openSetting(view, subjectKind(labels), rules, direction);
  if (open !== undefined) return open;
  const localhost = view.allowLocalhost && direction === 'ingress' && peer.has(LABEL_SOURCE.reserved, 'host');
  return localhost ? 'allow-localhost' : undefined;
}

/** What a peer selects, narrowed by what the subject's rules require of all peers. */
export function selectorsOf(
  view: RepositoryView,
  { requirements }: AskedSubject,
  peer: Peer,
  { direction, deny }: { readonly direction: Direction; readonly deny: boolean },
): readonly EndpointSelector[] {
  const own = peerSelectors(peer, view.context);
  const required = requirements[direction];
  if (deny || peer.kind !== 'endpoints' || required.isWildcard) return own;
  return own.map((selector) => selector.and(required));
}

function hitOf(view: RepositoryView, subject: AskedSubject, { rule, spec }: RuleFilter, peer: LabelSet): Hit {
  const { section, redirect, portRule, precedence } = spec;
  const deny = isDeny(section);
  const entry: Entry = rule.entries[section][spec.entry]!;
  const place = { direction: spec.egress ? 'egress' : 'ingress', deny } as const;
  const peers = (entry.peers ?? []).filter((one) =>
    selectorsOf(view, subject, one, place).some((selector) => selector.matches(peer)),
  );
  const selectors = (spec.peers ?? []).filter((selector) => selector.matches(peer));
  const portRuleIndex = portRule && entry.toPorts?.indexOf(portRule);
  return { rule, section, entry: spec.entry, portRuleIndex, deny, redirect, portRule, selectors, precedence, peers };
}
