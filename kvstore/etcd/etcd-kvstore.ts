// SPDX-License-Identifier: Apache-2.0

/** A client of an etcd cluster. Many of them, on as many nodes, are what makes nodes one network. */
import type { IRangeResponse, ITxnResponse } from 'etcd3';
import { CiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import { backoffMs } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
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
import { ETCD_TIMES, type EtcdConfig, type EtcdTimes } from './etcd-config.ts';
import { EtcdConnection } from './etcd-connection.ts';
import { isKind, mayPass } from './etcd-fault.ts';
import { EtcdLocks, LOCK_TTL_MS } from './etcd-locks.ts';
import { EtcdMessages, toNumber } from './etcd-messages.ts';
import { etcdStatus } from './etcd-status.ts';
import { EtcdWatch } from './etcd-watch.ts';
import { KeptLease } from './kept-lease.ts';

/** Entries of a list come in pages, so that a long one does not hold etcd up. */
const PAGE_ENTRIES = 1_000;
/** How often a list is begun anew when it was compacted away between two pages. */
const LIST_ATTEMPTS = 5;

export interface EtcdKvstoreOptions {
  readonly config: EtcdConfig;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default SESSION_TTL_MS: how long leased keys outlive a client that has gone. */
  readonly sessionTtlMs?: number;
  /** @default LOCK_TTL_MS: the same for locks. */
  readonly lockTtlMs?: number;
  readonly times?: Partial<EtcdTimes>;
  readonly pageEntries?: number;
  /** Uniform in [0, 1); which endpoint is asked first. */
  readonly random?: () => number;
}

export class EtcdKvstore implements Kvstore {
  readonly name = 'kvstore';
  readonly #options: EtcdKvstoreOptions;
  readonly #clock: Clock;
  readonly #connection: EtcdConnection;
  readonly #messages: EtcdMessages;
  readonly #session: KeptLease;
  readonly #locks: EtcdLocks;
  readonly #watches = new Set<EtcdWatch>();
  readonly #lostListeners = new Set<() => void>();
  #isOpen = false;

  /** Throws `InvalidArgument` for a configuration that cannot be meant. */
  constructor(options: EtcdKvstoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#connection = new EtcdConnection(options.config, { ...ETCD_TIMES, ...options.times }, options.random);
    this.#messages = new EtcdMessages(options.config.namespace ?? '');
    this.#session = this.#newLease('kvstore-session', options.sessionTtlMs ?? SESSION_TTL_MS, () => {
      for (const listener of this.#lostListeners) listener();
    });
    const { log } = options;
    this.#locks = new EtcdLocks({
      store: this,
      create: async (key, leaseId) => {
        const then = [{ put: key, value: '', leased: true }];
        return (await this.#transact({ when: [{ key, exists: false }], then }, leaseId)).succeeded;
      },
      newLease: () => this.#newLease('kvstore-locks', options.lockTtlMs ?? LOCK_TTL_MS, () => undefined),
      log,
      clock: this.#clock,
    });
  }

  /** Tries for a while, unless waiting cannot help. */
  async start(signal: AbortSignal): Promise<void> {
    this.#isOpen = true;
    const deadline = this.#clock.monotonic() + this.#connection.times.connectTimeoutMs;
    for (let attempt = 1; ; attempt++) {
      try {
        signal.throwIfAborted();
        await this.#storeRevision(); // also where rights are asked for
        await this.#session.start();
        this.#locks.start();
        return;
      } catch (error) {
        const delay = backoffMs(attempt, { minBackoffMs: 100, maxBackoffMs: 2_000 });
        if (signal.aborted || !mayPass(error) || this.#clock.monotonic() + delay > deadline) {
          await this.stop();
          throw error;
        }
        if (attempt === 1) this.#options.log.warn('Waiting for etcd', { error });
        await this.#clock.sleep(delay, signal).catch(() => undefined);
      }
    }
  }

  /** Leased keys stay for the time of the session, for whoever starts again in time. May be called twice. */
  async stop(): Promise<void> {
    if (!this.#isOpen) return;
    await this.#locks.stop();
    await this.#session.stop();
    this.#isOpen = false;
    for (const watch of [...this.#watches]) watch.close();
    this.#connection.close();
  }

  async get(key: string): Promise<KvEntry | undefined> {
    const { kvs } = await this.#range(`read ${key}`, { key: this.#messages.key(key) });
    return kvs[0] && this.#messages.entry(kvs[0]);
  }

  async list(prefix: string): Promise<KvList> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#listOnce(prefix);
      } catch (error) {
        if (!isKind(error, 'compacted') || attempt === LIST_ATTEMPTS) throw error;
      }
    }
  }

  async put(key: string, value: string, options: { readonly leased?: boolean } = {}): Promise<number> {
    const { revision } = await this.transact({ then: [{ put: key, value, ...options }] });
    return revision;
  }

  async delete(key: string): Promise<boolean> {
    const { deleted } = await this.transact({ then: [{ delete: key }] });
    return deleted > 0;
  }

  async transact(transaction: KvTransaction): Promise<KvTransactionResult> {
    const isLeased = transaction.then.some((operation) => 'put' in operation && operation.leased === true);
    if (!isLeased) return this.#transact(transaction, undefined);
    try {
      this.#checkOpen();
      const { id } = this.#session;
      if (id === undefined) throw new CiliumError('KvstoreUnavailable', 'the session of this client has ended');
      return await this.#transact(transaction, id);
    } catch (error) {
      if (isKind(error, 'gone')) this.#session.check();
      throw error;
    }
  }

  watch(prefix: string, fromRevision: number, handlers: WatchHandlers): Watch {
    const deps = {
      connection: this.#connection,
      messages: this.#messages,
      storeRevision: () => this.#storeRevision(),
    };
    const watch = new EtcdWatch(deps, { prefix, fromRevision }, handlers, (over) => this.#watches.delete(over));
    this.#watches.add(watch);
    return watch;
  }

  async lock(path: string, signal?: AbortSignal): Promise<KvLock> {
    this.#checkOpen();
    return this.#locks.lock(path, signal);
  }

  isOwn(entry: KvEntry): boolean {
    return entry.leaseId !== undefined && entry.leaseId === this.#session.id;
  }

  onSessionLost(listener: () => void): () => void {
    this.#lostListeners.add(listener);
    return () => this.#lostListeners.delete(listener);
  }

  async status(): Promise<KvstoreStatus> {
    if (!this.#isOpen) return { healthy: false, message: 'etcd: not started' };
    const leases = { session: this.#session.id === undefined ? 0 : 1, locks: this.#locks.leases };
    return etcdStatus(this.#connection, leases, () => this.#storeRevision());
  }

  #newLease(name: string, ttlMs: number, onReplaced: () => void): KeptLease {
    return new KeptLease({
      name,
      connection: this.#connection,
      ttlMs,
      log: this.#options.log,
      clock: this.#clock,
      onReplaced,
    });
  }

  #checkOpen(): void {
    if (!this.#isOpen) throw new CiliumError('KvstoreUnavailable', 'the client of etcd is not started');
  }

  async #range(what: string, request: object): Promise<IRangeResponse> {
    this.#checkOpen();
    return this.#connection.read(what, 'KV', 'range', request);
  }

  async #storeRevision(): Promise<number> {
    const key = this.#messages.key('.');
    const { header } = await this.#range('read the revision', { key, count_only: true });
    return toNumber(header.revision);
  }

  /** All pages show the revision of the first. */
  async #listOnce(prefix: string): Promise<KvList> {
    const limit = this.#options.pageEntries ?? PAGE_ENTRIES;
    const range = this.#messages.range(prefix);
    const entries: KvEntry[] = [];
    let revision = 0;
    for (let from = range.key; ;) {
      const page = await this.#range(`list ${prefix}`, { ...range, key: from, limit, revision });
      if (revision === 0) revision = toNumber(page.header.revision);
      for (const kv of page.kvs) entries.push(this.#messages.entry(kv));
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { entries, revision };
      from = Buffer.concat([last.key, Buffer.from([0])]);
    }
  }

  async #transact(transaction: KvTransaction, leaseId: string | undefined): Promise<KvTransactionResult> {
    const request = this.#messages.transaction(transaction, leaseId);
    this.#checkOpen();
    const response = await this.#connection.write<ITxnResponse>('write', 'KV', 'txn', request);
    const deleted = response.responses.reduce(
      // The message has the field of the answer that there is, and no other.
      (sum, answer: { response_delete_range?: { deleted: string } }) =>
        sum + Number(answer.response_delete_range?.deleted ?? 0),
      0,
    );
    const { succeeded, header } = response;
    return { succeeded, revision: toNumber(header.revision), deleted: succeeded ? deleted : 0 };
  }
}
