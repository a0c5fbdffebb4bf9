// SPDX-License-Identifier: Apache-2.0

/** Whose policy is asked. Known by its labels alone: it need not exist. */
import type { LabelSet } from '../../identity/label-set.ts';
import { LABEL_SOURCE } from '../../identity/label.ts';
import type { NumericIdentity } from '../../identity/numeric-identity.ts';
import { EndpointSelector } from '../../identity/selector.ts';
import { filtersOf, NO_REQUIREMENTS, requirementsOf, type FilterSpec, type Requirements } from '../filter.ts';
import { l4Key, type L4Key } from '../map-entry.ts';
import type { RepositoryView } from '../repository-view.ts';
import { speaksOf, type Direction, type Rule } from '../rule.ts';
import { acceptsRule, subjectKind, type SubjectKind } from '../subject-policy.ts';

/** Why everything passes in a direction, but for what a rule denies. */
export type OpenSetting =
  /** Enforcement mode `never`: not even denies count. */
  | 'enforcement-never'
  /** The local host, where policy does not act on it: not even denies count. */
  | 'host-not-enforced'
  /** Nothing of this node stands before it: an address outside, another host. */
  | 'not-an-endpoint'
  /** No rule speaks of this direction of the subject. */
  | 'no-policy'
  /** Those that do have all `enableDefaultDeny: false`. */
  | 'no-default-deny';

export interface AskedSubject {
  readonly labels: LabelSet;
  /** False: it has no policy here, whatever rules select its labels. */
  readonly managed: boolean;
  /** Those that select it. */
  readonly rules: ReadonlySet<Rule>;
  readonly requirements: Requirements;
  readonly filters: readonly RuleFilter[];
  /** Keys that a filter means for this subject, named ports resolved. */
  portsOf(filter: FilterSpec): readonly L4Key[];
}

export interface RuleFilter {
  readonly rule: Rule;
  readonly spec: FilterSpec;
}

/** `identity` tells names of ports; without it that of a known identity with these labels. */
export function askedSubject(
  view: RepositoryView,
  labels: LabelSet,
  managed = isManaged(labels),
  identity = identityWith(view, labels),
): AskedSubject {
  const kind = subjectKind(labels);
  const rules = managed
    ? view.rules.filter((rule) => acceptsRule(kind, rule) && rule.subject.selector.matches(labels))
    : [];
  const requirements = requirementsOf(rules);
  const filters = managed && isFree(view, kind) === undefined ? ruleFilters(view, rules, requirements) : [];
  const portsOf = (spec: FilterSpec): readonly L4Key[] => l4KeysOf(view, spec, identity);
  return { labels, managed, rules: new Set(rules), requirements, filters, portsOf };
}

/** The subject as it would be if no rule required anything of peers. */
export function withoutRequirements(view: RepositoryView, subject: AskedSubject): AskedSubject {
  const filters = subject.filters.length === 0 ? [] : ruleFilters(view, subject.rules, NO_REQUIREMENTS);
  return { ...subject, requirements: NO_REQUIREMENTS, filters };
}

function ruleFilters(view: RepositoryView, rules: Iterable<Rule>, requirements: Requirements): RuleFilter[] {
  return [...rules].flatMap((rule) =>
    filtersOf(rule, view.context, requirements)
      .filter(needsNoAuthentication)
      .map((spec) => ({ rule, spec })),
  );
}

/** True of labels that an endpoint or the local host can have. */
export function isManaged(labels: LabelSet): boolean {
  if (labels.has(LABEL_SOURCE.reserved, 'host')) return true;
  const outside = ['world', 'world-ipv4', 'world-ipv6', 'unmanaged', 'remote-node', 'kube-apiserver', 'ingress'];
  if (outside.some((name) => labels.has(LABEL_SOURCE.reserved, name))) return false;
  return ![LABEL_SOURCE.cidr, LABEL_SOURCE.cidrGroup, LABEL_SOURCE.fqdn].some((source) => labels.first(source));
}

/** Why the direction is open; undefined: what no rule allows is denied. */
export function openSetting(
  view: RepositoryView,
  kind: SubjectKind,
  rules: Iterable<Rule>,
  direction: Direction,
): OpenSetting | undefined {
  const free = isFree(view, kind);
  if (free !== undefined) return free;
  if (kind.isInit || view.enforcement === 'always') return undefined;
  const speaking = [...rules].filter((rule) => speaksOf(rule, direction));
  if (speaking.length === 0) return 'no-policy';
  return speaking.some(({ enableDefaultDeny }) => enableDefaultDeny[direction]) ? undefined : 'no-default-deny';
}

/** The node has nothing that authenticates peers, so an entry that asks for it never allows. */
export function needsNoAuthentication({ authentication = 'disabled' }: Pick<FilterSpec, 'authentication'>): boolean {
  return authentication === 'disabled';
}

export function l4KeysOf(
  view: RepositoryView,
  { egress, l4, namedPorts }: FilterSpec,
  own: NumericIdentity | undefined,
): readonly L4Key[] {
  if (namedPorts.length === 0) return l4;
  const named = namedPorts.flatMap((name) => view.resolvePort(egress ? 'all' : own, name));
  return [...l4, ...named.map(({ protocol, port }) => l4Key(protocol, port))];
}

function isFree(view: RepositoryView, { isHost }: SubjectKind): OpenSetting | undefined {
  if (view.enforcement === 'never') return 'enforcement-never';
  return isHost && !view.hostFirewall ? 'host-not-enforced' : undefined;
}

function identityWith({ peers }: RepositoryView, labels: LabelSet): NumericIdentity | undefined {
  const selector = new EndpointSelector(
    Array.from(labels, ({ source, key, value }) => ({ source, key, operator: 'Equals' as const, values: [value] })),
  );
  return [...peers.find(selector)].find((id) => peers.labelsOf(id)?.equals(labels));
}
