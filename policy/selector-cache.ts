// SPDX-License-Identifier: Apache-2.0

/**
 * Which identities each selector selects right now.
 *
 * Selectors that are spelled the same are one, with counted users. Each selector is filed under one label that every
 * identity it selects must have, its anchor; so an identity is compared only with the selectors that one of its labels
 * leads to, and a new selector only with the identities that have its anchor. Selectors that require no label at all
 * (NotIn, DoesNotExist) are compared with everything.
 */
import type { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE } from '../identity/label.ts';
import { parseCidrKey } from '../identity/cidr-label.ts';
import type { NumericIdentity } from '../identity/numeric-identity.ts';
import { ANY_KEY, type EndpointSelector, type Requirement } from '../identity/selector.ts';
import type { Prefix } from '../net/ip.ts';
import { PrefixTrie } from '../net/prefix-trie.ts';
import { MultiIndex } from './multi-index.ts';

/** A selector in use. `U` is what its users are. */
export class CachedSelector<U> {
  readonly selector: EndpointSelector;
  readonly identities = new Set<NumericIdentity>();
  readonly users = new Set<U>();
  readonly anchor: Anchor;

  constructor(selector: EndpointSelector) {
    this.selector = selector;
    this.anchor = anchorOf(selector);
  }
}

export interface SelectorChange<U> {
  readonly selector: CachedSelector<U>;
  readonly identity: NumericIdentity;
  readonly selected: boolean;
}

/** Where a selector is filed, or where to look for the identities that it may select. */
type Anchor = { readonly texts: readonly string[] } | { readonly prefix: Prefix } | undefined;

export class SelectorCache<U> {
  readonly #selectors = new Map<string, CachedSelector<U>>();
  readonly #identities = new Map<NumericIdentity, LabelSet>();

  readonly #selectorsByText = new MultiIndex<CachedSelector<U>>();
  readonly #selectorsByPrefix = new PrefixTrie<Set<CachedSelector<U>>>();
  readonly #unanchored = new Set<CachedSelector<U>>();

  readonly #identitiesByText = new MultiIndex<NumericIdentity>();
  readonly #identitiesByPrefix = new PrefixTrie<Set<NumericIdentity>>();

  labelsOf(identity: NumericIdentity): LabelSet | undefined {
    return this.#identities.get(identity);
  }

  selectors(): IterableIterator<CachedSelector<U>> {
    return this.#selectors.values();
  }

  identities(): IterableIterator<[NumericIdentity, LabelSet]> {
    return this.#identities.entries();
  }

  /** The shared selector of this spelling, with `user` among its users. */
  use(selector: EndpointSelector, user: U): CachedSelector<U> {
    const key = selector.toString();
    let cached = this.#selectors.get(key);
    if (cached === undefined) {
      cached = new CachedSelector<U>(selector);
      this.#selectors.set(key, cached);
      this.#file(cached);
      for (const identity of this.#candidates(cached.anchor)) {
        if (selector.matches(this.#identities.get(identity)!)) cached.identities.add(identity);
      }
    }
    cached.users.add(user);
    return cached;
  }

  /** Ends `user`'s use; a selector without users is forgotten. */
  release(selector: EndpointSelector, user: U): void {
    const cached = this.#selectors.get(selector.toString())!;
    cached.users.delete(user);
    if (cached.users.size > 0) return;
    this.#selectors.delete(selector.toString());
    this.#unfile(cached);
  }

  /** The identities that a selector selects, in use or not. */
  find(selector: EndpointSelector): ReadonlySet<NumericIdentity> {
    const cached = this.#selectors.get(selector.toString());
    if (cached !== undefined) return cached.identities;
    const candidates = new Set(this.#candidates(anchorOf(selector)));
    for (const identity of candidates) {
      if (!selector.matches(this.#identities.get(identity)!)) candidates.delete(identity);
    }
    return candidates;
  }

  /** Makes the identity known, or gives it other labels; returns what this changed. */
  add(identity: NumericIdentity, labels: LabelSet): SelectorChange<U>[] {
    const known = this.#identities.get(identity);
    if (known?.equals(labels)) return [];
    const gone = known === undefined ? [] : this.remove(identity);
    this.#identities.set(identity, labels);
    for (const text of anchorTexts(labels)) this.#identitiesByText.add(text, identity);
    for (const prefix of labels.prefixes) {
      const there = this.#identitiesByPrefix.get(prefix);
      if (there === undefined) this.#identitiesByPrefix.set(prefix, new Set([identity]));
      else there.add(identity);
    }
    const changes: SelectorChange<U>[] = gone;
    for (const selector of this.selecting(labels)) {
      selector.identities.add(identity);
      changes.push({ selector, identity, selected: true });
    }
    return changes;
  }

  /** Forgets the identity; returns what this changed. */
  remove(identity: NumericIdentity): SelectorChange<U>[] {
    const labels = this.#identities.get(identity);
    if (labels === undefined) return [];
    this.#identities.delete(identity);
    for (const text of anchorTexts(labels)) this.#identitiesByText.delete(text, identity);
    for (const prefix of labels.prefixes) {
      const there = this.#identitiesByPrefix.get(prefix);
      there?.delete(identity);
      if (there?.size === 0) this.#identitiesByPrefix.delete(prefix);
    }
    return this.selecting(labels).map((selector) => {
      selector.identities.delete(identity);
      return { selector, identity, selected: false };
    });
  }

  /** The selectors in use that select these labels, whether an identity has them or not. */
  selecting(labels: LabelSet): CachedSelector<U>[] {
    const found: CachedSelector<U>[] = [];
    const seen = new Set<CachedSelector<U>>();
    const compare = (candidates: Iterable<CachedSelector<U>>): void => {
      for (const candidate of candidates) {
        if (seen.has(candidate)) continue;
        seen.add(candidate);
        if (candidate.selector.matches(labels)) found.push(candidate);
      }
    };
    for (const text of anchorTexts(labels)) compare(this.#selectorsByText.of(text));
    for (const prefix of labels.prefixes) {
      for (const candidates of this.#selectorsByPrefix.containing(prefix)) compare(candidates);
    }
    compare(this.#unanchored);
    return found;
  }

  *#candidates(anchor: Anchor): Generator<NumericIdentity> {
    if (anchor === undefined) {
      yield* this.#identities.keys();
    } else if ('prefix' in anchor) {
      for (const identities of this.#identitiesByPrefix.inside(anchor.prefix)) yield* identities;
    } else {
      for (const text of anchor.texts) yield* this.#identitiesByText.of(text);
    }
  }

  #file(cached: CachedSelector<U>): void {
    const { anchor } = cached;
    if (anchor === undefined) {
      this.#unanchored.add(cached);
    } else if ('prefix' in anchor) {
      const there = this.#selectorsByPrefix.get(anchor.prefix);
      if (there === undefined) this.#selectorsByPrefix.set(anchor.prefix, new Set([cached]));
      else there.add(cached);
    } else {
      for (const text of anchor.texts) this.#selectorsByText.add(text, cached);
    }
  }

  #unfile(cached: CachedSelector<U>): void {
    const { anchor } = cached;
    if (anchor === undefined) {
      this.#unanchored.delete(cached);
    } else if ('prefix' in anchor) {
      const there = this.#selectorsByPrefix.get(anchor.prefix);
      there?.delete(cached);
      if (there?.size === 0) this.#selectorsByPrefix.delete(anchor.prefix);
    } else {
      for (const text of anchor.texts) this.#selectorsByText.delete(text, cached);
    }
  }
}

/** The requirement that leaves the fewest candidates: a prefix, else a value, else a key. Sources are left aside. */
function anchorOf(selector: EndpointSelector): Anchor {
  let keyAnchor: Anchor;
  let valueAnchor: Anchor;
  for (const requirement of selector.requirements) {
    const { key, operator, values } = requirement;
    if (operator === 'NotIn' || operator === 'DoesNotExist' || key === ANY_KEY) continue;
    const prefix = prefixOf(requirement);
    if (prefix !== undefined) return { prefix };
    if (operator === 'Exists') keyAnchor ??= { texts: [key] };
    else valueAnchor ??= { texts: values.map((value) => `${key}=${value}`) };
  }
  return valueAnchor ?? keyAnchor;
}

function prefixOf({ source, key }: Requirement): Prefix | undefined {
  return source === LABEL_SOURCE.cidr ? parseCidrKey(key) : undefined;
}

/** The texts under which selectors for one of these labels are filed. */
function* anchorTexts(labels: LabelSet): Generator<string> {
  for (const { key, value } of labels) {
    yield key;
    yield `${key}=${value}`;
  }
}
