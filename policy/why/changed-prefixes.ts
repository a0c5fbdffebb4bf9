// SPDX-License-Identifier: Apache-2.0

/**
 * Identities of addresses outside, before and after a change of rules. A prefix that rules begin to mention takes its
 * addresses away from a wider identity; one that they mention no more gives them back. New identities get numbers of
 * their own here, which nobody else knows. Identities of DNS names are left alone: which of their addresses a prefix
 * would move is not known here.
 */
import { cidrLabels, numericIdentity, RESERVED_IDENTITIES, worldName } from '../../identity/numeric-identity.ts';
import type { Families, NumericIdentity } from '../../identity/numeric-identity.ts';
import type { EndpointSelector } from '../../identity/selector.ts';
import { LABEL_SOURCE } from '../../identity/label.ts';
import type { LabelSet } from '../../identity/label-set.ts';
import { Prefix, type IpAddress } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import { prefixesOf, type PeerContext } from '../peer-selectors.ts';
import type { RepositoryView } from '../repository-view.ts';
import type { Rule } from '../rule.ts';
import { SelectorCache } from '../selector-cache.ts';

/** An identity whose addresses have another one before or after the change. */
export interface MovedIdentity {
  readonly before: NumericIdentity;
  readonly after: NumericIdentity;
  readonly prefix: Prefix;
}

interface GoneRules {
  readonly rules: readonly Rule[];
  readonly groups: PeerContext['groups'];
}

/** Above all numbers that identities can have. */
const FIRST_NEW = 2 ** 32;

const EVERYWHERE = [Prefix.parse('0.0.0.0/0'), Prefix.parse('::/0')];
const WORLD: ReadonlySet<NumericIdentity> = new Set([
  RESERVED_IDENTITIES.world,
  RESERVED_IDENTITIES['world-ipv4'],
  RESERVED_IDENTITIES['world-ipv6'],
]);

const NOBODY: ReadonlySet<NumericIdentity> = new Set();

export class ChangedPrefixes {
  readonly added = new Map<NumericIdentity, { readonly prefix: Prefix; readonly labels: LabelSet }>();
  readonly gone: ReadonlyMap<NumericIdentity, Prefix>;
  readonly moved: readonly MovedIdentity[];
  readonly #families: Families;
  readonly #known: (id: NumericIdentity) => LabelSet | undefined;
  readonly #before = new PrefixTrie<NumericIdentity>();
  readonly #after = new PrefixTrie<NumericIdentity>();
  /** Knows the new identities only. */
  readonly #selectors = new SelectorCache<never>();
  readonly #selected = new Map<EndpointSelector, ReadonlySet<NumericIdentity>>();

  /** What comes is read with the groups of the view, what goes with its own. */
  constructor({ context, peers, cidrUse }: RepositoryView, gone: GoneRules, added: readonly Rule[]) {
    this.#families = context.families;
    this.#known = (id) => peers.labelsOf(id);
    for (const [id, labels] of peers.identities()) {
      if (isNamed(labels)) continue;
      for (const prefix of labels.prefixes) for (const trie of [this.#before, this.#after]) trie.set(prefix, id);
    }
    const mentions = countPrefixes(added, context.groups);
    const leaving = countPrefixes(gone.rules, gone.groups);
    this.gone = new Map(
      [...leaving].flatMap(([text, { prefix, count }]) => {
        const use = cidrUse(prefix);
        return use?.count === count && !mentions.has(text) ? [[use.identity, prefix]] : [];
      }),
    );
    for (const prefix of this.gone.values()) this.#after.delete(prefix);
    for (const { prefix } of mentions.values()) {
      if (cidrUse(prefix) !== undefined) continue;
      const id = numericIdentity(FIRST_NEW + this.added.size);
      const labels = cidrLabels(prefix, context.families);
      this.added.set(id, { prefix, labels });
      this.#after.set(prefix, id);
      this.#selectors.add(id, labels);
    }
    this.moved = [
      ...Array.from(this.added, ([after, { prefix }]) => ({ before: this.identityBefore(prefix), after, prefix })),
      ...Array.from(this.gone, ([before, prefix]) => ({ before, after: this.identityAfter(prefix), prefix })),
    ];
  }

  /** Of addresses outside. */
  identityBefore(key: Prefix | IpAddress): NumericIdentity {
    return this.#before.longest(key) ?? this.#world(key);
  }

  identityAfter(key: Prefix | IpAddress): NumericIdentity {
    return this.#after.longest(key) ?? this.#world(key);
  }

  /** Of identities that are known, and of new ones. */
  labelsOf(id: NumericIdentity): LabelSet | undefined {
    return this.added.get(id)?.labels ?? this.#known(id);
  }

  /** True when its addresses decide who this is: of the world, of a prefix, or of nobody who is known. */
  isOutside(id: NumericIdentity): boolean {
    const labels = this.labelsOf(id);
    return labels === undefined || WORLD.has(id) || (labels.prefixes.length > 0 && !isNamed(labels));
  }

  /** What an identity outside stands for; nothing for any other. */
  rangesOf(id: NumericIdentity): readonly Prefix[] {
    if (!this.isOutside(id)) return [];
    const own = this.labelsOf(id)?.prefixes ?? [];
    return own.length > 0 ? own : EVERYWHERE.filter((range) => this.#world(range) === id);
  }

  /** Identities before or after the change whose prefix lies in this one. */
  inside(prefix: Prefix): ReadonlySet<NumericIdentity> {
    return new Set([...this.#before.inside(prefix), ...this.#after.inside(prefix)]);
  }

  /** New identities that the selector selects. */
  selectedBy(selector: EndpointSelector): ReadonlySet<NumericIdentity> {
    if (this.added.size === 0) return NOBODY;
    const known = this.#selected.get(selector);
    if (known !== undefined) return known;
    const found = this.#selectors.find(selector);
    this.#selected.set(selector, found);
    return found;
  }

  #world({ family }: Prefix | IpAddress): NumericIdentity {
    return RESERVED_IDENTITIES[worldName(family, this.#families)];
  }
}

/** Of addresses that DNS names stand for; it shares its prefix with those around. */
function isNamed(labels: LabelSet): boolean {
  return labels.first(LABEL_SOURCE.fqdn) !== undefined;
}

function countPrefixes(
  rules: Iterable<Rule>,
  groups: PeerContext['groups'],
): Map<string, { readonly prefix: Prefix; readonly count: number }> {
  const counted = new Map<string, { prefix: Prefix; count: number }>();
  for (const rule of rules) {
    for (const prefix of prefixesOf(rule, groups)) {
      const known = counted.get(prefix.toString());
      if (known === undefined) counted.set(prefix.toString(), { prefix, count: 1 });
      else known.count++;
    }
  }
  return counted;
}
