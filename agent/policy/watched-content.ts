// SPDX-License-Identifier: Apache-2.0

/** Rules and CIDR groups of watched files: how they are marked, and whether two are the same. */
import { cidrGroupToJson, type NamedCidrGroup } from '../../policy/resources/cidr-group.ts';
import type { PolicyContent } from '../../policy/resources/policy-source.ts';
import { ruleToJson } from '../../policy/rule-json.ts';
import type { Rule } from '../../policy/rule.ts';

/** What `policy get` and `policy delete` find them by, as in Cilium. */
const DIRECTORY = 'directory';
const DERIVED_FROM = 'policy-derived-from';
/** What a resource's rule carries anyway. */
const RESOURCE_KIND = 'io.cilium.k8s.policy.derived-from';
/** Of a rule that stands in its file without a resource. */
const PLAIN = 'Rule';

/** Marked as what belongs to a watched file. */
export function asWatched<T extends Rule | NamedCidrGroup>(element: T): T {
  const kind = element.labels.find(({ source, key }) => source === 'k8s' && key === RESOURCE_KIND)?.value ?? PLAIN;
  return {
    ...element,
    labels: [...element.labels, { source: DIRECTORY, key: DERIVED_FROM, value: kind }],
    origin: { ...element.origin, watched: true },
  };
}

/** Equal contents need no change of the policy. */
export function sameContent(a: PolicyContent, b: PolicyContent): boolean {
  return a.rules.length === b.rules.length && a.groups.length === b.groups.length && textOf(a) === textOf(b);
}

function textOf({ rules, groups }: PolicyContent): string {
  return JSON.stringify([
    rules.map((rule) => [ruleToJson(rule), rule.origin.line]),
    groups.map((group) => [cidrGroupToJson(group), group.origin.line]),
  ]);
}
