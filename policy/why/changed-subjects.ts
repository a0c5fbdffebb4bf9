// SPDX-License-Identifier: Apache-2.0

/** Whose policy a change of rules concerns. */
import type { NumericIdentity } from '../../identity/numeric-identity.ts';
import type { RepositoryView } from '../repository-view.ts';
import type { Rule } from '../rule.ts';
import { acceptsRule, type SubjectPolicy } from '../subject-policy.ts';
import type { ChangedPrefixes, MovedIdentity } from './changed-prefixes.ts';

export interface RuleChange {
  readonly added: readonly Rule[];
  readonly removed: ReadonlySet<Rule>;
}

/** Subjects that have the same policy before the change, and after it. */
export interface ChangedSubjects extends RuleChange {
  /** Before the change. */
  readonly policy: SubjectPolicy;
  readonly subjects: ReadonlySet<NumericIdentity>;
  /** After the change. */
  readonly rules: readonly Rule[];
  /** Addresses that rules which stay judge by labels that only one of their two identities has. */
  readonly moved: ReadonlySet<MovedIdentity>;
}

export function changedSubjects(
  view: RepositoryView,
  { added, removed }: RuleChange,
  prefixes: ChangedPrefixes,
): ChangedSubjects[] {
  const selections = Map.groupBy(added, ({ subject }) => `${subject.kind} ${subject.selector.toString()}`);
  /** Of each subject, which of the groups of rules above select it. */
  const selectedBy = new Map<NumericIdentity, number[]>();
  const groups = [...selections.values()];
  for (const [index, [rule]] of groups.entries()) {
    for (const id of view.peers.find(rule!.subject.selector)) {
      const policy = view.policyOf(id);
      if (policy === undefined || !acceptsRule(policy.kind, rule!)) continue;
      const known = selectedBy.get(id);
      if (known === undefined) selectedBy.set(id, [index]);
      else known.push(index);
    }
  }
  const moved = movedOf(view, prefixes);
  return [...view.policies].flatMap((policy) => {
    const before = Array.from(policy.rules, ({ rule }) => rule);
    const staying = removed.size === 0 ? before : before.filter((rule) => !removed.has(rule));
    const lost = staying.length < before.length;
    const alike = Map.groupBy(policy.subjects, (id) => selectedBy.get(id)?.join() ?? '');
    return [...alike].flatMap(([key, subjects]): ChangedSubjects[] => {
      const own = key === '' ? [] : key.split(',').flatMap((index) => groups[Number(index)]!);
      if (own.length === 0 && !lost && !moved.has(policy)) return [];
      return [
        {
          policy,
          subjects: new Set(subjects),
          added: own,
          removed,
          rules: [...staying, ...own],
          moved: moved.get(policy) ?? new Set(),
        },
      ];
    });
  });
}

/** Rules of these policies name labels of prefixes, or rule them out, without giving them identities. Rare. */
function movedOf(view: RepositoryView, prefixes: ChangedPrefixes): Map<SubjectPolicy, Set<MovedIdentity>> {
  const found = new Map<SubjectPolicy, Set<MovedIdentity>>();
  for (const move of prefixes.moved) {
    const [before, after] = [move.before, move.after].map((id) => {
      const labels = prefixes.labelsOf(id);
      return new Set(labels === undefined ? [] : view.peers.selecting(labels));
    });
    const different = [...before!, ...after!].filter((selector) => !(before!.has(selector) && after!.has(selector)));
    const sets = different.flatMap(({ users }) => Array.from(users, ({ set }) => set));
    for (const policy of new Set(sets.flatMap(({ policies }) => [...policies]))) {
      found.set(policy, (found.get(policy) ?? new Set()).add(move));
    }
  }
  return found;
}
