// SPDX-License-Identifier: Apache-2.0

/** CIDR groups with their names: how they are found by labels, and how they are printed. */
import type { Label } from '../../identity/label.ts';
import type { CidrGroup } from '../peer-selectors.ts';
import type { RuleOrigin } from '../rule.ts';
import { derivedLabels } from './kubernetes-labels.ts';

const KIND = 'CiliumCIDRGroup';

export interface NamedCidrGroup {
  readonly name: string;
  readonly group: CidrGroup;
  /** By which it is got and deleted, like a rule: its own, and those that tell its kind and name. */
  readonly labels: readonly Label[];
  readonly origin: RuleOrigin;
}

export function namedCidrGroup(name: string, group: CidrGroup, origin: RuleOrigin): NamedCidrGroup {
  return { name, group, labels: [...group.labels, ...derivedLabels(KIND, { name })], origin };
}

/** The resource; reads back to an equal group. */
export function cidrGroupToJson({ name, group }: NamedCidrGroup): object {
  const labels = Array.from(group.labels, ({ key, value }) => [key, value] as const);
  return {
    apiVersion: 'cilium.io/v2',
    kind: KIND,
    metadata: { name, ...(labels.length > 0 && { labels: Object.fromEntries(labels) }) },
    spec: { externalCIDRs: group.prefixes.map(String) },
  };
}
