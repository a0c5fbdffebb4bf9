// SPDX-License-Identifier: Apache-2.0

/**
 * Why a flow passes or not, in both directions: the setting or the rules that say so, the entry that the kernel finds
 * with all those that lose against it, and what would allow the flow when it is denied.
 */
import type { NumericIdentity } from '../identity/numeric-identity.ts';
import type { EndpointSelector } from '../identity/selector.ts';
import { lookupEntry } from './lookup.ts';
import { l4Covers, l4Key, PRECEDENCE_ALLOW, type PolicyEntry } from './map-entry.ts';
import type { PolicyRepository } from './repository.ts';
import type { RepositoryView } from './repository-view.ts';
import { speaksOf, type Direction, type Rule } from './rule.ts';
import { suggest, type DeniedDirection, type Suggestion } from './suggestion.ts';
import type { FlowEnd } from './why/flow-end.ts';
import {
  judge,
  passes,
  type AllowingSetting,
  type Hit,
  type Judgement,
  type Packet,
  type PacketVerdict,
} from './why/judge.ts';
import { ruleStep, type RuleStep } from './why/steps.ts';
import { askedSubject, type AskedSubject } from './why/subject.ts';

export interface FlowQuestion extends Packet {
  readonly from: FlowEnd;
  readonly to: FlowEnd;
}

export interface FlowExplanation extends FlowQuestion {
  /** The worse of both directions; `denied` as well when a redirect leads nowhere. */
  readonly verdict: PacketVerdict;
  /** There is no proxy: what is redirected is dropped. */
  readonly dropsRedirects: boolean;
  /** Of the sender's policy. */
  readonly egress: DirectionExplanation;
  /** Of the receiver's policy. */
  readonly ingress: DirectionExplanation;
  /** When the flow is denied. */
  readonly suggestion: Suggestion | undefined;
}

export interface DirectionExplanation {
  readonly direction: Direction;
  readonly subject: FlowEnd;
  readonly peer: FlowEnd;
  readonly verdict: PacketVerdict;
  readonly cause: Cause;
  /** What lets everything through that no rule denies. */
  readonly setting: AllowingSetting | undefined;
  /** All entries of rules that hit the packet, the strongest first. */
  readonly hits: readonly ExplainedHit[];
  /** Rules that make the subject deny what no rule allows; none when the mode `always` or `reserved:init` does. */
  readonly closedBy: readonly Rule[];
  /** The rules that select the subject, with what each says of the peer. */
  readonly rules: readonly RuleStep[];
  /** What the kernel does; undefined when no policy map is kept for the subject. */
  readonly map: MapExplanation | undefined;
}

export type Cause = 'deny-rule' | 'allow-rule' | 'redirect-rule' | 'setting' | 'no-rule-allows';

export interface ExplainedHit extends Hit {
  /** Whether it makes the verdict; several may, and a setting may beside them. */
  readonly decides: boolean;
  /** The hit's selectors, each with all identities that it selects. */
  readonly selected: readonly SelectedIdentities[];
}

export interface SelectedIdentities {
  readonly selector: EndpointSelector;
  /** Ascending. */
  readonly identities: readonly NumericIdentity[];
}

export interface MapExplanation {
  /** Undefined: nothing is found, so the packet is dropped. */
  readonly entry: PolicyEntry | undefined;
  /** Behind the entry; none when a setting made it. */
  readonly rules: readonly Rule[];
  /** Other entries that match the packet. */
  readonly lost: readonly LostEntry[];
}

export interface LostEntry {
  readonly entry: PolicyEntry;
  readonly rules: readonly Rule[];
  /**
   * `shorter`: another entry matches more bits of protocol and port. `precedence`: that of the other peer key is
   * stronger. `any-peer`: equal in both, but for any peer.
   */
  readonly reason: 'shorter' | 'precedence' | 'any-peer';
}

export function explainFlow(repository: PolicyRepository, question: FlowQuestion): FlowExplanation {
  const { from, to, protocol, port } = question;
  const view = repository.view();
  const { dropsRedirects } = view;
  const [sent, received] = [
    { direction: 'egress', subject: from, peer: to } as const,
    { direction: 'ingress', subject: to, peer: from } as const,
  ].map((side) => {
    const asked = askedSubject(view, side.subject.labels, side.subject.managed, side.subject.identity);
    return { ...side, asked, judgement: judge(view, asked, side.direction, side.peer.labels, { protocol, port }) };
  }) as [DeniedDirection, DeniedDirection];
  const denied = [sent, received].filter(({ judgement }) => !passes(view, judgement.verdict));
  const egress = explainDirection(repository, view, sent, question);
  const ingress = explainDirection(repository, view, received, question);
  if (denied.length > 0) {
    const suggestion = suggest(view, denied, { protocol, port });
    return { ...question, verdict: 'denied', dropsRedirects, egress, ingress, suggestion };
  }
  const redirect = egress.verdict === 'redirect' || ingress.verdict === 'redirect';
  const verdict = redirect ? 'redirect' : 'allowed';
  return { ...question, verdict, dropsRedirects, egress, ingress, suggestion: undefined };
}

function explainDirection(
  repository: PolicyRepository,
  view: RepositoryView,
  { direction, subject, peer, asked, judgement }: DeniedDirection,
  { protocol, port }: Packet,
): DirectionExplanation {
  const { verdict, hits, setting } = judgement;
  const packet = { identity: peer.identity, egress: direction === 'egress', protocol, port };
  const known = subject.managed && view.policyOf(subject.identity) !== undefined;
  return {
    direction,
    subject,
    peer,
    verdict,
    cause: causeOf(judgement),
    setting,
    hits: hits.map((hit) => ({
      ...hit,
      decides: hit.precedence === hits[0]!.precedence,
      selected: hit.selectors.map((selector) => ({
        selector,
        identities: [...view.peers.find(selector)].sort((a, b) => a - b),
      })),
    })),
    closedBy: closingRules(view, asked, direction),
    rules: Array.from(asked.rules, (rule) => ruleStep(view, asked, direction, peer.labels, rule)),
    map: known ? explainMap(repository, [...repository.entries(subject.identity)], packet) : undefined,
  };
}

function causeOf({ verdict, hits, setting }: Judgement): Cause {
  const strongest = hits[0];
  if (strongest === undefined) return setting === undefined ? 'no-rule-allows' : 'setting';
  if (verdict === 'denied') return 'deny-rule';
  return strongest.precedence > PRECEDENCE_ALLOW ? 'redirect-rule' : 'allow-rule';
}

function closingRules({ enforcement }: RepositoryView, { rules }: AskedSubject, direction: Direction): Rule[] {
  if (enforcement === 'never') return [];
  return [...rules].filter((rule) => speaksOf(rule, direction) && rule.enableDefaultDeny[direction]);
}

type MapPacket = Parameters<typeof lookupEntry>[1];

/** The kernel looks for the longest match among entries of the peer and among those of any peer, and then compares. */
function explainMap(repository: PolicyRepository, entries: readonly PolicyEntry[], packet: MapPacket): MapExplanation {
  const wanted = l4Key(packet.protocol, packet.port);
  const rulesOf = ({ cookie }: PolicyEntry): Rule[] => repository.rulesOfCookie(cookie);
  const found = lookupEntry(entries, packet);
  const lost = entries
    .filter(
      (entry) =>
        entry !== found &&
        entry.egress === packet.egress &&
        (entry.identity === packet.identity || entry.identity === 0) &&
        l4Covers(l4Key(entry.protocol, entry.port, entry.bits), wanted),
    )
    .map((entry) => ({ entry, rules: rulesOf(entry), reason: lossReason(entry, found!) }));
  return { entry: found, rules: found === undefined ? [] : rulesOf(found), lost };
}

function lossReason(entry: PolicyEntry, winner: PolicyEntry): LostEntry['reason'] {
  if (entry.identity === winner.identity) return 'shorter';
  if (entry.precedence !== winner.precedence) return 'precedence';
  return entry.bits === winner.bits ? 'any-peer' : 'shorter';
}
