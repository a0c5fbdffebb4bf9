// SPDX-License-Identifier: Apache-2.0

/**
 * Identities of the addresses that DNS names resolve to, which toFQDNs selects: where a DNS proxy hands its answers over.
 *
 * An address has the labels of all toFQDNs items that one of its names matches, and those of the longest prefix that
 * rules mention around it. Addresses with the same labels share an identity, so another address of a name that is known
 * changes no policy: it only has to be told to ipcache.
 *
 * Changes are gathered, then take two steps with the kernel between them: `settle` tells the policy of new identities;
 * once the policy maps know them, `publish` moves addresses, and what no address has any more leaves the policy.
 */
import { LabelSet } from '../identity/label-set.ts';
import type { Label } from '../identity/label.ts';
import { cidrLabels, DUAL_STACK, type Families, type NumericIdentity } from '../identity/numeric-identity.ts';
import { Prefix, type IpAddress } from '../net/ip.ts';
import { PrefixTrie } from '../net/prefix-trie.ts';
import { dnsRuleMatches } from './l7/dns.ts';
import { fqdnLabel } from './peer-selectors.ts';
import type { FqdnPeer } from './rule.ts';

const WHOLE_FAMILY = { 4: Prefix.parse('0.0.0.0/0'), 6: Prefix.parse('::/0') };

export interface FqdnIdentitiesDeps {
  /** The items of toFQDNs in use: `PolicyRepository.fqdnPeers`. */
  readonly selectors: () => Iterable<FqdnPeer>;
  readonly policy: {
    addIdentity(id: NumericIdentity, labels: LabelSet): void;
    removeIdentity(id: NumericIdentity): void;
  };
  /** Numbers for label sets; each `acquire` has its `release`. */
  readonly numbers: { acquire(labels: string): NumericIdentity; release(labels: string): void };
  /** ipcache, as a source that is weaker than those which know endpoints: these are selected by no name. */
  readonly ipcache: { upsert(prefix: Prefix, entry: { identity: number }): void; delete(prefix: Prefix): void };
  readonly families?: Families;
}

/** A name as it was asked for, in lower case without a final dot, and what it stands for. */
interface Name {
  readonly text: string;
  labels: readonly Label[];
  addresses: ReadonlyMap<string, Address>;
}

interface Address {
  readonly prefix: Prefix;
  readonly names: Set<Name>;
  /** What it is to have, and what ipcache says. */
  wanted: Holding | undefined;
  published: Holding | undefined;
}

/** An identity and how often an address wants or has it. */
interface Holding {
  readonly id: NumericIdentity;
  readonly key: string;
  count: number;
}

export class FqdnIdentities {
  readonly #deps: FqdnIdentitiesDeps;
  readonly #families: Families;
  readonly #selectors = new Map<string, FqdnPeer>();
  readonly #names = new Map<string, Name>();
  readonly #addresses = new PrefixTrie<Address>();
  /** Those that rules mention. */
  readonly #prefixes = new PrefixTrie<Prefix>();
  readonly #holdings = new Map<string, Holding>();
  readonly #dirty = new Set<Address>();
  readonly #unpublished = new Set<Address>();
  #identitiesMade = 0;

  constructor(deps: FqdnIdentitiesDeps) {
    this.#deps = deps;
    this.#families = deps.families ?? DUAL_STACK;
  }

  /** All addresses that a name has by now, those of earlier answers that still live included; none: it is forgotten. */
  setAddresses(name: string, addresses: readonly IpAddress[]): void {
    const text = name.toLowerCase().replace(/\.$/, '');
    const known = this.#names.get(text) ?? this.#newName(text);
    const after = new Map<string, Address>();
    for (const ip of addresses) {
      const address = this.#addressOf(Prefix.of(ip));
      after.set(address.prefix.toString(), address);
    }
    for (const [key, address] of known.addresses) if (!after.has(key)) this.#unbind(known, address);
    for (const address of after.values()) {
      if (address.names.has(known)) continue;
      address.names.add(known);
      this.#dirty.add(address);
    }
    known.addresses = after;
    if (after.size > 0) this.#names.set(text, known);
    else this.#names.delete(text);
  }

  /** A rule mentions a prefix that none did before. */
  addPrefix(prefix: Prefix): void {
    this.#prefixes.set(prefix, prefix);
    for (const address of this.#addresses.inside(prefix)) this.#dirty.add(address);
  }

  /** No rule mentions the prefix any more. */
  removePrefix(prefix: Prefix): void {
    this.#prefixes.delete(prefix);
    for (const address of this.#addresses.inside(prefix)) this.#dirty.add(address);
  }

  /**
   * First step: the policy knows every identity that an address will have. Answers whether there is one that it did not
   * know. When no number can be had for one it throws, and the rest is left for the next call.
   */
  settle(): boolean {
    this.#followSelectors();
    const before = this.#identitiesMade;
    for (const address of this.#dirty) {
      const labels = this.#labelsOf(address);
      if (labels?.toString() !== address.wanted?.key) {
        const left = address.wanted;
        address.wanted = labels && this.#hold(labels);
        if (left !== undefined) this.#drop(left);
      }
      this.#dirty.delete(address);
      this.#unpublished.add(address);
    }
    return this.#identitiesMade > before;
  }

  /** Second step, once the policy maps follow: answers whether identities have left the policy. */
  publish(): boolean {
    const before = this.#holdings.size;
    for (const address of this.#unpublished) {
      const { prefix, wanted, published } = address;
      if (wanted !== published) {
        if (wanted === undefined) this.#deps.ipcache.delete(prefix);
        else this.#deps.ipcache.upsert(prefix, { identity: wanted.id });
        if (wanted !== undefined) wanted.count++;
        address.published = wanted;
        if (published !== undefined) this.#drop(published);
      }
      if (address.names.size === 0 && wanted === undefined) this.#addresses.delete(prefix);
    }
    this.#unpublished.clear();
    return this.#holdings.size < before;
  }

  #newName(text: string): Name {
    return { text, labels: this.#labelsOfName(text), addresses: new Map() };
  }

  #addressOf(prefix: Prefix): Address {
    const known = this.#addresses.get(prefix);
    if (known !== undefined) return known;
    const address = { prefix, names: new Set<Name>(), wanted: undefined, published: undefined };
    this.#addresses.set(prefix, address);
    return address;
  }

  #unbind(name: Name, address: Address): void {
    address.names.delete(name);
    this.#dirty.add(address);
  }

  /** Looks at the names again that items which came or went match. */
  #followSelectors(): void {
    const inUse = new Map(Array.from(this.#deps.selectors(), (peer) => [fqdnLabel(peer).key, peer]));
    const changed = [...inUse].filter(([key]) => !this.#selectors.has(key));
    changed.push(...[...this.#selectors].filter(([key]) => !inUse.has(key)));
    if (changed.length === 0) return;
    this.#selectors.clear();
    for (const [key, peer] of inUse) this.#selectors.set(key, peer);
    for (const name of this.#names.values()) {
      if (!changed.some(([, peer]) => dnsRuleMatches(peer, name.text))) continue;
      name.labels = this.#labelsOfName(name.text);
      for (const address of name.addresses.values()) this.#dirty.add(address);
    }
  }

  #labelsOfName(text: string): Label[] {
    return [...this.#selectors.values()].filter((peer) => dnsRuleMatches(peer, text)).map(fqdnLabel);
  }

  /** Undefined: no rule speaks of its names, so it is what it is without them. */
  #labelsOf({ prefix, names }: Address): LabelSet | undefined {
    const labels = [...names].flatMap((name) => name.labels);
    if (labels.length === 0) return undefined;
    const around = this.#prefixes.longest(prefix) ?? WHOLE_FAMILY[prefix.family];
    return LabelSet.of([...cidrLabels(around, this.#families), ...labels]);
  }

  #hold(labels: LabelSet): Holding {
    const key = labels.toString();
    let holding = this.#holdings.get(key);
    if (holding === undefined) {
      holding = { id: this.#deps.numbers.acquire(key), key, count: 0 };
      this.#holdings.set(key, holding);
      this.#deps.policy.addIdentity(holding.id, labels);
      this.#identitiesMade++;
    }
    holding.count++;
    return holding;
  }

  #drop(holding: Holding): void {
    if (--holding.count > 0) return;
    this.#holdings.delete(holding.key);
    this.#deps.policy.removeIdentity(holding.id);
    this.#deps.numbers.release(holding.key);
  }
}
