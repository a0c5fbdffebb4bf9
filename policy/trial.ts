// SPDX-License-Identifier: Apache-2.0

/**
 * How large policies would be after a change, found out on a repository of its own with those subjects alone that the
 * change concerns. Names of ports count as if no endpoint had them.
 */
import { numericIdentity, type NumericIdentity } from '../identity/numeric-identity.ts';
import type { Prefix } from '../net/ip.ts';
import { usesGroups, type CidrGroup } from './peer-selectors.ts';
import { PolicyRepository } from './repository.ts';
import type { RepositoryView } from './repository-view.ts';
import type { Rule } from './rule.ts';

export interface TrialChange {
  readonly added: readonly Rule[];
  readonly removed: readonly Rule[];
  /** CIDR groups that come or change; undefined: that go. */
  readonly groups: ReadonlyMap<string, CidrGroup | undefined>;
}

export interface TrialPolicy {
  /** All of them have this policy. */
  readonly subjects: readonly NumericIdentity[];
  readonly entries: number;
}

/** Stands for all numbers that prefixes would get; nothing else has them. */
const FIRST_NUMBER = 0x01f0_0000;

/** The policies that the change concerns, as they would be after it. */
export function policiesAfter(view: RepositoryView, change: TrialChange): TrialPolicy[] {
  const removed = new Set(change.removed);
  const rules = [...view.rules.filter((rule) => !removed.has(rule)), ...change.added];
  const changed = [
    ...change.added,
    ...change.removed,
    ...(change.groups.size > 0 ? rules.filter((rule) => usesGroups(rule)) : []),
  ];
  const subjects = [...view.policies].flatMap((policy) => [...policy.subjects]);
  const selects = ({ subject }: Rule, id: NumericIdentity): boolean => {
    const labels = view.peers.labelsOf(id);
    return labels !== undefined && subject.selector.matches(labels);
  };
  const concerned = subjects.filter((id) => changed.some((rule) => selects(rule, id)));
  if (concerned.length === 0) return [];

  const trial = emptyLike(view);
  for (const [id, labels] of view.peers.identities()) trial.addIdentity(id, labels);
  trial.setCidrGroups([...view.context.groups, ...change.groups]);
  trial.import(rules.filter((rule) => concerned.some((id) => selects(rule, id))));
  for (const id of concerned) trial.addSubject(id);
  const policies = Map.groupBy(concerned, (id) => trial.policyOf(id));
  return Array.from(policies.values(), (ids) => ({ subjects: ids, entries: [...trial.entries(ids[0]!)].length }));
}

function emptyLike(view: RepositoryView): PolicyRepository {
  let next = FIRST_NUMBER;
  return new PolicyRepository({
    enforcement: view.enforcement,
    allowLocalhost: view.allowLocalhost ? 'always' : 'policy',
    families: view.context.families,
    clusterName: view.context.clusterName,
    hostFirewall: view.hostFirewall,
    cidrIdentities: {
      acquire: (prefix: Prefix) => view.cidrUse(prefix)?.identity ?? numericIdentity(next++),
      release: () => undefined,
    },
    ...(view.hasProxy && { proxyPort: () => 1 }),
  });
}
