// SPDX-License-Identifier: Apache-2.0

/**
 * The policy of all subjects that the same rules select, and the map that follows from it.
 *
 * Subjects share one as long as nothing tells them apart. A rule for some of them, or names of ports of one, make the
 * repository fork it.
 */
import type { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE } from '../identity/label.ts';
import { RESERVED_IDENTITIES, type NumericIdentity } from '../identity/numeric-identity.ts';
import { L4_ANY, l4Covers, l4Key, PRECEDENCE_ALLOW, type L4Key } from './map-entry.ts';
import { MapState } from './map-state.ts';
import { DIRECTIONS, type Direction, type Rule } from './rule.ts';
import { NO_REQUIREMENTS, requirementsOf, type NamedPort } from './filter.ts';
import type { Filter, FilterSet, FilterSets, StoredRule } from './filter-sets.ts';
import type { Contributor, ValueTable } from './values.ts';

/** A rule in the repository, and a filter of one. */
export type SubjectRule = StoredRule<SubjectPolicy>;
export type SubjectFilter = Filter<SubjectPolicy>;

export type EnforcementMode = 'default' | 'always' | 'never';

/** Settings of the node that every subject follows. */
export interface SubjectSettings {
  readonly enforcement: EnforcementMode;
  /** The local host may reach every endpoint, unless a rule denies it. */
  readonly allowLocalhost: boolean;
  /** Policy acts on the host too. */
  readonly hostFirewall: boolean;
  /** Port numbers of a name: among the names of `own`, or among those of all endpoints. */
  readonly resolvePort: (own: NumericIdentity | undefined | 'all', port: NamedPort) => readonly NumberedPort[];
  readonly filterSets: FilterSets<SubjectPolicy>;
}

export interface NumberedPort {
  readonly protocol: number;
  readonly port: number;
}

/** How many rules have entries in a direction, and how many of them close it for what no rule allows. */
interface RuleCount {
  all: number;
  closing: number;
  /** The entry for everything is in the map. */
  open: boolean;
}

/** Reasons of entries that no rule asks for. */
interface SettingReasons {
  readonly open: Contributor;
  readonly localhost: Contributor;
}

/** What sets subjects apart besides their rules. */
export interface SubjectKind {
  readonly isHost: boolean;
  /** An endpoint without labels yet. */
  readonly isInit: boolean;
}

export function subjectKind(labels: LabelSet): SubjectKind {
  return { isHost: labels.has(LABEL_SOURCE.reserved, 'host'), isInit: labels.has(LABEL_SOURCE.reserved, 'init') };
}

/** Host policies act on hosts only, all others never. */
export function acceptsRule({ isHost }: SubjectKind, rule: Rule): boolean {
  return (rule.subject.kind === 'node') === isHost;
}

export class SubjectPolicy {
  readonly subjects = new Set<NumericIdentity>();
  readonly map: MapState;
  /** The only subject, if it has names for ports; such a policy is never shared. */
  portNamesOf: NumericIdentity | undefined;
  readonly #sets = new Map<SubjectRule, FilterSet<SubjectPolicy>>();
  readonly #counts: Record<Direction, RuleCount>;
  readonly #reasons: SettingReasons;
  #settings: SubjectSettings;
  #kind: SubjectKind;
  #requirements = NO_REQUIREMENTS;
  #filtersApply: boolean;
  #localhostAllowed = false;
  #rulesHash = 0;

  private constructor(
    kind: SubjectKind,
    settings: SubjectSettings,
    map: MapState,
    reasons: SettingReasons,
    counts: Record<Direction, RuleCount>,
  ) {
    this.map = map;
    this.#kind = kind;
    this.#settings = settings;
    this.#reasons = reasons;
    this.#counts = counts;
    this.#filtersApply = this.#enforceable();
  }

  /** Without rules. */
  static create(kind: SubjectKind, settings: SubjectSettings, values: ValueTable): SubjectPolicy {
    const reason = (): Contributor => ({ precedence: PRECEDENCE_ALLOW, proxyPort: 0, ruleId: undefined });
    const count = (): RuleCount => ({ all: 0, closing: 0, open: false });
    const policy = new SubjectPolicy(
      kind,
      settings,
      new MapState(values),
      { open: reason(), localhost: reason() },
      { ingress: count(), egress: count() },
    );
    policy.#settleDefaults();
    return policy;
  }

  /** A copy without subjects that goes its own way from here on. */
  fork(): SubjectPolicy {
    const counts = { ingress: { ...this.#counts.ingress }, egress: { ...this.#counts.egress } };
    const copy = new SubjectPolicy(this.#kind, this.#settings, this.map.fork(), this.#reasons, counts);
    copy.#requirements = this.#requirements;
    copy.#localhostAllowed = this.#localhostAllowed;
    copy.#rulesHash = this.#rulesHash;
    for (const [stored, set] of this.#sets) {
      copy.#sets.set(stored, set);
      stored.policies.add(copy);
      set.policies.add(copy);
    }
    return copy;
  }

  /** Equal for equal sets of rules. */
  get rulesHash(): number {
    return this.#rulesHash;
  }

  /** True when both say the same, now and for as long as the same happens to both. */
  equals(other: SubjectPolicy): boolean {
    return other.portNamesOf === undefined && this.isFor(other.#kind, [...other.#sets.keys()]);
  }

  /** True when this is the policy of any subject of this kind that exactly these rules select. */
  isFor({ isHost, isInit }: SubjectKind, rules: readonly SubjectRule[]): boolean {
    return (
      this.portNamesOf === undefined &&
      isHost === this.#kind.isHost &&
      isInit === this.#kind.isInit &&
      rules.length === this.#sets.size &&
      rules.every((stored) => this.#sets.has(stored))
    );
  }

  /** Only while no rules are there. */
  changeKind(kind: SubjectKind): void {
    this.#kind = kind;
    this.#settleFilters();
  }

  accepts(rule: Rule): boolean {
    return acceptsRule(this.#kind, rule);
  }

  enforced(direction: Direction): boolean {
    if (!this.#enforceable()) return false;
    return this.#kind.isInit || this.#settings.enforcement === 'always' || this.#counts[direction].all > 0;
  }

  get rules(): IterableIterator<SubjectRule> {
    return this.#sets.keys();
  }

  has(stored: SubjectRule): boolean {
    return this.#sets.has(stored);
  }

  addRule(stored: SubjectRule): void {
    stored.policies.add(this);
    this.#count(stored, 1);
    this.#attach(stored);
    this.#settleRequirements(stored);
    this.#settleDefaults();
  }

  removeRule(stored: SubjectRule): void {
    stored.policies.delete(this);
    this.#count(stored, -1);
    this.#detach(stored);
    this.#settleRequirements(stored);
    this.#settleDefaults();
  }

  /** The policy is of no use afterwards. */
  dispose(): void {
    for (const [stored, set] of this.#sets) {
      stored.policies.delete(this);
      this.#settings.filterSets.leave(stored, set, this);
    }
    this.map.dispose();
  }

  /** An identity begins or ceases to be selected by one selector of a filter. */
  applySelection(filter: SubjectFilter, identity: NumericIdentity, selected: boolean): void {
    if (this.#filtersApply) this.#applyPeer(filter, identity, this.#portsOf(filter), selected);
  }

  applySettings(settings: SubjectSettings): void {
    this.#settings = settings;
    this.#settleFilters();
  }

  /** Takes the filters that name ports out and, when the names have changed, in again. */
  applyNamedPorts(present: boolean): void {
    if (!this.#filtersApply) return;
    for (const { filters } of this.#sets.values()) {
      for (const filter of filters) if (filter.spec.namedPorts.length > 0) this.#applyFilter(filter, present);
    }
  }

  #attach(stored: SubjectRule): void {
    const set = this.#settings.filterSets.of(stored, this.#requirements);
    set.policies.add(this);
    this.#sets.set(stored, set);
    if (this.#filtersApply) for (const filter of set.filters) this.#applyFilter(filter, true);
  }

  #detach(stored: SubjectRule): void {
    const set = this.#sets.get(stored)!;
    this.#sets.delete(stored);
    if (this.#filtersApply) for (const filter of set.filters) this.#applyFilter(filter, false);
    this.#settings.filterSets.leave(stored, set, this);
  }

  /** A rule that requires something of peers narrows all rules of the subject. */
  #settleRequirements({ rule }: SubjectRule): void {
    if (!DIRECTIONS.some((direction) => rule.entries[direction].some(({ requires }) => requires !== undefined))) return;
    const rules = [...this.#sets.keys()];
    for (const stored of rules) this.#detach(stored);
    this.#requirements = requirementsOf(rules.map((stored) => stored.rule));
    for (const stored of rules) this.#attach(stored);
  }

  #settleFilters(): void {
    if (this.#filtersApply !== this.#enforceable()) {
      this.#filtersApply = !this.#filtersApply;
      for (const { filters } of this.#sets.values()) {
        for (const filter of filters) this.#applyFilter(filter, this.#filtersApply);
      }
    }
    this.#settleDefaults();
  }

  /** What the rules say, while they act on the subject at all. */
  *filters(): Generator<SubjectFilter> {
    if (this.#filtersApply) for (const { filters } of this.#sets.values()) yield* filters;
  }

  get kind(): SubjectKind {
    return this.#kind;
  }

  /** All filters that hit a packet, and whether a setting of the node lets it through whatever they say. */
  hits(
    identity: NumericIdentity,
    egress: boolean,
    packet: L4Key,
  ): { filters: SubjectFilter[]; allowedBySetting: boolean } {
    const filters = [...(this.#filtersApply ? this.#sets.values() : [])]
      .flatMap((set) => set.filters)
      .filter(
        (filter) =>
          filter.spec.egress === egress &&
          (filter.peers?.some(({ identities }) => identities.has(identity)) ?? true) &&
          this.#portsOf(filter).some((l4) => l4Covers(l4, packet)),
      );
    const localhost = !egress && this.#localhostAllowed && identity === RESERVED_IDENTITIES.host;
    return { filters, allowedBySetting: this.#counts[egress ? 'egress' : 'ingress'].open || localhost };
  }

  #enforceable(): boolean {
    return this.#settings.enforcement !== 'never' && (!this.#kind.isHost || this.#settings.hostFirewall);
  }

  #count({ id, rule, speaksOf }: SubjectRule, step: 1 | -1): void {
    this.#rulesHash ^= Math.imul(id, 0x9e37_79b1);
    for (const direction of DIRECTIONS) {
      if (!speaksOf[direction]) continue;
      const count = this.#counts[direction];
      count.all += step;
      if (rule.enableDefaultDeny[direction]) count.closing += step;
    }
  }

  /** A direction that is not enforced, or that no rule closes, has an entry that allows everything. */
  #settleDefaults(): void {
    const strict = this.#kind.isInit || this.#settings.enforcement === 'always';
    for (const direction of DIRECTIONS) {
      const count = this.#counts[direction];
      const open = !this.enforced(direction) || (!strict && count.closing === 0);
      if (open === count.open) continue;
      count.open = open;
      this.#change(open, direction === 'egress', RESERVED_IDENTITIES.unknown, L4_ANY, this.#reasons.open);
    }
    const localhost = this.#settings.allowLocalhost && this.enforced('ingress');
    if (localhost === this.#localhostAllowed) return;
    this.#localhostAllowed = localhost;
    this.#change(localhost, false, RESERVED_IDENTITIES.host, L4_ANY, this.#reasons.localhost);
  }

  #applyFilter(filter: SubjectFilter, present: boolean): void {
    const ports = this.#portsOf(filter);
    if (filter.peers === undefined) this.#applyPeer(filter, RESERVED_IDENTITIES.unknown, ports, present);
    for (const { identities } of filter.peers ?? []) {
      for (const identity of identities) this.#applyPeer(filter, identity, ports, present);
    }
  }

  #applyPeer(filter: SubjectFilter, identity: NumericIdentity, ports: readonly L4Key[], present: boolean): void {
    for (const l4 of ports) this.#change(present, filter.spec.egress, identity, l4, filter);
  }

  #portsOf({ spec }: SubjectFilter): readonly L4Key[] {
    if (spec.namedPorts.length === 0) return spec.l4;
    const resolved = spec.namedPorts.flatMap((named) =>
      this.#settings.resolvePort(spec.egress ? 'all' : this.portNamesOf, named),
    );
    return [...spec.l4, ...resolved.map(({ protocol, port }) => l4Key(protocol, port))];
  }

  #change(present: boolean, egress: boolean, identity: NumericIdentity, l4: L4Key, reason: Contributor): void {
    if (present) this.map.add(egress, identity, l4, reason);
    else this.map.remove(egress, identity, l4, reason);
  }
}
