// SPDX-License-Identifier: Apache-2.0

/**
 * The content of the embedded store in memory: keys in order, leases, the revision. It knows neither disk nor time.
 *
 * Everything that happens to it is a `Change`; applying the same changes to the same state gives the same state, which
 * is what makes the journal a journal.
 */
import { z } from 'zod';
import type { KvEntry, KvEvent } from '../kvstore.ts';

const revision = z.int().nonnegative();
const leaseId = z.string().min(1);
const lease = z.tuple([leaseId, z.int().positive()]);

/** One transaction as the journal holds it. */
export const changeSchema = z.strictObject({
  /** After it: one more than before when keys change, else the same. */
  revision,
  puts: z.array(z.tuple([z.string(), z.string(), leaseId.nullable()])),
  deletes: z.array(z.string()),
  grants: z.array(lease).optional(),
  /** Leases that end; their keys are among `deletes`. */
  revokes: z.array(leaseId).optional(),
});
export type Change = z.infer<typeof changeSchema>;

export const stateSchema = z.strictObject({
  revision,
  leases: z.array(lease),
  /** Key, value, createRevision, modRevision, lease. */
  entries: z.array(z.tuple([z.string(), z.string(), revision, revision, leaseId.nullable()])),
});
export type StateImage = z.infer<typeof stateSchema>;

interface Lease {
  readonly ttlMs: number;
  readonly keys: Set<string>;
}

export class StoreState {
  #revision = 0;
  readonly #entries = new Map<string, KvEntry>();
  /** All keys in ascending order of their UTF-16 units. */
  #keys: string[] = [];
  readonly #leases = new Map<string, Lease>();

  static fromImage(image: StateImage): StoreState {
    const state = new StoreState();
    state.#revision = image.revision;
    for (const [id, ttlMs] of image.leases) state.#leases.set(id, { ttlMs, keys: new Set() });
    for (const [key, value, createRevision, modRevision, id] of image.entries) {
      state.#entries.set(key, newEntry(key, value, createRevision, modRevision, id));
      if (id !== null) state.#leases.get(id)?.keys.add(key);
    }
    state.#keys = [...state.#entries.keys()].sort();
    return state;
  }

  toImage(): StateImage {
    return {
      revision: this.#revision,
      leases: Array.from(this.#leases, ([id, { ttlMs }]) => [id, ttlMs]),
      entries: this.#keys.map((key) => {
        const { value, createRevision, modRevision, leaseId: id } = this.#entries.get(key)!;
        return [key, value, createRevision, modRevision, id ?? null];
      }),
    };
  }

  get revision(): number {
    return this.#revision;
  }

  get size(): number {
    return this.#keys.length;
  }

  get(key: string): KvEntry | undefined {
    return this.#entries.get(key);
  }

  list(prefix: string): KvEntry[] {
    const entries: KvEntry[] = [];
    for (let i = this.#position(prefix); this.#keys[i]?.startsWith(prefix) === true; i++) {
      entries.push(this.#entries.get(this.#keys[i]!)!);
    }
    return entries;
  }

  get leases(): ReadonlyMap<string, { readonly ttlMs: number; readonly keys: ReadonlySet<string> }> {
    return this.#leases;
  }

  /** Applies a change of the journal; answers what is wrong with one that does not come next. */
  applyInOrder(change: Change): string | undefined {
    if (change.revision !== this.#revision && change.revision !== this.#revision + 1) {
      return `goes from revision ${this.#revision} to ${change.revision}`;
    }
    this.apply(change);
    return undefined;
  }

  /** Returns what watchers are to be told. */
  apply(change: Change): KvEvent[] {
    this.#revision = change.revision;
    for (const [id, ttlMs] of change.grants ?? []) this.#leases.set(id, { ttlMs, keys: new Set() });
    const events: KvEvent[] = [];
    for (const [key, value, id] of change.puts) {
      events.push({ type: 'put', entry: this.#put(key, value, change.revision, id) });
    }
    for (const key of change.deletes) {
      this.#delete(key);
      events.push({ type: 'delete', key, modRevision: change.revision });
    }
    for (const id of change.revokes ?? []) this.#leases.delete(id);
    return events;
  }

  #put(key: string, value: string, at: number, id: string | null): KvEntry {
    const old = this.#entries.get(key);
    const entry = newEntry(key, value, old?.createRevision ?? at, at, id);
    if (old === undefined) this.#keys.splice(this.#position(key), 0, key);
    else if (old.leaseId !== undefined) this.#leases.get(old.leaseId)?.keys.delete(key);
    if (id !== null) this.#leases.get(id)?.keys.add(key);
    this.#entries.set(key, entry);
    return entry;
  }

  #delete(key: string): void {
    const old = this.#entries.get(key);
    if (old === undefined) return;
    this.#entries.delete(key);
    this.#keys.splice(this.#position(key), 1);
    if (old.leaseId !== undefined) this.#leases.get(old.leaseId)?.keys.delete(key);
  }

  /** Index of the first key that is not below `key`. */
  #position(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function newEntry(key: string, value: string, createRevision: number, modRevision: number, id: string | null): KvEntry {
  return { key, value, createRevision, modRevision, ...(id !== null && { leaseId: id }) };
}
