// SPDX-License-Identifier: Apache-2.0

/**
 * All rules of the node, and the policy map of every subject that follows from them.
 *
 * Incremental: an identity that comes or goes touches only the selectors that match it, those touch only the entries
 * that came from them, and a rule touches only its subjects. The end state does not depend on the order of events.
 * `takeUpdates` gives the net change since it was last called; nothing is done before a caller asks for it.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { LabelSet } from '../identity/label-set.ts';
import type { Label } from '../identity/label.ts';
import {
  DUAL_STACK,
  identityName,
  numericIdentity,
  reservedIdentities,
  type Families,
  type NumericIdentity,
} from '../identity/numeric-identity.ts';
import { CidrIdentities, type CidrIdentitySource } from './cidr-identities.ts';
import { findConflicts, mayConflict } from './conflicts.ts';
import type { Explanation } from './explanation.ts';
import { FilterSets, type ProxyPort } from './filter-sets.ts';
import { NO_REQUIREMENTS, type NamedPort } from './filter.ts';
import type { PolicyPacket } from './lookup.ts';
import { l4Key, type PolicyEntry } from './map-entry.ts';
import { fqdnLabel, peersOf, prefixesOf, usesGroups, type CidrGroup, type PeerContext } from './peer-selectors.ts';
import type { RepositoryView } from './repository-view.ts';
import { hasLabels, replacedRules, type ImportOptions } from './replacement.ts';
import { isDeny, speaksOf, type Direction, type FqdnPeer, type Rule } from './rule.ts';
import { SelectorCache, type CachedSelector, type SelectorChange } from './selector-cache.ts';
import {
  acceptsRule,
  subjectKind,
  SubjectPolicy,
  type EnforcementMode,
  type SubjectFilter,
  type NumberedPort,
  type SubjectRule,
  type SubjectSettings,
} from './subject-policy.ts';
import { SubjectPolicies, type PolicyUpdate, type SubjectUpdate } from './subject-policies.ts';
import { ValueTable } from './values.ts';

export interface PolicyRepositoryOptions {
  readonly enforcement: EnforcementMode;
  /** `auto` means `policy`: the host is a peer like any other. */
  readonly allowLocalhost: 'auto' | 'always' | 'policy';
  readonly cidrIdentities: CidrIdentitySource;
  /** Default: both. */
  readonly families?: Families;
  readonly clusterName?: string;
  /** Whether policy acts on the host too. */
  readonly hostFirewall?: boolean;
  /** Port of the proxy that a redirect goes to; without it rules that need a proxy are refused. */
  readonly proxyPort?: ProxyPort;
  /** There are such ports, but no proxy yet: the kernel drops what it would redirect. Only explanations need to know. */
  readonly dropsRedirects?: boolean;
}

export type { ImportOptions };

export interface SelectorInfo {
  readonly selector: string;
  /** The rules that use it, in the order of their import. */
  readonly rules: readonly Rule[];
  /** Ascending. */
  readonly identities: readonly NumericIdentity[];
}

/** Names of ports, each with its number and protocol. */
export type NamedPorts = ReadonlyMap<string, NumberedPort>;

const NO_NAMED_PORTS: NamedPorts = new Map();

export class PolicyRepository {
  readonly #context: PeerContext;
  readonly #groups = new Map<string, CidrGroup>();
  readonly #allowLocalhost: boolean;
  readonly #hostFirewall: boolean;
  readonly #hasProxy: boolean;
  readonly #dropsRedirects: boolean;
  readonly #cidrIdentities: CidrIdentities;
  readonly #values = new ValueTable();

  readonly #rules = new Map<number, SubjectRule>();
  /** Those of the rules that a change of CIDR groups may concern. */
  readonly #groupUsers = new Set<SubjectRule>();
  /** Peers: all identities known. */
  readonly #peers = new SelectorCache<SubjectFilter>();
  /** Subjects only, for the rules' own selectors. */
  readonly #subjectCache = new SelectorCache<SubjectRule>();
  readonly #filterSets: FilterSets<SubjectPolicy>;
  readonly #policies: SubjectPolicies;
  readonly #namedPorts = new Map<NumericIdentity, NamedPorts>();
  /** Items of toFQDNs by their label, and how many rules have each. */
  readonly #fqdns = new Map<string, { readonly peer: FqdnPeer; count: number }>();

  #enforcement: EnforcementMode;
  #lastRuleId = 0;
  #revision = 1;

  constructor(options: PolicyRepositoryOptions) {
    this.#enforcement = options.enforcement;
    this.#allowLocalhost = options.allowLocalhost === 'always';
    this.#hostFirewall = options.hostFirewall ?? false;
    this.#hasProxy = options.proxyPort !== undefined;
    this.#dropsRedirects = options.dropsRedirects ?? false;
    this.#context = {
      families: options.families ?? DUAL_STACK,
      clusterName: options.clusterName ?? 'default',
      groups: this.#groups,
    };
    this.#cidrIdentities = new CidrIdentities(options.cidrIdentities, this.#context.families);
    this.#filterSets = new FilterSets(this.#peers, this.#context, options.proxyPort);
    this.#policies = new SubjectPolicies(this.#values);
    for (const [id, labels] of reservedIdentities()) this.addIdentity(id, labels);
  }

  /** Grows by one with each import and with each deletion that removed something. */
  get revision(): number {
    return this.#revision;
  }

  get enforcement(): EnforcementMode {
    return this.#enforcement;
  }

  setEnforcement(mode: EnforcementMode): void {
    this.#enforcement = mode;
    const settings = this.#settings();
    for (const policy of this.#policies) policy.applySettings(settings);
  }

  /**
   * Adds rules and returns the new revision. All or nothing: when no identity can be had for a prefix, or when rules
   * contradict one another for a subject, an error is thrown and nothing has changed.
   */
  import(rules: readonly Rule[], options: ImportOptions = {}): number {
    const old = this.#replaced(rules, options);
    const added: SubjectRule[] = [];
    try {
      for (const rule of rules) added.push(this.#install(++this.#lastRuleId, rule));
      this.#refuseConflicts(added, old);
    } catch (error) {
      for (const stored of added) this.#remove(stored);
      throw error;
    }
    for (const stored of old) this.#remove(stored);
    return ++this.#revision;
  }

  /** Throws what `import` would; nothing changes. */
  check(rules: readonly Rule[], options: ImportOptions = {}): void {
    const prefixes = rules.flatMap((rule) => prefixesOf(rule, this.#groups));
    this.#cidrIdentities.acquire(prefixes);
    this.#cidrIdentities.release(prefixes);
    this.checkConflicts(rules, options);
  }

  /** Throws when the rules contradict others; nothing changes. Costs little for rules that cannot. */
  checkConflicts(rules: readonly Rule[], options: ImportOptions = {}): void {
    const added: SubjectRule[] = [];
    try {
      for (const rule of rules) if (mayConflict(rule)) added.push(this.#install(++this.#lastRuleId, rule));
      if (added.length > 0) this.#refuseConflicts(added, this.#replaced(rules, options));
    } finally {
      for (const stored of added) this.#remove(stored);
    }
  }

  /** Deletes the rules that have all these labels; without labels, all rules. */
  deleteByLabels(labels: readonly Label[]): { revision: number; deleted: number } {
    const old: SubjectRule[] = [];
    for (const stored of this.#rules.values()) if (hasLabels(stored.rule, labels)) old.push(stored);
    for (const stored of old) this.#remove(stored);
    if (old.length > 0) this.#revision++;
    return { revision: this.#revision, deleted: old.length };
  }

  deleteAll(): { revision: number; deleted: number } {
    return this.deleteByLabels([]);
  }

  /** The rules that have all these labels, in the order of their import. */
  rules(labels: readonly Label[] = []): Rule[] {
    return [...this.eachRule(labels)];
  }

  /** As `rules`, one after the other. */
  *eachRule(labels: readonly Label[] = []): Generator<Rule> {
    for (const { rule } of this.#rules.values()) if (hasLabels(rule, labels)) yield rule;
  }

  /** The rules behind the cookie of an entry; none for an entry that a setting made, or once the entry is gone. */
  rulesOfCookie(cookie: number): Rule[] {
    return this.#values.ruleIdsOf(cookie).flatMap((id) => this.#rules.get(id)?.rule ?? []);
  }

  /** Makes an identity known as a peer, or gives it other labels. Nothing happens if it is known with these. */
  addIdentity(id: NumericIdentity, labels: LabelSet): void {
    this.#applyPeerChanges(this.#peers.add(id, labels));
    if (this.#policies.has(id)) this.#relabel(id, labels);
  }

  removeIdentity(id: NumericIdentity): void {
    this.#applyPeerChanges(this.#peers.remove(id));
  }

  labelsOf(id: NumericIdentity): LabelSet | undefined {
    return this.#peers.labelsOf(id);
  }

  /** Keeps the policy of this identity resolved from now on; the identity must be known. */
  addSubject(id: NumericIdentity): void {
    if (this.#policies.has(id)) return;
    const labels = this.#peers.labelsOf(id);
    if (labels === undefined) {
      throw new CiliumError('NotFound', `identity ${identityName(id)} is not known to the policy repository`, {
        identity: id,
      });
    }
    const kind = subjectKind(labels);
    const selecting = this.#subjectCache.add(id, labels).flatMap(({ selector }) => [...selector.users]);
    const rules = selecting.filter(({ rule }) => acceptsRule(kind, rule));
    this.#policies.add(id, kind, rules, this.#settings(), this.#namedPorts.has(id));
  }

  removeSubject(id: NumericIdentity): void {
    if (!this.#policies.has(id)) return;
    this.#policies.remove(id);
    this.#subjectCache.remove(id);
  }

  /** The whole policy map of a subject. Does not count as taking updates. */
  entries(id: NumericIdentity): Iterable<PolicyEntry> {
    return this.#policies.of(id).map.entries();
  }

  /** Net changes since the last call, of the subjects that have any; for a new subject that is its whole map. */
  takeUpdates(): SubjectUpdate[] {
    return this.#policies.takeUpdates();
  }

  /** As `takeUpdates`, once for each resolved policy (`policyOf`); the maps of new subjects are not among them. */
  takePolicyUpdates(): PolicyUpdate[] {
    return this.#policies.takePolicyUpdates();
  }

  /**
   * The resolved policy of a subject, to be compared: subjects with the same one have the same map. Which they are may
   * change with every change here; two that have become equal are one after updates were taken.
   */
  policyOf(id: NumericIdentity): object {
    return this.#policies.of(id);
  }

  enforced(id: NumericIdentity): Record<Direction, boolean> {
    const policy = this.#policies.of(id);
    return { ingress: policy.enforced('ingress'), egress: policy.enforced('egress') };
  }

  /** What names of ports mean for this identity's endpoints; an empty map forgets them. */
  setNamedPorts(id: NumericIdentity, ports: NamedPorts): void {
    const own = this.#policies.has(id) ? this.#policies.alone(id) : undefined;
    // Egress filters of every subject may look for a name among all endpoints.
    for (const policy of this.#policies) policy.applyNamedPorts(false);
    if (ports.size > 0) this.#namedPorts.set(id, ports);
    else this.#namedPorts.delete(id);
    if (own !== undefined) own.portNamesOf = ports.size > 0 ? id : undefined;
    for (const policy of this.#policies) policy.applyNamedPorts(true);
  }

  /** Gives a CIDR group its prefixes and labels; undefined: there is no such group (any more). */
  setCidrGroup(name: string, group: CidrGroup | undefined): void {
    this.setCidrGroups([[name, group]]);
  }

  /** All at once; when no identity can be had for a prefix, nothing has changed. */
  setCidrGroups(changes: readonly (readonly [name: string, group: CidrGroup | undefined])[]): void {
    const users = [...this.#groupUsers];
    // Prefixes that are used before and after keep their identities all the time.
    const held = [
      ...changes.flatMap(([, group]) => group?.prefixes.filter(({ length }) => length > 0) ?? []),
      ...users.flatMap((user) => user.prefixes),
    ];
    for (const [identity, labels] of this.#cidrIdentities.acquire(held)) this.addIdentity(identity, labels);
    for (const [name, group] of changes) {
      if (group === undefined) this.#groups.delete(name);
      else this.#groups.set(name, group);
    }
    for (const stored of users) {
      this.#uninstall(stored);
      this.#install(stored.id, stored.rule);
    }
    for (const identity of this.#cidrIdentities.release(held)) this.removeIdentity(identity);
  }

  /** The items of toFQDNs in use; `FqdnIdentities` gives the addresses of names identities that they select. */
  fqdnPeers(): FqdnPeer[] {
    return Array.from(this.#fqdns.values(), ({ peer }) => peer);
  }

  /** Everything that rules say about the first packet of a flow, whichever of it wins. */
  explain(subject: NumericIdentity, packet: PolicyPacket): Explanation {
    const identity = numericIdentity(packet.identity);
    const l4 = l4Key(packet.protocol, packet.port);
    const { filters, allowedBySetting } = this.#policies.of(subject).hits(identity, packet.egress, l4);
    const reasons = filters.map(({ stored, spec, peers }) => ({
      rule: stored.rule,
      section: spec.section,
      entry: spec.entry,
      deny: isDeny(spec.section),
      redirect: spec.redirect,
      portRule: spec.portRule,
      selectors: (peers ?? []).filter(({ identities }) => identities.has(identity)).map(({ selector }) => selector),
    }));
    return { reasons, allowedBySetting };
  }

  /** Rules that contradict one another for this subject. The strongest redirect counts until that is mended. */
  conflicts(id: NumericIdentity): string[] {
    return findConflicts(
      Array.from(this.#policies.of(id).rules, (stored) => stored.rule),
      this.#context,
    );
  }

  /** Selectors of peers in use, and what they select. */
  selectors(): SelectorInfo[] {
    return Array.from(this.#peers.selectors(), (cached) => selectorInfo(cached, ({ stored }) => stored));
  }

  /** The rules' own selectors, and which subjects they select. */
  subjectSelectors(): SelectorInfo[] {
    return Array.from(this.#subjectCache.selectors(), (cached) => selectorInfo(cached, (stored) => stored));
  }

  /** For explanations and simulations of this room; good until the next change. */
  view(): RepositoryView {
    let rules: readonly Rule[] | undefined;
    const all = (): readonly Rule[] => (rules ??= this.rules());
    return {
      get rules() {
        return all();
      },
      context: this.#context,
      enforcement: this.#enforcement,
      allowLocalhost: this.#allowLocalhost,
      hostFirewall: this.#hostFirewall,
      hasProxy: this.#hasProxy,
      dropsRedirects: this.#dropsRedirects,
      peers: this.#peers,
      policies: this.#policies,
      policyOf: (id) => (this.#policies.has(id) ? this.#policies.of(id) : undefined),
      resolvePort: (own, port) => this.#resolvePort(own, port),
      cidrUse: (prefix) => this.#cidrIdentities.useOf(prefix),
    };
  }

  /** When it throws, nothing has changed. */
  #install(id: number, rule: Rule): SubjectRule {
    const stored: SubjectRule = {
      id,
      rule,
      speaksOf: { ingress: speaksOf(rule, 'ingress'), egress: speaksOf(rule, 'egress') },
      sets: new Map(),
      prefixes: prefixesOf(rule, this.#groups),
      policies: new Set(),
    };
    this.#filterSets.of(stored, NO_REQUIREMENTS);
    try {
      for (const [identity, labels] of this.#cidrIdentities.acquire(stored.prefixes))
        this.addIdentity(identity, labels);
    } catch (error) {
      this.#filterSets.forgetAll(stored);
      throw error;
    }
    this.#rules.set(id, stored);
    if (usesGroups(rule)) this.#groupUsers.add(stored);
    this.#countFqdns(rule, 1);
    const selected = this.#subjectCache.use(rule.subject.selector, stored).identities;
    this.#policies.addRule(stored, selected);
    return stored;
  }

  /** The rule keeps its place among the others, for `#install` under the same number. */
  #uninstall(stored: SubjectRule): void {
    this.#groupUsers.delete(stored);
    this.#countFqdns(stored.rule, -1);
    this.#policies.removeRule(stored);
    this.#filterSets.forgetAll(stored);
    this.#subjectCache.release(stored.rule.subject.selector, stored);
    for (const identity of this.#cidrIdentities.release(stored.prefixes)) this.removeIdentity(identity);
  }

  #remove(stored: SubjectRule): void {
    this.#uninstall(stored);
    this.#rules.delete(stored.id);
  }

  #countFqdns(rule: Rule, step: 1 | -1): void {
    for (const peer of peersOf(rule)) {
      if (peer.kind !== 'fqdns') continue;
      const { key } = fqdnLabel(peer);
      const use = this.#fqdns.get(key) ?? { peer, count: 0 };
      use.count += step;
      if (use.count > 0) this.#fqdns.set(key, use);
      else this.#fqdns.delete(key);
    }
  }

  #replaced(rules: readonly Rule[], options: ImportOptions): SubjectRule[] {
    const replaced = replacedRules(this.eachRule(), rules, options);
    const found: SubjectRule[] = [];
    if (replaced.size > 0) for (const stored of this.#rules.values()) if (replaced.has(stored.rule)) found.push(stored);
    return found;
  }

  #refuseConflicts(added: readonly SubjectRule[], leaving: readonly SubjectRule[]): void {
    const gone = new Set(leaving);
    const policies = new Set(added.filter(({ rule }) => mayConflict(rule)).flatMap((stored) => [...stored.policies]));
    for (const { rules } of policies) {
      const staying = [...rules].filter((stored) => !gone.has(stored)).map(({ rule }) => rule);
      const conflicts = findConflicts(staying, this.#context);
      if (conflicts.length > 0) throw new CiliumError('InvalidArgument', conflicts.join('\n'), { conflicts });
    }
  }

  #relabel(id: NumericIdentity, labels: LabelSet): void {
    if (this.#subjectCache.labelsOf(id)?.equals(labels) === true) return;
    const policy = this.#policies.alone(id);
    const changes = this.#subjectCache.add(id, labels);
    for (const stored of [...policy.rules]) policy.removeRule(stored);
    policy.changeKind(subjectKind(labels));
    for (const { selector, selected } of changes) {
      if (selected) for (const stored of selector.users) if (policy.accepts(stored.rule)) policy.addRule(stored);
    }
  }

  #applyPeerChanges(changes: readonly SelectorChange<SubjectFilter>[]): void {
    for (const { selector, identity, selected } of changes) {
      for (const filter of selector.users) {
        for (const policy of filter.set.policies) policy.applySelection(filter, identity, selected);
      }
    }
  }

  #settings(): SubjectSettings {
    return {
      enforcement: this.#enforcement,
      allowLocalhost: this.#allowLocalhost,
      hostFirewall: this.#hostFirewall,
      filterSets: this.#filterSets,
      resolvePort: (own, port) => this.#resolvePort(own, port),
    };
  }

  /** Ports of this name, unless those that have it disagree. */
  #resolvePort(own: NumericIdentity | 'all' | undefined, { name, protocols }: NamedPort): readonly NumberedPort[] {
    const mine = own === undefined || own === 'all' ? undefined : this.#namedPorts.get(own);
    const maps = own === 'all' ? [...this.#namedPorts.values()] : [mine ?? NO_NAMED_PORTS];
    const found = new Map<number, Set<number>>();
    for (const { protocol, port } of maps.flatMap((names) => names.get(name) ?? [])) {
      if (protocols.includes(protocol)) found.set(protocol, (found.get(protocol) ?? new Set()).add(port));
    }
    return [...found].flatMap(([protocol, ports]) => (ports.size > 1 ? [] : [{ protocol, port: [...ports][0]! }]));
  }
}

function selectorInfo<U>(
  { selector, users, identities }: CachedSelector<U>,
  storedOf: (user: U) => SubjectRule,
): SelectorInfo {
  const rules = new Map(Array.from(users, storedOf).map(({ id, rule }) => [id, rule]));
  return {
    selector: selector.toString(),
    rules: [...rules].sort(([a], [b]) => a - b).map(([, rule]) => rule),
    identities: [...identities].sort((a, b) => a - b),
  };
}
