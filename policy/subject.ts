// SPDX-License-Identifier: Apache-2.0

/** One subject: the rules that select it, and what follows for its map. */
import type { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE } from '../identity/label.ts';
import { RESERVED_IDENTITIES, type NumericIdentity } from '../identity/numeric-identity.ts';
import { L4_ANY, l4Covers, l4Key, PRECEDENCE_ALLOW, type L4Key } from './map-entry.ts';
import { MapState } from './map-state.ts';
import type { Prefix } from '../net/ip.ts';
import type { CachedSelector } from './selector-cache.ts';
import { DIRECTIONS, type Direction, type Rule } from './rule.ts';
import type { FilterSpec, NamedPort } from './filter.ts';
import type { Contributor, ValueTable } from './values.ts';

/** A rule in the repository. */
export interface StoredRule {
  readonly id: number;
  readonly rule: Rule;
  /** The directions in which it has entries. */
  readonly speaksOf: Readonly<Record<Direction, boolean>>;
  readonly filters: readonly Filter[];
  /** Each holds one use of the prefix's identity. */
  readonly prefixes: readonly Prefix[];
  /** The subjects that it acts on. */
  readonly subjects: Set<Subject>;
}

/** A filter with its selectors in the cache. */
export interface Filter extends Contributor {
  readonly stored: StoredRule;
  readonly spec: FilterSpec;
  /** Undefined: any peer. */
  readonly peers: readonly CachedSelector<Filter>[] | undefined;
}

export type EnforcementMode = 'default' | 'always' | 'never';

/** Settings of the node that every subject follows. */
export interface SubjectSettings {
  readonly enforcement: EnforcementMode;
  /** The local host may reach every endpoint, unless a rule denies it. */
  readonly allowLocalhost: boolean;
  /** Policy acts on the host too. */
  readonly hostFirewall: boolean;
  /** Port numbers of a name for filters of this direction. */
  readonly resolvePort: (subject: Subject, egress: boolean, port: NamedPort) => readonly NumberedPort[];
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

export class Subject {
  readonly id: NumericIdentity;
  readonly map: MapState;
  readonly rules = new Set<StoredRule>();
  readonly #counts: Record<Direction, RuleCount> = {
    ingress: { all: 0, closing: 0, open: false },
    egress: { all: 0, closing: 0, open: false },
  };
  /** Reasons of entries that no rule asks for. */
  readonly #openDirection: Contributor = { precedence: PRECEDENCE_ALLOW, proxyPort: 0, ruleId: undefined };
  readonly #allowLocalhost: Contributor = { precedence: PRECEDENCE_ALLOW, proxyPort: 0, ruleId: undefined };
  #settings: SubjectSettings;
  #isHost = false;
  #isInit = false;
  #filtersApply: boolean;
  #localhostAllowed = false;

  constructor(id: NumericIdentity, settings: SubjectSettings, values: ValueTable) {
    this.id = id;
    this.map = new MapState(values);
    this.#settings = settings;
    this.#filtersApply = this.#enforceable();
    this.#settleDefaults();
  }

  relabel(labels: LabelSet): void {
    this.#isHost = labels.has(LABEL_SOURCE.reserved, 'host');
    this.#isInit = labels.has(LABEL_SOURCE.reserved, 'init');
    this.#settleFilters();
  }

  /** Host policies act on hosts only, all others never. */
  accepts(rule: Rule): boolean {
    return (rule.subject.kind === 'node') === this.#isHost;
  }

  enforced(direction: Direction): boolean {
    if (!this.#enforceable()) return false;
    return this.#isInit || this.#settings.enforcement === 'always' || this.#counts[direction].all > 0;
  }

  addRule(stored: StoredRule): void {
    this.rules.add(stored);
    stored.subjects.add(this);
    this.#count(stored, 1);
    if (this.#filtersApply) for (const filter of stored.filters) this.#applyFilter(filter, true);
    this.#settleDefaults();
  }

  removeRule(stored: StoredRule): void {
    this.rules.delete(stored);
    stored.subjects.delete(this);
    this.#count(stored, -1);
    if (this.#filtersApply) for (const filter of stored.filters) this.#applyFilter(filter, false);
    this.#settleDefaults();
  }

  /** An identity begins or ceases to be selected by one selector of a filter. */
  applySelection(filter: Filter, identity: NumericIdentity, selected: boolean): void {
    if (this.#filtersApply) this.#applyPeer(filter, identity, this.#portsOf(filter), selected);
  }

  applySettings(settings: SubjectSettings): void {
    this.#settings = settings;
    this.#settleFilters();
  }

  /** Takes the filters that name ports out and, when the names have changed, in again. */
  applyNamedPorts(present: boolean): void {
    if (!this.#filtersApply) return;
    for (const { filters } of this.rules) {
      for (const filter of filters) if (filter.spec.namedPorts.length > 0) this.#applyFilter(filter, present);
    }
  }

  #settleFilters(): void {
    if (this.#filtersApply !== this.#enforceable()) {
      this.#filtersApply = !this.#filtersApply;
      for (const { filters } of this.rules) {
        for (const filter of filters) this.#applyFilter(filter, this.#filtersApply);
      }
    }
    this.#settleDefaults();
  }

  /** All filters that hit a packet, and whether a setting of the node lets it through whatever they say. */
  hits(identity: NumericIdentity, egress: boolean, packet: L4Key): { filters: Filter[]; allowedBySetting: boolean } {
    const filters = [...(this.#filtersApply ? this.rules : [])]
      .flatMap((stored) => stored.filters)
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
    return this.#settings.enforcement !== 'never' && (!this.#isHost || this.#settings.hostFirewall);
  }

  #count({ rule, speaksOf }: StoredRule, step: 1 | -1): void {
    for (const direction of DIRECTIONS) {
      if (!speaksOf[direction]) continue;
      const count = this.#counts[direction];
      count.all += step;
      if (rule.enableDefaultDeny[direction]) count.closing += step;
    }
  }

  /** A direction that is not enforced, or that no rule closes, has an entry that allows everything. */
  #settleDefaults(): void {
    const strict = this.#isInit || this.#settings.enforcement === 'always';
    for (const direction of DIRECTIONS) {
      const count = this.#counts[direction];
      const open = !this.enforced(direction) || (!strict && count.closing === 0);
      if (open === count.open) continue;
      count.open = open;
      this.#change(open, direction === 'egress', RESERVED_IDENTITIES.unknown, L4_ANY, this.#openDirection);
    }
    const localhost = this.#settings.allowLocalhost && this.enforced('ingress');
    if (localhost === this.#localhostAllowed) return;
    this.#localhostAllowed = localhost;
    this.#change(localhost, false, RESERVED_IDENTITIES.host, L4_ANY, this.#allowLocalhost);
  }

  #applyFilter(filter: Filter, present: boolean): void {
    const ports = this.#portsOf(filter);
    if (filter.peers === undefined) this.#applyPeer(filter, RESERVED_IDENTITIES.unknown, ports, present);
    for (const { identities } of filter.peers ?? []) {
      for (const identity of identities) this.#applyPeer(filter, identity, ports, present);
    }
  }

  #applyPeer(filter: Filter, identity: NumericIdentity, ports: readonly L4Key[], present: boolean): void {
    for (const l4 of ports) this.#change(present, filter.spec.egress, identity, l4, filter);
  }

  #portsOf({ spec }: Filter): readonly L4Key[] {
    if (spec.namedPorts.length === 0) return spec.l4;
    const resolved = spec.namedPorts.flatMap((named) => this.#settings.resolvePort(this, spec.egress, named));
    return [...spec.l4, ...resolved.map(({ protocol, port }) => l4Key(protocol, port))];
  }

  #change(present: boolean, egress: boolean, identity: NumericIdentity, l4: L4Key, reason: Contributor): void {
    if (present) this.map.add(egress, identity, l4, reason);
    else this.map.remove(egress, identity, l4, reason);
  }
}
