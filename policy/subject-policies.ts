// SPDX-License-Identifier: Apache-2.0

/**
 * Which subject has which policy. Subjects that the same rules select share one: what is resolved once holds for all.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import { identityName, type NumericIdentity } from '../identity/numeric-identity.ts';
import type { MapChanges } from './map-state.ts';
import { SubjectPolicy, type SubjectKind, type SubjectRule, type SubjectSettings } from './subject-policy.ts';
import type { ValueTable } from './values.ts';

export interface SubjectUpdate extends MapChanges {
  readonly subject: NumericIdentity;
}

/** Changes of a policy, for all its subjects at once. */
export interface PolicyUpdate extends MapChanges {
  readonly policy: SubjectPolicy;
}

export class SubjectPolicies {
  readonly #values: ValueTable;
  readonly #policies = new Set<SubjectPolicy>();
  readonly #policyOf = new Map<NumericIdentity, SubjectPolicy>();
  /** Subjects whose map nobody has taken yet. */
  readonly #fresh = new Set<NumericIdentity>();
  /** What a selector selects, by policy, and the version of the assignments for which that holds. */
  readonly #selected = new WeakMap<
    object,
    { version: number; groups: ReadonlyMap<SubjectPolicy, NumericIdentity[]> }
  >();
  /** Grows when a subject comes, goes or gets another policy. */
  #version = 0;
  /** Something changed since policies were last compared with one another. */
  #mayBeEqual = false;

  constructor(values: ValueTable) {
    this.#values = values;
  }

  [Symbol.iterator](): IterableIterator<SubjectPolicy> {
    return this.#policies.values();
  }

  has(id: NumericIdentity): boolean {
    return this.#policyOf.has(id);
  }

  /** Throws `NotFound` when this is no subject. */
  of(id: NumericIdentity): SubjectPolicy {
    const policy = this.#policyOf.get(id);
    if (policy !== undefined) return policy;
    throw new CiliumError('NotFound', `no policy is kept for identity ${identityName(id)}`, { identity: id });
  }

  /** A subject that these rules select. With names for its ports it shares its policy with nobody. */
  add(
    id: NumericIdentity,
    kind: SubjectKind,
    rules: readonly SubjectRule[],
    settings: SubjectSettings,
    hasPortNames: boolean,
  ): void {
    const shared = hasPortNames ? undefined : [...this.#policies].find((policy) => policy.isFor(kind, rules));
    const policy = shared ?? SubjectPolicy.create(kind, settings, this.#values);
    if (hasPortNames) policy.portNamesOf = id;
    if (shared === undefined) for (const stored of rules) policy.addRule(stored);
    this.#policies.add(policy);
    this.#join(id, policy);
    this.#fresh.add(id);
  }

  remove(id: NumericIdentity): void {
    const policy = this.of(id);
    this.#version++;
    this.#policyOf.delete(id);
    this.#fresh.delete(id);
    policy.subjects.delete(id);
    if (policy.subjects.size === 0) this.#drop(policy);
  }

  /** The rule selects these subjects; it acts on those of its kind. */
  addRule(stored: SubjectRule, selected: ReadonlySet<NumericIdentity>): void {
    this.#mayBeEqual = true;
    for (const [policy, subjects] of this.#byPolicy(selected)) {
      if (policy.accepts(stored.rule)) this.#forkFor(policy, subjects).addRule(stored);
    }
  }

  /** Most imports have many rules with the same selector for their subjects. */
  #byPolicy(selected: ReadonlySet<NumericIdentity>): ReadonlyMap<SubjectPolicy, NumericIdentity[]> {
    const known = this.#selected.get(selected);
    if (known?.version === this.#version) return known.groups;
    const groups = Map.groupBy(selected, (id) => this.of(id));
    this.#selected.set(selected, { version: this.#version, groups });
    return groups;
  }

  removeRule(stored: SubjectRule): void {
    this.#mayBeEqual = true;
    for (const policy of stored.policies) policy.removeRule(stored);
  }

  /** The subject's policy, to be changed for it alone. */
  alone(id: NumericIdentity): SubjectPolicy {
    this.#mayBeEqual = true;
    this.#version++; // it may be about to be selected by others
    return this.#forkFor(this.of(id), [id]);
  }

  /** Net changes since the last call, of the subjects that have any; for a new subject that is its whole map. */
  takeUpdates(): SubjectUpdate[] {
    const updates: SubjectUpdate[] = [];
    for (const { policy, upserts, deletes } of this.#takeChanges()) {
      for (const subject of policy.subjects) {
        if (!this.#fresh.has(subject)) updates.push({ subject, upserts, deletes });
      }
    }
    for (const subject of this.#fresh) {
      const upserts = [...this.of(subject).map.entries()];
      if (upserts.length > 0) updates.push({ subject, upserts, deletes: [] });
    }
    this.#fresh.clear();
    this.#joinEqual();
    return updates;
  }

  /** As `takeUpdates`, once for each policy that changed since; whole maps of new subjects are not among them. */
  takePolicyUpdates(): PolicyUpdate[] {
    const updates = this.#takeChanges();
    this.#fresh.clear();
    this.#joinEqual();
    return updates;
  }

  #takeChanges(): PolicyUpdate[] {
    const updates: PolicyUpdate[] = [];
    for (const policy of this.#policies) {
      if (!policy.map.hasChanges) continue;
      const { upserts, deletes } = policy.map.takeChanges();
      if (upserts.length + deletes.length > 0) updates.push({ policy, upserts, deletes });
    }
    return updates;
  }

  #join(id: NumericIdentity, policy: SubjectPolicy): void {
    this.#version++;
    policy.subjects.add(id);
    this.#policyOf.set(id, policy);
  }

  #drop(policy: SubjectPolicy): void {
    this.#policies.delete(policy);
    policy.dispose();
  }

  /** The policy for these of its subjects only: a copy when it has others too. */
  #forkFor(policy: SubjectPolicy, subjects: readonly NumericIdentity[]): SubjectPolicy {
    if (subjects.length === policy.subjects.size) return policy;
    const copy = policy.fork();
    this.#policies.add(copy);
    for (const id of subjects) {
      policy.subjects.delete(id);
      this.#join(id, copy);
    }
    return copy;
  }

  /** Policies that have become equal are one from here on. Only when nothing is left to take: till then maps differ. */
  #joinEqual(): void {
    if (!this.#mayBeEqual) return;
    this.#mayBeEqual = false;
    const kept = new Map<number, SubjectPolicy[]>();
    for (const policy of this.#policies) {
      const alike = kept.get(policy.rulesHash) ?? [];
      kept.set(policy.rulesHash, alike);
      const twin = alike.find((other) => other.equals(policy));
      if (twin === undefined) {
        alike.push(policy);
        continue;
      }
      for (const id of policy.subjects) this.#join(id, twin);
      this.#drop(policy);
    }
  }
}
