// SPDX-License-Identifier: Apache-2.0

/** What rules and settings say to some subjects in one direction: what stays, goes and comes with a change of rules. */
import { RESERVED_IDENTITIES, type NumericIdentity } from '../../identity/numeric-identity.ts';
import { EndpointSelector } from '../../identity/selector.ts';
import { filtersOf, requirementsOf, type FilterSpec } from '../filter.ts';
import { L4_ANY, PRECEDENCE_ALLOW, type L4Key } from '../map-entry.ts';
import type { RepositoryView } from '../repository-view.ts';
import type { Direction } from '../rule.ts';
import type { ChangedPrefixes } from './changed-prefixes.ts';
import type { ChangedSubjects } from './changed-subjects.ts';
import type { Claim } from './port-sweep.ts';
import { l4KeysOf, needsNoAuthentication, openSetting, type OpenSetting } from './subject.ts';

/** One verdict on some peers and ports. */
export interface Term {
  readonly precedence: number;
  readonly l4: readonly L4Key[];
  /** Undefined: any peer. */
  readonly peers: readonly TermPeer[] | undefined;
}

interface TermPeer {
  readonly selector: EndpointSelector;
  /** Of those known before the change. */
  readonly identities: ReadonlySet<NumericIdentity>;
}

export interface ChangedTerms {
  readonly kept: readonly Term[];
  readonly gone: readonly Term[];
  readonly come: readonly Term[];
}

export function settingsOf(
  view: RepositoryView,
  { policy, rules }: ChangedSubjects,
  direction: Direction,
): { before: OpenSetting | undefined; after: OpenSetting | undefined } {
  const old = Array.from(policy.rules, ({ rule }) => rule);
  return {
    before: openSetting(view, policy.kind, old, direction),
    after: openSetting(view, policy.kind, rules, direction),
  };
}

export function termsOf(view: RepositoryView, subjects: ChangedSubjects, direction: Direction): ChangedTerms {
  const { policy, added, removed, rules } = subjects;
  const setting = settingsOf(view, subjects, direction);
  // The mode and the kind of the subject stay, so this holds before and after: no rule acts.
  if (setting.before === 'enforcement-never' || setting.before === 'host-not-enforced')
    return { kept: [], gone: [], come: [] };
  const egress = direction === 'egress';
  const kept: Term[] = [];
  const gone = settingTerms(view, setting.before, direction);
  const narrowed = requirementsOf(rules);
  const asBefore = requirementsOf(Array.from(policy.rules, ({ rule }) => rule)).key === narrowed.key;
  for (const { spec, peers, stored } of policy.filters()) {
    if (spec.egress !== egress) continue;
    const term = { precedence: spec.precedence, l4: l4KeysOf(view, spec, policy.portNamesOf), peers };
    (asBefore && !removed.has(stored.rule) ? kept : gone).push(term);
  }
  const termOf = (spec: FilterSpec): Term => ({
    precedence: spec.precedence,
    l4: l4KeysOf(view, spec, policy.portNamesOf),
    peers: spec.peers?.map((selector) => ({ selector, identities: view.peers.find(selector) })),
  });
  const come = (asBefore ? added : rules)
    .flatMap((rule) => filtersOf(rule, view.context, narrowed))
    .filter((spec) => spec.egress === egress && needsNoAuthentication(spec))
    .map(termOf);
  return { kept, gone, come: [...come, ...settingTerms(view, setting.after, direction)] };
}

/** The setting of the node counts as long as rules act; see `SubjectPolicy`. */
function settingTerms(
  { allowLocalhost }: RepositoryView,
  setting: OpenSetting | undefined,
  direction: Direction,
): Term[] {
  const terms: Term[] = [];
  if (setting !== undefined) terms.push({ precedence: PRECEDENCE_ALLOW, l4: [L4_ANY], peers: undefined });
  if (allowLocalhost && direction === 'ingress' && setting !== 'no-policy')
    terms.push({ precedence: PRECEDENCE_ALLOW, l4: [L4_ANY], peers: [LOCALHOST] });
  return terms;
}

const LOCALHOST: TermPeer = {
  selector: EndpointSelector.ofLabel('reserved', 'host'),
  identities: new Set([RESERVED_IDENTITIES.host]),
};

/** Terms by peer, new identities included. */
export class ClaimsByPeer {
  readonly any: readonly Claim[];
  readonly #own = new Map<NumericIdentity, Claim[]>();

  /** Of the peers that `wanted` picks. */
  constructor(terms: readonly Term[], prefixes: ChangedPrefixes, wanted: (id: NumericIdentity) => boolean) {
    const any: Claim[] = [];
    for (const { precedence, l4, peers } of terms) {
      const claims = l4.map((key) => ({ l4: key, precedence }));
      if (peers === undefined) any.push(...claims);
      for (const { selector, identities } of peers ?? []) {
        for (const ids of [identities, prefixes.selectedBy(selector)]) {
          for (const id of ids) {
            if (!wanted(id)) continue;
            const known = this.#own.get(id);
            if (known === undefined) this.#own.set(id, [...claims]);
            else known.push(...claims);
          }
        }
      }
    }
    this.any = any;
  }

  /** Those that a term selects. */
  peers(): IterableIterator<NumericIdentity> {
    return this.#own.keys();
  }

  names(id: NumericIdentity): boolean {
    return this.#own.has(id);
  }

  /** What terms say to it by name, beside what they say to any. */
  own(id: NumericIdentity): readonly Claim[] {
    return this.#own.get(id) ?? [];
  }
}
