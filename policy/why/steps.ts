// SPDX-License-Identifier: Apache-2.0

/** Rule by rule, what is said about a peer, and what the peer lacks where it is not selected. */
import type { LabelSet } from '../../identity/label-set.ts';
import { EndpointSelector, type Requirement } from '../../identity/selector.ts';
import { redirectOf } from '../l7/redirect.ts';
import type { RepositoryView } from '../repository-view.ts';
import {
  directionOf,
  isDeny,
  SECTIONS,
  type Direction,
  type Entry,
  type Peer,
  type Rule,
  type Section,
} from '../rule.ts';
import { selectorsOf } from './judge.ts';
import { needsNoAuthentication, type AskedSubject } from './subject.ts';

export interface RuleStep {
  readonly rule: Rule;
  /** Whether the rule selects the subject. */
  readonly selected: boolean;
  /** In the direction asked for; none when the rule does not select the subject. */
  readonly entries: readonly EntryStep[];
}

export interface EntryStep {
  readonly section: Section;
  /** Which entry of the section. */
  readonly index: number;
  /** As in the rule. */
  readonly entry: Entry;
  readonly deny: boolean;
  /** Undefined: the entry names no peers. */
  readonly peers: readonly PeerStep[] | undefined;
  /** Whether the entry says something about the peer. */
  readonly selectsPeer: boolean;
  /** `ports`: what it says holds for its ports or ICMP types only. `nothing`: it can hit no packet at all. */
  readonly l4: 'everything' | 'ports' | 'nothing';
  /** Some of its ports go to a proxy. */
  readonly redirects: boolean;
  /** It asks for authentication, which never comes about here; so it allows nothing. */
  readonly needsAuthentication: boolean;
  /** Selectors that every peer of the subject has to match besides; from this entry, and what the peer lacks. */
  readonly requires: readonly SelectorStep[];
}

export interface PeerStep {
  readonly peer: Peer;
  readonly selects: boolean;
  /** Those it stands for; one must match. None: it selects nobody. */
  readonly selectors: readonly SelectorStep[];
}

export interface SelectorStep {
  readonly selector: EndpointSelector;
  /** What the labels do not fulfil; none: it matches. */
  readonly missing: readonly Requirement[];
}

export function ruleStep(
  view: RepositoryView,
  subject: AskedSubject,
  direction: Direction,
  peer: LabelSet,
  rule: Rule,
): RuleStep {
  if (!subject.rules.has(rule)) return { rule, selected: false, entries: [] };
  const sections = SECTIONS.filter((section) => directionOf(section) === direction);
  const entries = sections.flatMap((section) =>
    rule.entries[section].map((entry, index) => entryStep(view, subject, peer, { section, index, entry })),
  );
  return { rule, selected: true, entries };
}

function entryStep(
  view: RepositoryView,
  subject: AskedSubject,
  labels: LabelSet,
  { section, index, entry }: Pick<EntryStep, 'section' | 'index' | 'entry'>,
): EntryStep {
  const deny = isDeny(section);
  const place = { direction: directionOf(section), deny };
  const peers = entry.peers?.map((peer): PeerStep => {
    const selectors = selectorsOf(view, subject, peer, place).map((selector) => selectorStep(selector, labels));
    return { peer, selects: selectors.some(({ missing }) => missing.length === 0), selectors };
  });
  const l4 = l4Of(entry);
  return {
    section,
    index,
    entry,
    deny,
    peers,
    selectsPeer: l4 !== 'nothing' && (peers?.some(({ selects }) => selects) ?? true),
    l4,
    redirects: entry.toPorts?.some((port) => redirectOf(port) !== undefined) ?? false,
    needsAuthentication: !needsNoAuthentication({ authentication: entry.authentication }),
    requires: (entry.requires ?? []).map((selector) => selectorStep(selector, labels)),
  };
}

function l4Of({ peers, toPorts, icmps }: Entry): EntryStep['l4'] {
  if (icmps !== undefined) return icmps.length === 0 ? 'nothing' : 'ports';
  if (toPorts !== undefined) return toPorts.every(({ ports }) => ports.length === 0) ? 'nothing' : 'ports';
  return peers === undefined ? 'nothing' : 'everything';
}

function selectorStep(selector: EndpointSelector, labels: LabelSet): SelectorStep {
  const missing = selector.requirements.filter((requirement) => !new EndpointSelector([requirement]).matches(labels));
  return { selector, missing };
}
