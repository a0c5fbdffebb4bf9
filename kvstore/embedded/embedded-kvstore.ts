// SPDX-License-Identifier: Apache-2.0

/** A client of the embedded store; on a node that has no etcd usually the only one. Start the engine before it. */
import { CiliumError } from '../../errors/cilium-error.ts';
import {
  SESSION_TTL_MS,
  type KvEntry,
  type KvList,
  type KvLock,
  type Kvstore,
  type KvstoreStatus,
  type KvTransaction,
  type KvTransactionResult,
  type Watch,
  type WatchHandlers,
} from '../kvstore.ts';
import type { EmbeddedEngine } from './engine.ts';

export class EmbeddedKvstore implements Kvstore {
  readonly name = 'kvstore';
  readonly #engine: EmbeddedEngine;
  readonly #sessionTtlMs: number;
  readonly #lostListeners = new Set<() => void>();
  /** What gives back the locks that are held. */
  readonly #unlocks = new Set<() => void>();
  #leaseId: string | undefined;

  /** `sessionTtlMs`: how long leased keys outlive a client that has gone. */
  constructor(engine: EmbeddedEngine, sessionTtlMs: number = SESSION_TTL_MS) {
    this.#engine = engine;
    this.#sessionTtlMs = sessionTtlMs;
  }

  get isConnected(): boolean {
    return this.#leaseId !== undefined;
  }

  async start(): Promise<void> {
    await this.#openSession();
  }

  /** This store is not away. */
  leave(): void {}

  /** Leased keys stay for the time of the session, for whoever starts again in time. */
  stop(): Promise<void> {
    if (this.#leaseId !== undefined) this.#engine.letGo(this.#leaseId);
    this.#leaseId = undefined;
    for (const unlock of this.#unlocks) unlock();
    this.#unlocks.clear();
    return Promise.resolve();
  }

  get(key: string): Promise<KvEntry | undefined> {
    return this.#engine.read((state) => state.get(key));
  }

  list(prefix: string): Promise<KvList> {
    return this.#engine.read((state) => ({ entries: state.list(prefix), revision: state.revision }));
  }

  getAll(keys: readonly string[]): Promise<Map<string, KvEntry>> {
    return this.#engine.read((state) => {
      const found = new Map<string, KvEntry>();
      for (const key of keys) {
        const entry = state.get(key);
        if (entry !== undefined) found.set(key, entry);
      }
      return found;
    });
  }

  async put(key: string, value: string, options: { readonly leased?: boolean } = {}): Promise<number> {
    const { revision } = await this.transact({ then: [{ put: key, value, ...options }] });
    return revision;
  }

  async delete(key: string): Promise<boolean> {
    const { deleted } = await this.transact({ then: [{ delete: key }] });
    return deleted > 0;
  }

  transact(transaction: KvTransaction): Promise<KvTransactionResult> {
    return this.#engine.transact(transaction, this.#leaseId);
  }

  watch(prefix: string, fromRevision: number, handlers: WatchHandlers): Watch {
    return this.#engine.watch(prefix, fromRevision, handlers);
  }

  /** No guards: within one process a lock is not lost. */
  async lock(path: string, signal?: AbortSignal): Promise<KvLock> {
    const release = await this.#engine.locks.acquire(path, signal);
    const unlock = (): void => {
      this.#unlocks.delete(unlock);
      release();
    };
    this.#unlocks.add(unlock);
    return {
      guards: [],
      unlock: () => {
        unlock();
        return Promise.resolve();
      },
    };
  }

  isOwn(entry: KvEntry): boolean {
    return entry.leaseId !== undefined && entry.leaseId === this.#leaseId;
  }

  onSessionLost(listener: () => void): () => void {
    this.#lostListeners.add(listener);
    return () => this.#lostListeners.delete(listener);
  }

  async status(): Promise<KvstoreStatus> {
    try {
      const { keys, leases } = await this.#engine.read((state) => ({ keys: state.size, leases: state.leases.size }));
      return { healthy: true, message: `embedded: ${keys} keys, leases=${leases}: ${this.#engine.folder}` };
    } catch (error) {
      if (!(error instanceof CiliumError)) throw error;
      return { healthy: false, message: `embedded: ${error.message}: ${this.#engine.folder}` };
    }
  }

  async #openSession(): Promise<void> {
    this.#leaseId = await this.#engine.grant(this.#sessionTtlMs, () => {
      this.#leaseId = undefined;
      this.#openSession().then(
        () => {
          for (const listener of this.#lostListeners) listener();
        },
        () => undefined, // the engine is closed or broken: it says so to every request
      );
    });
  }
}
