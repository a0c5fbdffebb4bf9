// SPDX-License-Identifier: Apache-2.0

/**
 * Filters of rules with their selectors in the cache.
 *
 * A rule has one set of them for all its subjects, but for subjects with requirements (fromRequires of other rules,
 * Cilium 1.1 only): those narrow the selectors of every rule, so each combination of requirements has its own set.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Prefix } from '../net/ip.ts';
import { filtersOf, NO_REQUIREMENTS, type FilterSpec, type Requirements } from './filter.ts';
import type { Redirect } from './l7/redirect.ts';
import type { PeerContext } from './peer-selectors.ts';
import type { Direction, Rule } from './rule.ts';
import type { CachedSelector, SelectorCache } from './selector-cache.ts';
import type { Contributor } from './values.ts';

/** A rule in the repository; `P` is the policy of subjects. */
export interface StoredRule<P> {
  readonly id: number;
  readonly rule: Rule;
  /** The directions in which it has entries. */
  readonly speaksOf: Readonly<Record<Direction, boolean>>;
  /** By requirements; those without any are there as long as the rule. */
  readonly sets: Map<string, FilterSet<P>>;
  /** Each holds one use of the prefix's identity. */
  readonly prefixes: readonly Prefix[];
  /** Those that it acts on. */
  readonly policies: Set<P>;
}

/** What a rule says to subjects with the same requirements. */
export interface FilterSet<P> {
  readonly key: string;
  readonly filters: readonly Filter<P>[];
  readonly policies: Set<P>;
}

export interface Filter<P> extends Contributor {
  readonly stored: StoredRule<P>;
  readonly set: FilterSet<P>;
  readonly spec: FilterSpec;
  /** Undefined: any peer. */
  readonly peers: readonly CachedSelector<Filter<P>>[] | undefined;
}

/** Port of the proxy that a redirect goes to. */
export type ProxyPort = (redirect: Redirect, direction: Direction) => number;

export class FilterSets<P> {
  readonly #peers: SelectorCache<Filter<P>>;
  readonly #context: PeerContext;
  readonly #proxyPort: ProxyPort | undefined;

  constructor(peers: SelectorCache<Filter<P>>, context: PeerContext, proxyPort: ProxyPort | undefined) {
    this.#peers = peers;
    this.#context = context;
    this.#proxyPort = proxyPort;
  }

  /** The rule's set for these requirements. When it throws (there is no proxy), nothing has changed. */
  of(stored: StoredRule<P>, requirements: Requirements): FilterSet<P> {
    const known = stored.sets.get(requirements.key);
    if (known !== undefined) return known;
    const filters: Filter<P>[] = [];
    const set: FilterSet<P> = { key: requirements.key, filters, policies: new Set() };
    // Nothing here authenticates peers, so an entry that asks for it never allows.
    const specs = filtersOf(stored.rule, this.#context, requirements).filter(
      ({ authentication = 'disabled' }) => authentication === 'disabled',
    );
    const ports = specs.map((spec) => this.#proxyPortOf(spec));
    for (const [index, spec] of specs.entries()) filters.push(this.#newFilter(stored, set, spec, ports[index]!));
    stored.sets.set(set.key, set);
    return set;
  }

  /** Ends a policy's use of a set. */
  leave(stored: StoredRule<P>, set: FilterSet<P>, policy: P): void {
    set.policies.delete(policy);
    if (set.policies.size === 0 && set.key !== NO_REQUIREMENTS.key) this.#forget(stored, set);
  }

  /** Takes the rule's filters out of the cache; no policy uses them any more. */
  forgetAll(stored: StoredRule<P>): void {
    for (const set of stored.sets.values()) this.#forget(stored, set);
  }

  #forget(stored: StoredRule<P>, set: FilterSet<P>): void {
    stored.sets.delete(set.key);
    for (const filter of set.filters) {
      for (const { selector } of filter.peers ?? []) this.#peers.release(selector, filter);
    }
  }

  #newFilter(stored: StoredRule<P>, set: FilterSet<P>, spec: FilterSpec, proxyPort: number): Filter<P> {
    const peers: CachedSelector<Filter<P>>[] | undefined = spec.peers === undefined ? undefined : [];
    const filter = { stored, set, spec, peers, precedence: spec.precedence, proxyPort, ruleId: stored.id };
    // A selector that is written twice in an entry counts once.
    peers?.push(...new Set(spec.peers?.map((selector) => this.#peers.use(selector, filter))));
    return filter;
  }

  #proxyPortOf({ redirect, egress }: FilterSpec): number {
    if (redirect === undefined) return 0;
    if (this.#proxyPort !== undefined) return this.#proxyPort(redirect, egress ? 'egress' : 'ingress');
    const message = `a rule needs a proxy (${redirect.parser}), and there is none`;
    throw new CiliumError('Unsupported', message, { ...redirect });
  }
}
