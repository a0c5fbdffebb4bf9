// SPDX-License-Identifier: Apache-2.0

/**
 * One number for each label set, the same on all nodes, for as long as any node uses it.
 *
 * A number is taken with one transaction that makes the master key and this node's slave key, under the lock of the
 * label set. What may happen meanwhile, and why the answer is right:
 *
 * - Two nodes see a new label set at once: the lock lets the second find the first one's slave key.
 * - Two label sets pick the same number: the transaction asks for the master key to be absent.
 * - The collector deletes a number that is being taken: taking one that nobody uses rewrites its master key, joining
 *   its users asks for a slave key to be present; the collector deletes only what has not been written since it looked.
 * - The store loses our keys, or a master key is deleted: `#assure` writes them again, at once and every few minutes.
 *   When the number stands for other labels by then, that is told as a delete and an upsert, and the next `allocate` of
 *   the old labels gives another number.
 *
 * Labels that this node uses already cost no I/O.
 */
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { backoffMs, Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { KeyedQueue } from '../../runtime/serial-queue.ts';
import { putIfDifferent, type KvCondition, type KvLock, type KvOperation, type Kvstore } from '../kvstore.ts';
import { WatchedPrefix } from '../watched-prefix.ts';
import { lockPath, MASTER_PREFIX, masterKey, parseIdentity, SLAVE_PREFIX, slaveKey } from './identity-keys.ts';

/** How often this node's keys are compared with the store. */
const ASSURE_INTERVAL_MS = 5 * 60_000;
/** With the delays below, a call gives up after about 80 s. */
const MAX_ATTEMPTS = 16;
const RETRY = { minBackoffMs: 20, maxBackoffMs: 10_000 };

export interface IdentityAllocatorOptions {
  readonly store: Kvstore;
  /** An address of this node that no other node has. */
  readonly node: string;
  /** The numbers to take from, both ends included. */
  readonly range: { readonly min: number; readonly max: number };
  readonly log: Logger;
  readonly clock?: Clock;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export interface IdentityEvent {
  readonly type: 'upsert' | 'delete';
  readonly id: number;
  readonly labels: string;
}

interface LocalUse {
  readonly id: number;
  users: number;
}

/** How a number can be taken: what must hold, and what is written besides our slave key. */
interface Plan {
  readonly id: number;
  readonly when: readonly KvCondition[];
  readonly writesMaster: boolean;
}

export class IdentityAllocator implements Component {
  readonly name = 'identity-allocator';
  readonly #options: IdentityAllocatorOptions;
  readonly #store: Kvstore;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #masters: WatchedPrefix;
  readonly #assurance: Controller;
  /** Label sets with work in the store: one after the other for each. */
  readonly #queue = new KeyedQueue<string>('identity allocation');
  readonly #labels = new Map<number, string>();
  readonly #numbers = new Map<string, Set<number>>();
  /** What this node uses. */
  readonly #local = new Map<string, LocalUse>();
  /** Numbers that are being taken. */
  readonly #taking = new Set<number>();
  /** Label sets whose slave key could not be deleted yet. */
  readonly #undeleted = new Set<string>();
  readonly #listeners = new Set<(event: IdentityEvent) => void>();
  readonly #stop = new AbortController();
  #unsubscribe: (() => void) | undefined;

  constructor(options: IdentityAllocatorOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    const common = { log: options.log, clock: this.#clock };
    this.#masters = new WatchedPrefix({
      ...common,
      store: options.store,
      prefix: MASTER_PREFIX,
      listener: {
        onPut: ({ key, value }) => this.#onMasterPut(key, value),
        onDelete: ({ key, value }) => this.#onMasterDelete(key, value),
      },
    });
    this.#assurance = new Controller({
      ...common,
      name: 'identity-allocator-assure',
      run: (signal) => this.#assureAll(signal),
      intervalMs: ASSURE_INTERVAL_MS,
    });
  }

  /** Resolves when all numbers in use are known. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#masters.start(signal);
    this.#unsubscribe = this.#store.onSessionLost(() => this.#assurance.trigger());
    this.#assurance.start();
  }

  /** Keys stay in the store, so that the node finds its numbers again. */
  async stop(): Promise<void> {
    this.#stop.abort(new CiliumError('KvstoreUnavailable', 'the identity allocator has stopped'));
    this.#unsubscribe?.();
    await this.#assurance.stop();
    await this.#queue.drain();
    await this.#masters.stop();
  }

  /** The number of the label set; each call counts as one user. `signal` ends the waiting for a store that is away. */
  async allocate(labels: string, signal?: AbortSignal): Promise<number> {
    const stop = this.#stop.signal;
    const limit = signal === undefined ? stop : AbortSignal.any([stop, signal]);
    return this.#use(labels) ?? (await this.#queue.run(labels, () => this.#allocate(labels, limit)));
  }

  /** One user less; without users the number is given back. Never fails: what the store refuses is done later. */
  async release(labels: string): Promise<void> {
    const use = this.#local.get(labels);
    if (use === undefined || --use.users > 0) return;
    this.#local.delete(labels);
    this.#undeleted.add(labels);
    await this.#queue.run(labels, () => this.#deleteSlave(labels)).catch(() => this.#assurance.trigger());
  }

  /** The labels that a number stands for, on whatever node. */
  lookup(id: number): string | undefined {
    return this.#labels.get(id);
  }

  /** The number of a label set, if any node has made one. */
  lookupLabels(labels: string): number | undefined {
    const numbers = this.#numbers.get(labels);
    return this.#local.get(labels)?.id ?? (numbers && Math.min(...numbers));
  }

  /** All known numbers; `users`: how many on this node. */
  *list(): Generator<{ readonly id: number; readonly labels: string; readonly users: number }> {
    for (const [id, labels] of this.#labels) {
      const use = this.#local.get(labels);
      yield { id, labels, users: use?.id === id ? use.users : 0 };
    }
  }

  /**
   * Tells each number that comes or goes, whoever made it; before `start`, also those that are there already.
   * Must not throw. A delete of a number in use here means that it stands for other labels now: allocate anew.
   */
  onChange(listener: (event: IdentityEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #use(labels: string): number | undefined {
    const use = this.#local.get(labels);
    if (use !== undefined) use.users++;
    return use?.id;
  }

  async #allocate(labels: string, signal: AbortSignal): Promise<number> {
    const present = this.#use(labels); // another caller may have been first
    if (present !== undefined) return present;
    let cause: unknown;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      signal.throwIfAborted();
      try {
        const id = await this.#take(labels, signal);
        if (id !== undefined) {
          this.#local.set(labels, { id, users: 1 });
          this.#undeleted.delete(labels);
          this.#learn(id, labels);
          return id;
        }
      } catch (error) {
        if (!isCiliumError(error, 'KvstoreUnavailable') && !isCiliumError(error, 'Timeout')) throw error;
        cause = error;
      }
      await this.#clock.sleep(backoffMs(attempt, { ...RETRY, random: this.#random }), signal);
    }
    throw new CiliumError('KvstoreUnavailable', `allocate an identity for ${labels}`, { labels }, cause);
  }

  /** One attempt; `undefined` when somebody else was faster. */
  async #take(labels: string, signal: AbortSignal): Promise<number | undefined> {
    const lock = await this.#store.lock(lockPath(labels), signal);
    let id: number | undefined;
    try {
      const plan = (await this.#planReuse(labels)) ?? this.#planNew();
      ({ id } = plan);
      this.#taking.add(id);
      return (await this.#write(labels, plan, lock)) ? id : undefined;
    } finally {
      if (id !== undefined) this.#taking.delete(id);
      await lock.unlock().catch((error: unknown) => this.#options.log.debug('Lock was not given back', { error }));
    }
  }

  async #write(labels: string, { id, when, writesMaster }: Plan, lock?: KvLock): Promise<boolean> {
    const slave: KvOperation = { put: slaveKey(labels, this.#options.node), value: String(id), leased: true };
    const result = await this.#store.transact({
      when: [...when, ...(lock?.guards ?? [])],
      then: writesMaster ? [{ put: masterKey(id), value: labels }, slave] : [slave],
    });
    return result.succeeded;
  }

  /** A number that stands for these labels: one that a node uses, else one that has not been collected yet. */
  async #planReuse(labels: string): Promise<Plan | undefined> {
    const prefix = `${SLAVE_PREFIX}${labels}/`;
    for (const { key, value } of (await this.#store.list(prefix)).entries) {
      const id = parseIdentity(value);
      // A slash further on belongs to a longer label set that begins with this one.
      if (id === undefined || key.includes('/', prefix.length)) continue;
      const master = await this.#store.get(masterKey(id));
      const inUse: KvCondition = { key, value };
      if (master === undefined) {
        return { id, when: [inUse, { key: masterKey(id), exists: false }], writesMaster: true };
      }
      if (master.value === labels)
        return { id, when: [inUse, { key: master.key, value: labels }], writesMaster: false };
    }
    for (const id of this.#numbers.get(labels) ?? []) {
      const master = await this.#store.get(masterKey(id));
      if (master?.value !== labels) continue;
      return { id, when: [{ key: master.key, modRevision: master.modRevision }], writesMaster: true };
    }
    return undefined;
  }

  /** A number that nobody is known to have, from a random place on. */
  #planNew(): Plan {
    const { min, max } = this.#options.range;
    const count = max - min + 1;
    const start = Math.floor(this.#random() * count);
    for (let i = 0; i < count; i++) {
      const id = min + ((start + i) % count);
      if (this.#labels.has(id) || this.#taking.has(id)) continue;
      return { id, when: [{ key: masterKey(id), exists: false }], writesMaster: true };
    }
    throw new CiliumError('PoolExhausted', `all ${count} identities are in use; use fewer different sets of labels`, {
      min,
      max,
    });
  }

  async #deleteSlave(labels: string): Promise<void> {
    if (!this.#undeleted.has(labels)) return; // in use again
    await this.#store.delete(slaveKey(labels, this.#options.node));
    this.#undeleted.delete(labels);
    // A number of ours whose master key was lost meanwhile is nobody's now.
    for (const id of this.#numbers.get(labels) ?? []) {
      if (!this.#masters.entries.has(masterKey(id))) this.#forget(id, labels);
    }
  }

  async #assureAll(signal: AbortSignal): Promise<void> {
    for (const labels of [...this.#undeleted, ...this.#local.keys()]) {
      if (signal.aborted) return;
      await this.#queue.run(labels, async () => {
        await this.#deleteSlave(labels);
        await this.#assure(labels);
      });
    }
  }

  /** Writes the keys of a number that we use, if they are not there. */
  async #assure(labels: string): Promise<void> {
    const use = this.#local.get(labels);
    if (use === undefined) return;
    const { id } = use;
    const key = masterKey(id);
    const master = await this.#store.get(key);
    if (master === undefined) {
      if (await this.#write(labels, { id, when: [{ key, exists: false }], writesMaster: true })) {
        this.#options.log.warn('Made a missing identity again', { identity: id, identityLabels: labels });
      } else {
        this.#assurance.trigger(); // somebody was faster: look again
      }
    } else if (master.value === labels) {
      await putIfDifferent(this.#store, slaveKey(labels, this.#options.node), String(id));
    } else {
      this.#options.log.error('Identity stands for other labels now', { identity: id, identityLabels: labels });
      this.#local.delete(labels);
      this.#learn(id, master.value);
    }
  }

  #onMasterPut(key: string, labels: string): void {
    const id = parseIdentity(key.slice(MASTER_PREFIX.length));
    if (id === undefined) this.#options.log.warn('Not an identity', { key });
    else if (this.#isUsed(id) && this.#labels.get(id) !== labels) this.#assurance.trigger();
    else this.#learn(id, labels);
  }

  #onMasterDelete(key: string, labels: string): void {
    const id = parseIdentity(key.slice(MASTER_PREFIX.length));
    if (id === undefined || this.#labels.get(id) !== labels) return;
    if (this.#isUsed(id)) this.#assurance.trigger();
    else this.#forget(id, labels);
  }

  #isUsed(id: number): boolean {
    return this.#local.get(this.#labels.get(id) ?? '')?.id === id;
  }

  #learn(id: number, labels: string): void {
    const old = this.#labels.get(id);
    if (old === labels) return;
    if (old !== undefined) this.#forget(id, old);
    this.#labels.set(id, labels);
    const numbers = this.#numbers.get(labels);
    if (numbers === undefined) this.#numbers.set(labels, new Set([id]));
    else numbers.add(id);
    this.#tell({ type: 'upsert', id, labels });
  }

  #forget(id: number, labels: string): void {
    this.#labels.delete(id);
    const numbers = this.#numbers.get(labels);
    numbers?.delete(id);
    if (numbers?.size === 0) this.#numbers.delete(labels);
    this.#tell({ type: 'delete', id, labels });
  }

  #tell(event: IdentityEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
