// SPDX-License-Identifier: Apache-2.0

/**
 * Which identity an address has, and which node it lives on: prefix by prefix, the longest one counts.
 *
 * Several sources may speak of one prefix. The strongest that does is heard, whatever the order they came in; when it
 * falls silent the next one is heard again. What the same source said last counts.
 */
import type { IpAddress } from '../net/ip.ts';
import { Prefix } from '../net/ip.ts';
import { PrefixTrie } from '../net/prefix-trie.ts';

/**
 * Who speaks, the weakest first. `generated`: prefixes that rules name. `kvstore`: endpoints of other nodes; they stay
 * what they are when a rule names their address. `cluster`: ranges and addresses of nodes, which are weaker than what is
 * known of a single endpoint. `agent-local`: what this node knows itself.
 */
export const IPCACHE_SOURCES = ['generated', 'cluster', 'kvstore', 'agent-local'] as const;
export type IpcacheSource = (typeof IPCACHE_SOURCES)[number];

export interface IpcacheEntry {
  /** 0: nobody's; packets from and to such an address are dropped. */
  readonly identity: number;
  /** The node to send to; absent for what lives on this node or outside of all. */
  readonly tunnelEndpoint?: IpAddress | undefined;
  /** Reached by the node's routes even when there is a tunnel; only with `tunnelEndpoint`. @default false */
  readonly skipTunnel?: boolean | undefined;
}

export interface IpcacheRecord {
  readonly prefix: Prefix;
  readonly entry: IpcacheEntry;
  readonly source: IpcacheSource;
}

/** What is heard of a prefix has changed. Absent: nothing was, or is, said of it. */
export interface IpcacheChange {
  readonly prefix: Prefix;
  readonly old: IpcacheEntry | undefined;
  readonly entry: IpcacheEntry | undefined;
}

/** The ipcache as one source sees it. */
export interface IpcacheVoice {
  upsert(prefix: Prefix, entry: IpcacheEntry): void;
  delete(prefix: Prefix): void;
}

const EVERYTHING = [Prefix.parse('0.0.0.0/0'), Prefix.parse('::/0')];

interface Opinions {
  prefix: Prefix;
  /** The strongest source and what it says. */
  source: IpcacheSource;
  entry: IpcacheEntry;
  /** What weaker ones say: few prefixes have any. */
  weaker: Map<IpcacheSource, IpcacheEntry> | undefined;
}

export class Ipcache {
  /** Single addresses, by their text: nearly all there is. */
  readonly #addresses = new Map<string, Opinions>();
  readonly #wide = new PrefixTrie<Opinions>();
  /** Those of the addresses of which rules speak. */
  readonly #ruledAddresses = new Set<string>();
  /** Prefixes whose addresses are nobody's until they have an entry of their own: rules do not make them a CIDR's. */
  readonly #closed = new PrefixTrie<Prefix>();
  readonly #listeners = new Set<(change: IpcacheChange) => void>();

  upsert(prefix: Prefix, entry: IpcacheEntry, source: IpcacheSource): void {
    const opinions = this.#opinions(prefix);
    const old = this.#heard(opinions)?.entry;
    if (source === 'generated' && prefix.isHost) this.#ruledAddresses.add(prefix.address.toString());
    if (opinions === undefined) this.#add({ prefix, source, entry, weaker: undefined });
    else {
      const all = sayings(opinions);
      opinions.prefix = prefix; // whoever spoke last holds the same object: one copy of it
      if (all.set(source, entry).size === 1) opinions.entry = entry;
      else this.#settle(opinions, all);
    }
    this.#tell(prefix, old);
  }

  /** Takes back what the source said; nothing happens when it had said nothing. */
  delete(prefix: Prefix, source: IpcacheSource): void {
    const opinions = this.#opinions(prefix);
    if (opinions === undefined) return;
    const old = this.#heard(opinions)?.entry;
    const all = sayings(opinions);
    if (!all.delete(source)) return;
    if (source === 'generated' && prefix.isHost) this.#ruledAddresses.delete(prefix.address.toString());
    if (all.size > 0) this.#settle(opinions, all);
    else if (prefix.isHost) this.#addresses.delete(prefix.address.toString());
    else this.#wide.delete(prefix);
    this.#tell(prefix, old);
  }

  /** For components that speak as one source and need not know of others. */
  as(source: IpcacheSource): IpcacheVoice {
    return {
      upsert: (prefix, entry) => this.upsert(prefix, entry, source),
      delete: (prefix) => this.delete(prefix, source),
    };
  }

  /** What counts for an address: the longest prefix that contains it. */
  lookup(address: IpAddress): IpcacheRecord | undefined {
    let found = this.#heard(this.#addresses.get(address.toString()));
    if (found === undefined) {
      for (const opinions of this.#wide.containing(address)) found = this.#heard(opinions) ?? found;
    }
    return found && recordOf(found);
  }

  /** What is said of exactly this prefix. */
  get(prefix: Prefix): IpcacheRecord | undefined {
    const opinions = this.#heard(this.#opinions(prefix));
    return opinions && recordOf(opinions);
  }

  /** Of how many prefixes anything is said. */
  get size(): number {
    return this.#addresses.size + this.#wide.size;
  }

  /** In ascending order, IPv4 first, wide before narrow. */
  entries(): IpcacheRecord[] {
    return [...this.records()].sort(
      ({ prefix: a }, { prefix: b }) => a.address.compare(b.address) || a.length - b.length,
    );
  }

  /** As `entries`, addresses before wider prefixes, else in no order. Not to be changed meanwhile. */
  *records(): Generator<IpcacheRecord> {
    for (const opinions of this.#all()) if (this.#heard(opinions)) yield recordOf(opinions);
  }

  /** The listener is called within `upsert` and `delete`, only if something changed. It must not throw. */
  onChange(listener: (change: IpcacheChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  *#all(): Generator<Opinions> {
    yield* this.#addresses.values();
    for (const family of EVERYTHING) yield* this.#wide.inside(family);
  }

  #opinions(prefix: Prefix): Opinions | undefined {
    return prefix.isHost ? this.#addresses.get(prefix.address.toString()) : this.#wide.get(prefix);
  }

  #add(opinions: Opinions): void {
    const { prefix } = opinions;
    if (prefix.isHost) this.#addresses.set(prefix.address.toString(), opinions);
    else this.#wide.set(prefix, opinions);
  }

  #settle(opinions: Opinions, all: Map<IpcacheSource, IpcacheEntry>): void {
    const source = IPCACHE_SOURCES.findLast((one) => all.has(one))!;
    opinions.source = source;
    opinions.entry = all.get(source)!;
    all.delete(source);
    opinions.weaker = all.size > 0 ? all : undefined;
  }

  /** What counts; a prefix that a rule names does not count where addresses are closed until they are known. */
  #heard(opinions: Opinions | undefined): Opinions | undefined {
    if (opinions?.source === 'generated' && this.#closed.longest(opinions.prefix) !== undefined) return undefined;
    return opinions;
  }

  #tell(prefix: Prefix, old: IpcacheEntry | undefined): void {
    const heard = this.#heard(this.#opinions(prefix));
    if (sameEntry(old, heard?.entry)) return;
    this.#notify({ prefix, old, entry: heard?.entry });
    if (prefix.isHost) return;
    const isClosed = heard?.entry.identity === 0 && heard.source !== 'generated';
    if (isClosed !== (this.#closed.get(prefix) !== undefined)) this.#close(prefix, isClosed);
  }

  #close(prefix: Prefix, isClosed: boolean): void {
    const ruled = [...this.#ruledInside(prefix)];
    const before = ruled.map((opinions) => this.#heard(opinions)?.entry);
    if (isClosed) this.#closed.set(prefix, prefix);
    else this.#closed.delete(prefix);
    ruled.forEach((opinions, i) => {
      const [old, entry] = [before[i], this.#heard(opinions)?.entry];
      if (!sameEntry(old, entry)) this.#notify({ prefix: opinions.prefix, old, entry });
    });
  }

  *#ruledInside(prefix: Prefix): Generator<Opinions> {
    for (const opinions of this.#wide.inside(prefix)) if (opinions.source === 'generated') yield opinions;
    for (const text of this.#ruledAddresses) {
      const opinions = this.#addresses.get(text)!;
      if (opinions.source === 'generated' && prefix.contains(opinions.prefix)) yield opinions;
    }
  }

  #notify(change: IpcacheChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

export function sameEntry(a: IpcacheEntry | undefined, b: IpcacheEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.identity === b.identity &&
    (a.skipTunnel === true) === (b.skipTunnel === true) &&
    a.tunnelEndpoint?.toString() === b.tunnelEndpoint?.toString()
  );
}

function sayings({ source, entry, weaker }: Opinions): Map<IpcacheSource, IpcacheEntry> {
  return new Map(weaker).set(source, entry);
}

function recordOf({ prefix, entry, source }: Opinions): IpcacheRecord {
  return { prefix, entry, source };
}
