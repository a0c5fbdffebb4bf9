// SPDX-License-Identifier: Apache-2.0

/**
 * The embedded store: all content in memory, every change in a journal before it is acknowledged.
 *
 * Requests are served in the order they come. Those that come while the disk is busy share the next batch and its one
 * sync, so a thousand at once cost little more than one; reads among them cost nothing. Nobody sees a change that
 * is not on disk. While the store is closed no lease runs: as with etcd, a lease starts anew with the server.
 */
import { randomBytes } from 'node:crypto';
import { CiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Journal } from '../../runtime/journal.ts';
import type { Logger } from '../../runtime/logger.ts';
import {
  LOCK_TIMEOUT_MS,
  type KvCondition,
  type KvEntry,
  type KvEvent,
  type KvOperation,
  type KvRead,
  type KvTransaction,
  type KvTransactionResult,
  type Watch,
  type WatchHandlers,
} from '../kvstore.ts';
import { LockTable } from '../lock-table.ts';
import { changeSchema, stateSchema, StoreState, type Change, type StateImage } from './state.ts';
import { WatchHub } from './watch-hub.ts';

/** More than this waiting means that the disk hangs; further requests are refused. */
const MAX_WAITING = 100_000;
/** The disk gets at most this many requests in one line. */
const MAX_BATCH = 4_096;
const RETRY_EXPIRY_MS = 10_000;

export interface EngineOptions {
  /** Where the state is kept; made if it does not exist. */
  readonly folder: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default 1 MiB: a smaller journal is not compacted. */
  readonly minCompactionBytes?: number;
}

interface Request {
  /** Looks at the state in its turn and says what is to change. Throws to be refused. */
  readonly decide: (state: StoreState) => Change | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class EmbeddedEngine implements Component {
  readonly name = 'kvstore-embedded';
  readonly folder: string;
  /** Between the clients of this engine. */
  readonly locks: LockTable;
  readonly #journal: Journal<StateImage, Change>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #hub = new WatchHub();
  #state = new StoreState();
  #isOpen = false;
  #waiting: Request[] = [];
  #worker: Promise<void> | undefined;
  /** Leases of clients that are there, and what to call when one is revoked. They do not expire. */
  readonly #held = new Map<string, () => void>();
  /** Leases whose client has gone, and when they end, on the monotonic clock. */
  readonly #deadlines = new Map<string, number>();
  #alarm = new AbortController();

  constructor(options: EngineOptions) {
    this.folder = options.folder;
    this.#journal = new Journal({
      folder: options.folder,
      image: stateSchema,
      change: changeSchema,
      minCompactionBytes: options.minCompactionBytes,
    });
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log;
    this.locks = new LockTable(this.#clock, LOCK_TIMEOUT_MS);
  }

  async start(): Promise<void> {
    await this.#readBack();
    if (this.#journal.tornBytes > 0) {
      this.#log.warn('Took away an unfinished write', { bytes: this.#journal.tornBytes });
    }
    this.#hub.reset(this.#state.revision);
    this.#isOpen = true;
    for (const [id, { ttlMs }] of this.#state.leases) this.#deadlines.set(id, this.#clock.monotonic() + ttlMs);
    await this.revoke([...this.#state.leases].filter(([, { keys }]) => keys.size === 0).map(([id]) => id));
    this.#armAlarm();
  }

  /** Waits for what was asked for; later requests are refused. May be called twice. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    this.#alarm.abort();
    await this.#worker;
    this.#hub.reset(this.#state.revision);
    this.#held.clear();
    this.#deadlines.clear();
    await this.#journal.close();
  }

  async read<T>(look: (state: StoreState) => T): Promise<T> {
    let answer: T | undefined;
    await this.#request((state) => {
      answer = look(state);
      return undefined;
    });
    return answer as T;
  }

  /** `leaseId`: what leased keys are attached to, if the client has a session. */
  async transact(transaction: KvTransaction, leaseId: string | undefined): Promise<KvTransactionResult> {
    let result: KvTransactionResult | undefined;
    await this.#request((state) => {
      if (!(transaction.when ?? []).every((condition) => holds(state, condition))) {
        const found = transaction.otherwise?.flatMap((read) => look(state, read));
        result = { succeeded: false, revision: state.revision, deleted: 0, ...(found && { found }) };
        return undefined;
      }
      const change = toChange(state, transaction.then, leaseId);
      result = { succeeded: true, revision: change.revision, deleted: change.deletes.length };
      return change.revision === state.revision ? undefined : change;
    });
    return result!;
  }

  watch(prefix: string, fromRevision: number, handlers: WatchHandlers): Watch {
    return this.#hub.watch(prefix, fromRevision, handlers);
  }

  /** Makes a lease that lives until it is revoked or, after `letGo`, for its time. */
  async grant(ttlMs: number, onRevoked: () => void): Promise<string> {
    const id = randomBytes(8).toString('hex');
    await this.#request((state) => ({ revision: state.revision, puts: [], deletes: [], grants: [[id, ttlMs]] }));
    this.#held.set(id, onRevoked);
    return id;
  }

  /** The lease's client goes: from now on its time runs. */
  letGo(leaseId: string): void {
    this.#held.delete(leaseId);
    const lease = this.#state.leases.get(leaseId);
    if (lease === undefined) return;
    this.#deadlines.set(leaseId, this.#clock.monotonic() + lease.ttlMs);
    this.#armAlarm();
  }

  /** Ends leases and deletes their keys. Unknown ones are left out. */
  async revoke(leaseIds: readonly string[]): Promise<void> {
    const callbacks: (() => void)[] = [];
    await this.#request((state) => {
      const revokes = leaseIds.filter((id) => state.leases.has(id));
      if (revokes.length === 0) return undefined;
      const deletes = revokes.flatMap((id) => [...state.leases.get(id)!.keys]);
      for (const id of revokes) {
        const callback = this.#held.get(id);
        if (callback !== undefined) callbacks.push(callback);
      }
      return { revision: state.revision + Math.min(deletes.length, 1), puts: [], deletes, revokes };
    });
    for (const id of leaseIds) {
      this.#held.delete(id);
      this.#deadlines.delete(id);
    }
    for (const callback of callbacks) callback();
  }

  #request(decide: Request['decide']): Promise<void> {
    if (!this.#isOpen) return Promise.reject(new CiliumError('KvstoreUnavailable', 'the embedded store is not open'));
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.reject(new CiliumError('KvstoreUnavailable', 'too many requests wait for the disk'));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ decide, resolve, reject });
      this.#worker ??= this.#work();
    });
  }

  async #work(): Promise<void> {
    await Promise.resolve(); // whoever asks in the same turn gets into the same batch
    while (this.#waiting.length > 0) await this.#serve(this.#waiting.splice(0, MAX_BATCH));
    this.#worker = undefined;
  }

  async #serve(requests: readonly Request[]): Promise<void> {
    const batch: Change[] = [];
    const events: KvEvent[][] = [];
    const served: Request[] = [];
    for (const request of requests) {
      try {
        const change = request.decide(this.#state);
        if (change !== undefined) {
          events.push(this.#state.apply(change));
          batch.push(change, ...this.#endAbandonedLeases());
        }
        served.push(request);
      } catch (error) {
        request.reject(error);
      }
    }
    if (batch.length > 0) {
      try {
        await this.#journal.append(batch);
      } catch (cause) {
        const error = new CiliumError('KvstoreUnavailable', 'write the journal of the embedded store', {}, cause);
        await this.#reload();
        for (const request of served) request.reject(error);
        return;
      }
      for (const changes of events) this.#hub.publish(changes);
    }
    for (const request of served) request.resolve();
    if (this.#journal.isCompactionDue) await this.#compact();
  }

  /** Leases whose client has gone end with their last key. */
  #endAbandonedLeases(): Change[] {
    const revokes = [...this.#deadlines.keys()].filter((id) => this.#state.leases.get(id)?.keys.size === 0);
    if (revokes.length === 0) return [];
    for (const id of revokes) this.#deadlines.delete(id);
    const change = { revision: this.#state.revision, puts: [], deletes: [], revokes };
    this.#state.apply(change);
    return [change];
  }

  async #compact(): Promise<void> {
    try {
      await this.#journal.compact(this.#state.toImage());
    } catch (error) {
      this.#log.warn('Compaction of the embedded store failed', { error });
      await this.#reload();
    }
  }

  async #readBack(): Promise<void> {
    let state = new StoreState();
    await this.#journal.open({
      begin(image) {
        if (image !== undefined) state = StoreState.fromImage(image);
      },
      apply: (change) => state.applyInOrder(change),
    });
    this.#state = state;
  }

  /** After a failed write: what counts is what the disk holds, and watchers have to look at it anew. */
  async #reload(): Promise<void> {
    try {
      await this.#readBack();
      this.#hub.reset(this.#state.revision);
    } catch (error) {
      this.#isOpen = false;
      this.#log.error('The embedded store cannot be read back and is closed', { error });
      const refusal = new CiliumError('KvstoreUnavailable', 'the embedded store cannot be read back', {}, error);
      for (const request of this.#waiting.splice(0)) request.reject(refusal);
    }
  }

  /** Sleeps until the next deadline of a lease. */
  #armAlarm(): void {
    this.#alarm.abort();
    if (this.#deadlines.size === 0 || !this.#isOpen) return;
    this.#alarm = new AbortController();
    const delay = Math.max(0, Math.min(...this.#deadlines.values()) - this.#clock.monotonic());
    this.#clock.sleep(delay, this.#alarm.signal).then(
      () => void this.#expire(),
      () => undefined, // armed anew, or closed
    );
  }

  async #expire(): Promise<void> {
    const now = this.#clock.monotonic();
    const expired = [...this.#deadlines].filter(([, deadline]) => deadline <= now).map(([id]) => id);
    try {
      await this.revoke(expired);
    } catch (error) {
      this.#log.warn('Expired leases are kept for now', { error });
      for (const id of expired) this.#deadlines.set(id, now + RETRY_EXPIRY_MS);
    }
    this.#armAlarm();
  }
}

function holds(state: StoreState, condition: KvCondition): boolean {
  if ('prefix' in condition) {
    const below = state.list(condition.prefix);
    if ('value' in condition) return below.length > 0 && below.every(({ value }) => value === condition.value);
    return below.every(({ modRevision }) => modRevision <= condition.unchangedSince);
  }
  const entry = state.get(condition.key);
  if ('exists' in condition) return (entry !== undefined) === condition.exists;
  if ('value' in condition) return entry?.value === condition.value;
  return entry?.modRevision === condition.modRevision;
}

function look(state: StoreState, read: KvRead): readonly KvEntry[] {
  if ('list' in read) return state.list(read.list);
  const entry = state.get(read.get);
  return entry === undefined ? [] : [entry];
}

function toChange(state: StoreState, operations: readonly KvOperation[], leaseId: string | undefined): Change {
  const puts: Change['puts'] = [];
  const deletes: string[] = [];
  for (const operation of operations) {
    if ('put' in operation) puts.push([operation.put, operation.value, leaseFor(state, operation.leased, leaseId)]);
    else if ('delete' in operation)
      deletes.push(...(state.get(operation.delete) === undefined ? [] : [operation.delete]));
    else deletes.push(...state.list(operation.deletePrefix).map(({ key }) => key));
  }
  const touched = new Set([...puts.map(([key]) => key), ...deletes]);
  if (touched.size < puts.length + deletes.length) {
    throw new CiliumError('InvalidArgument', 'a transaction touches a key twice', { operations });
  }
  return { revision: state.revision + (touched.size > 0 ? 1 : 0), puts, deletes };
}

function leaseFor(state: StoreState, leased: boolean | undefined, leaseId: string | undefined): string | null {
  if (leased !== true) return null;
  if (leaseId !== undefined && state.leases.has(leaseId)) return leaseId;
  throw new CiliumError('KvstoreUnavailable', 'the session of this client has ended');
}
