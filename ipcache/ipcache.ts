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
  readonly identity: number;
  /** The node to send to; absent for what lives on this node or outside of all. */
  readonly tunnelEndpoint?: IpAddress | undefined;
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

interface Opinions {
  readonly prefix: Prefix;
  readonly bySource: Map<IpcacheSource, IpcacheEntry>;
}

const EVERYTHING = [Prefix.parse('0.0.0.0/0'), Prefix.parse('::/0')];

export class Ipcache {
  readonly #trie = new PrefixTrie<Opinions>();
  readonly #listeners = new Set<(change: IpcacheChange) => void>();

  upsert(prefix: Prefix, entry: IpcacheEntry, source: IpcacheSource): void {
    const opinions = this.#trie.get(prefix) ?? { prefix, bySource: new Map<IpcacheSource, IpcacheEntry>() };
    if (opinions.bySource.size === 0) this.#trie.set(prefix, opinions);
    const old = heard(opinions)?.entry;
    opinions.bySource.set(source, entry);
    this.#tell({ prefix, old, entry: heard(opinions)?.entry });
  }

  /** Takes back what the source said; nothing happens when it had said nothing. */
  delete(prefix: Prefix, source: IpcacheSource): void {
    const opinions = this.#trie.get(prefix);
    if (opinions === undefined) return;
    const old = heard(opinions)?.entry;
    opinions.bySource.delete(source);
    if (opinions.bySource.size === 0) this.#trie.delete(prefix);
    this.#tell({ prefix, old, entry: heard(opinions)?.entry });
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
    const opinions = this.#trie.longest(address);
    return opinions && heard(opinions);
  }

  /** What is said of exactly this prefix. */
  get(prefix: Prefix): IpcacheRecord | undefined {
    const opinions = this.#trie.get(prefix);
    return opinions && heard(opinions);
  }

  get size(): number {
    return this.#trie.size;
  }

  /** In ascending order, IPv4 first. Not to be changed meanwhile. */
  *entries(): Generator<IpcacheRecord> {
    for (const family of EVERYTHING) for (const opinions of this.#trie.inside(family)) yield heard(opinions)!;
  }

  /** The listener is called within `upsert` and `delete`, only if something changed. It must not throw. */
  onChange(listener: (change: IpcacheChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(change: IpcacheChange): void {
    if (sameEntry(change.old, change.entry)) return;
    for (const listener of this.#listeners) listener(change);
  }
}

export function sameEntry(a: IpcacheEntry | undefined, b: IpcacheEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.identity === b.identity && a.tunnelEndpoint?.toString() === b.tunnelEndpoint?.toString();
}

function heard({ prefix, bySource }: Opinions): IpcacheRecord | undefined {
  for (let i = IPCACHE_SOURCES.length - 1; i >= 0; i--) {
    const source = IPCACHE_SOURCES[i]!;
    const entry = bySource.get(source);
    if (entry !== undefined) return { prefix, entry, source };
  }
  return undefined;
}
