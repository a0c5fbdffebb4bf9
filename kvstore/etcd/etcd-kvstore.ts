// SPDX-License-Identifier: Apache-2.0

/** A client of an etcd cluster. Many of them, on as many nodes, are what makes nodes one network. */
import { setImmediate } from 'node:timers/promises';
import type { IRangeResponse, ITxnResponse } from 'etcd3';
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import { backoffMs, Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import {
  LEAVE_MS,
  MAX_TRANSACTION_SIZE,
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
import { EtcdSession } from './etcd-session.ts';
import { etcdStatus } from './etcd-status.ts';
import { EtcdWatch } from './etcd-watch.ts';
import { KeptLease } from './kept-lease.ts';
import type { RangePage } from './range-response.ts';

/** Entries of a list come in pages, so that a long one does not hold etcd up. */
const PAGE_ENTRIES = 1_000;
/** How often a list is begun anew when it was compacted away between two pages. */
const LIST_ATTEMPTS = 5;
/** How often it is said that etcd is still waited for. */
const REMIND_MS = 30_000;

/** The message has the field of the answer that there is, and no other. */
interface Answer {
  readonly response_range?: IRangeResponse;
  readonly response_delete_range?: { readonly deleted: string };
}

export interface EtcdKvstoreOptions {
  readonly config: EtcdConfig;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default SESSION_TTL_MS: how long leased keys outlive a client that has gone. */
  readonly sessionTtlMs?: number;
  /** @default LOCK_TTL_MS: the same for locks. */
  readonly lockTtlMs?: number;
  readonly times?: Partial<EtcdTimes>;
  /** @default false: a start does not fail because etcd is away, see `isConnected`. */
  readonly mayStartWithout?: boolean;
  readonly pageEntries?: number;
  /** @default 1,000 */
  readonly keysPerLease?: number;
  /** Uniform in [0, 1); which endpoint is asked first. */
  readonly random?: () => number;
}

export class EtcdKvstore implements Kvstore {
  readonly name = 'kvstore';
  readonly #options: EtcdKvstoreOptions;
  readonly #clock: Clock;
  readonly #connection: EtcdConnection;
  readonly #messages: EtcdMessages;
  readonly #session: EtcdSession;
  /** Opens the session of a client that has started without. */
  readonly #opening: Controller;
  readonly #locks: EtcdLocks;
  readonly #watches = new Set<EtcdWatch>();
  readonly #lostListeners = new Set<() => void>();
  #isOpen = false;
  /** Why the client has started without etcd, until it is there. */
  #whyAway: unknown;

  /** Throws `InvalidArgument` for a configuration that cannot be meant. */
  constructor(options: EtcdKvstoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#connection = new EtcdConnection(options.config, { ...ETCD_TIMES, ...options.times }, options.random);
    this.#messages = new EtcdMessages(options.config.namespace ?? '');
    const { log } = options;
    this.#session = new EtcdSession({
      newLease: (onReplaced) => this.#newLease('kvstore-session', options.sessionTtlMs ?? SESSION_TTL_MS, onReplaced),
      onLost: () => this.#tellSession(),
      maxKeys: options.keysPerLease,
    });
    this.#opening = new Controller({
      name: 'kvstore-connect',
      run: async () => {
        await this.#open();
        this.#whyAway = undefined;
        log.info('etcd is there');
        this.#tellSession();
      },
      minBackoffMs: 250,
      maxBackoffMs: 5_000,
      log,
      clock: this.#clock,
    });
    this.#locks = new EtcdLocks({
      store: this,
      create: async (key, leaseId) => {
        const then = [{ put: key, value: '', leased: true }];
        const leases = new Map([[key, leaseId]]);
        return (await this.#transact({ when: [{ key, exists: false }], then }, leases)).succeeded;
      },
      newLease: () => this.#newLease('kvstore-locks', options.lockTtlMs ?? LOCK_TTL_MS, () => undefined),
      log,
      clock: this.#clock,
    });
  }

  get isConnected(): boolean {
    return this.#session.size > 0;
  }

  get startTimeoutMs(): number {
    return this.#connection.times.connectTimeoutMs + 2 * LEAVE_MS;
  }

  /** Tries for a while, unless waiting cannot help. */
  async start(signal: AbortSignal): Promise<void> {
    this.#isOpen = true;
    try {
      await this.#openPatiently(signal);
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#locks.start();
    this.#opening.start();
  }

  leave(): void {
    if (this.#isOpen) this.#connection.leave(LEAVE_MS);
  }

  /** Leased keys stay for the time of the session, for whoever starts again in time. May be called twice. */
  async stop(): Promise<void> {
    if (!this.#isOpen) return;
    this.leave();
    await this.#opening.stop();
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

  async list(prefix: string, onPage?: (entries: readonly KvEntry[]) => void): Promise<KvList> {
    // Pages that somebody has had cannot be taken back: then one that is compacted away is an error.
    if (onPage !== undefined) return { entries: [], revision: await this.#listPages(prefix, onPage) };
    for (let attempt = 1; ; attempt++) {
      const entries: KvEntry[] = [];
      try {
        const revision = await this.#listPages(prefix, (page) => entries.push(...page));
        return { entries, revision };
      } catch (error) {
        if (!isKind(error, 'compacted') || attempt === LIST_ATTEMPTS) throw error;
      }
    }
  }

  async getAll(keys: readonly string[]): Promise<Map<string, KvEntry>> {
    const found = new Map<string, KvEntry>();
    for (let i = 0; i < keys.length; i += MAX_TRANSACTION_SIZE) {
      const success = keys.slice(i, i + MAX_TRANSACTION_SIZE).map((key) => this.#messages.read({ get: key }));
      this.#checkOpen();
      const { responses } = await this.#connection.read<ITxnResponse>('read keys', 'KV', 'txn', { success });
      for (const entry of this.#entriesOf(responses)) found.set(entry.key, entry);
    }
    return found;
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
    this.#checkOpen();
    const leased = transaction.then.flatMap((one) => ('put' in one && one.leased === true ? [one.put] : []));
    if (leased.length === 0) return this.#transact(transaction, new Map());
    this.#checkConnected();
    const { leases, fresh } = await this.#session.leasesFor(leased);
    try {
      const result = await this.#transact(transaction, leases);
      if (!result.succeeded) this.#session.release(fresh);
      return result;
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
    this.#checkConnected();
    return this.#locks.lock(path, signal);
  }

  isOwn(entry: KvEntry): boolean {
    return entry.leaseId !== undefined && this.#session.isOwn(entry.leaseId);
  }

  onSessionLost(listener: () => void): () => void {
    this.#lostListeners.add(listener);
    return () => this.#lostListeners.delete(listener);
  }

  async status(): Promise<KvstoreStatus> {
    if (!this.#isOpen) return { healthy: false, message: 'etcd: not started' };
    const leases = { session: this.#session.size, locks: this.#locks.leases };
    return etcdStatus(this.#connection, leases, () => this.#storeRevision());
  }

  /** Resolves with a session, or without one if that will do. */
  async #openPatiently(signal: AbortSignal): Promise<void> {
    const { mayStartWithout = false, log } = this.#options;
    const { patienceMs, connectTimeoutMs } = this.#connection.times;
    const limitMs = mayStartWithout ? patienceMs : connectTimeoutMs;
    const begin = this.#clock.monotonic();
    for (let attempt = 1, reminders = 0; ; attempt++) {
      signal.throwIfAborted();
      try {
        await this.#openWithin(begin + limitMs - this.#clock.monotonic());
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!mayPass(error)) throw error;
        const delay = backoffMs(attempt, { minBackoffMs: 100, maxBackoffMs: 2_000 });
        const waited = this.#clock.monotonic() - begin;
        if (waited + delay > limitMs) {
          if (!mayStartWithout) throw notFound(limitMs, error);
          log.warn('etcd is away; going on with what was known of it', { error });
          this.#whyAway = error;
          this.#opening.trigger();
          return;
        }
        if (attempt === 1 || waited >= (reminders + 1) * REMIND_MS) {
          if (attempt > 1) reminders++;
          log.warn('Waiting for etcd', { error, waitedMs: Math.round(waited), limitMs });
        }
        await this.#clock.sleep(delay, signal).catch(() => undefined);
      }
    }
  }

  /** An etcd that hangs may answer later than that. */
  async #openWithin(ms: number): Promise<void> {
    const done = new AbortController();
    const open = this.#open();
    open.catch(() => undefined); // when nobody waits for it any more
    const late = this.#clock.sleep(Math.max(ms, 0), done.signal).then(() => {
      throw new CiliumError('KvstoreUnavailable', `etcd: no answer from ${this.#options.config.endpoints.join(', ')}`);
    });
    try {
      await Promise.race([open, late]);
    } finally {
      done.abort();
      late.catch(() => undefined);
    }
  }

  async #open(): Promise<void> {
    await this.#storeRevision(); // also where rights are asked for
    await this.#session.start();
  }

  #tellSession(): void {
    for (const listener of this.#lostListeners) listener();
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

  /** Says at once, and why, what would take a while to find out. */
  #checkConnected(): void {
    if (this.isConnected) return;
    throw new CiliumError('KvstoreUnavailable', 'this client has no session with etcd at present', {}, this.#whyAway);
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

  /** All pages show the revision of the first, which is answered. Each is asked for before the one before it is used. */
  async #listPages(prefix: string, onPage: (entries: readonly KvEntry[]) => void): Promise<number> {
    const limit = this.#options.pageEntries ?? PAGE_ENTRIES;
    const range = this.#messages.range(prefix);
    const ask = (key: Buffer, revision: number): Promise<RangePage> => {
      this.#checkOpen();
      const decode = (bytes: Buffer): RangePage => this.#messages.page(bytes);
      return this.#connection.read(`list ${prefix}`, 'KV', 'range', { ...range, key, limit, revision }, decode);
    };
    const { revision, ...first } = await ask(range.key, 0);
    for (let page: Omit<RangePage, 'revision'> = first; ;) {
      const last = page.entries.at(-1);
      if (!page.more || last === undefined) {
        onPage(page.entries);
        return revision;
      }
      const next = ask(Buffer.concat([this.#messages.key(last.key), Buffer.from([0])]), revision);
      next.catch(() => undefined); // told below
      await setImmediate(); // it is sent
      onPage(page.entries);
      page = await next;
    }
  }

  /** `leases`: what each leased key is attached to. */
  async #transact(transaction: KvTransaction, leases: ReadonlyMap<string, string>): Promise<KvTransactionResult> {
    const request = this.#messages.transaction(transaction, leases);
    this.#checkOpen();
    const { succeeded, header, responses } = await this.#connection.write<ITxnResponse>('write', 'KV', 'txn', request);
    const revision = toNumber(header.revision);
    if (!succeeded) {
      const found = transaction.otherwise && { found: this.#entriesOf(responses) };
      return { succeeded, revision, deleted: 0, ...found };
    }
    for (const one of transaction.then) {
      if ('delete' in one) this.#session.release([one.delete]);
      else if ('deletePrefix' in one) this.#session.releaseBelow(one.deletePrefix);
    }
    const answers: readonly Answer[] = responses;
    const deleted = answers.reduce((sum, answer) => sum + Number(answer.response_delete_range?.deleted ?? 0), 0);
    return { succeeded, revision, deleted };
  }

  #entriesOf(answers: readonly Answer[]): KvEntry[] {
    return answers.flatMap(({ response_range: range }) => (range?.kvs ?? []).map((kv) => this.#messages.entry(kv)));
  }
}

function notFound(limitMs: number, cause: unknown): CiliumError {
  const reason = isCiliumError(cause) ? cause.message : String(cause);
  const text = `etcd was not to be had within ${limitMs / 1000} s (--kvstore-connectivity-timeout): ${reason}`;
  return new CiliumError('KvstoreUnavailable', text, {}, cause);
}
