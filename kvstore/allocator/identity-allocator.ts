// SPDX-License-Identifier: Apache-2.0

/**
 * One number for each label set, the same on all nodes, for as long as any node uses it.
 *
 * A number is taken with one transaction that makes this node's slave key and, if it is new, the master key; see
 * identity-plans.ts for the ways. What may happen meanwhile, and why the answer is right:
 *
 * - Two nodes see a new label set at once: the transaction asks for no slave key to have come, so the second one fails
 *   and finds the first one's.
 * - Two label sets pick the same number: the transaction asks for the master key to be absent.
 * - The collector deletes a number that is being taken: taking one that nobody uses rewrites its master key, joining
 *   its users asks for a slave key to be present; the collector deletes only what has not been written since it looked.
 * - The store loses our keys, or a master key is deleted or spoilt: `#assure` writes them again, at once and every few
 *   minutes. When the number stands for other labels by then, or the labels have another number, another one is taken
 *   and that is told as a move.
 *
 * Labels that this node uses already cost no I/O. A store that is away at the start is done without: what was known of
 * it then counts, and what this node uses is held against it when it comes back.
 */
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { backoffMs, Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { KeyedQueue } from '../../runtime/serial-queue.ts';
import { MAX_TRANSACTION_SIZE, type KvOperation, type Kvstore, type KvTransactionResult } from '../kvstore.ts';
import { WatchedPrefix } from '../watched-prefix.ts';
import { MASTER_PREFIX, masterKey, parseIdentity, slaveKey } from './identity-keys.ts';
import type { IdentityMemory } from './identity-memory.ts';
import { IdentityPlans, type Plan } from './identity-plans.ts';

/** How often this node's keys are compared with the store. */
const ASSURE_INTERVAL_MS = 5 * 60_000;
/** With the delays below, a call gives up after about 80 s. */
const MAX_ATTEMPTS = 16;
const RETRY = { minBackoffMs: 20, maxBackoffMs: 10_000 };
/** How often in a row what was found is acted upon at once. */
const MAX_PLANS = 4;
/** Labels whose keys are looked at with one request. */
const ASSURE_BATCH = MAX_TRANSACTION_SIZE / 2;
/** How long a number that others have waits for who uses it here to have the new one. */
const MOVE_MS = 1_000;
/** Of a value that makes no sense. */
const MAX_SHOWN = 200;

export interface IdentityAllocatorOptions {
  readonly store: Kvstore;
  /** An address of this node that no other node has. */
  readonly node: string;
  /** The numbers to take from, both ends included. */
  readonly range: { readonly min: number; readonly max: number };
  /** @default any: whether a text is the labels of an identity; other values of master keys are left out. */
  readonly isLabels?: (text: string) => boolean;
  /** @default none: what lets it start while the store is away. */
  readonly memory?: IdentityMemory;
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

/** Labels that this node uses have another number from now on; their users stay counted. */
export interface IdentityMove {
  readonly labels: string;
  readonly from: number;
  readonly to: number;
}

interface LocalUse {
  id: number;
  users: number;
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
  readonly #moveListeners = new Set<(move: IdentityMove) => Promise<void>>();
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
      mayStartWithout: options.memory?.exists ?? false,
      listener: {
        onPut: ({ key, value }) => this.#onMasterPut(key, value),
        onDelete: ({ key, value }) => this.#onMasterDelete(key, value),
        onListed: () => this.#forgetUnlisted(),
      },
    });
    this.#assurance = new Controller({
      ...common,
      name: 'identity-allocator-assure',
      run: (signal) => this.#assureAll(signal),
      intervalMs: ASSURE_INTERVAL_MS,
    });
  }

  /** Resolves when all numbers in use are known, or remembered while the store is away. */
  async start(signal: AbortSignal): Promise<void> {
    const { memory } = this.#options;
    await this.#masters.start(signal);
    if (!this.#masters.isListed) {
      for (const [id, labels] of (await memory?.load()) ?? [])
        if (this.#isIdentity(id, labels)) this.#learn(id, labels);
    }
    memory?.start(() => this.#labels);
    memory?.touch();
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
    await this.#options.memory?.stop();
  }

  /** The number of the label set; each call counts as one user. `signal` ends the waiting for a store that is away. */
  async allocate(labels: string, signal?: AbortSignal): Promise<number> {
    return this.#use(labels) ?? (await this.#queue.run(labels, () => this.#allocate(labels, undefined, signal)));
  }

  /**
   * As `allocate`, for what this node has used as `id` before a restart: it gets that number again unless the store says
   * otherwise, now or, if it is away, later (as a move).
   */
  async restore(labels: string, id: number, signal?: AbortSignal): Promise<number> {
    return this.#use(labels) ?? (await this.#queue.run(labels, () => this.#allocate(labels, id, signal)));
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
   * Must not throw.
   */
  onChange(listener: (event: IdentityEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells moves: after the new number has come (`onChange`); the old one waits for the listener, but not for long. */
  onMove(listener: (move: IdentityMove) => Promise<void>): () => void {
    this.#moveListeners.add(listener);
    return () => this.#moveListeners.delete(listener);
  }

  #use(labels: string): number | undefined {
    const use = this.#local.get(labels);
    if (use !== undefined) use.users++;
    return use?.id;
  }

  async #allocate(labels: string, before: number | undefined, caller: AbortSignal | undefined): Promise<number> {
    const present = this.#use(labels); // another caller may have been first
    if (present !== undefined) return present;
    const signal = caller === undefined ? this.#stop.signal : AbortSignal.any([this.#stop.signal, caller]);
    const isKnownLater = before !== undefined && !this.#masters.isListed;
    const id = isKnownLater ? before : await this.#takePatiently(labels, before, signal);
    this.#local.set(labels, { id, users: 1 });
    this.#undeleted.delete(labels);
    this.#learn(id, labels);
    if (isKnownLater) this.#assurance.trigger();
    return id;
  }

  async #takePatiently(labels: string, preferred: number | undefined, signal: AbortSignal): Promise<number> {
    let cause: unknown;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      signal.throwIfAborted();
      try {
        const id = await this.#take(labels, preferred);
        if (id !== undefined) return id;
      } catch (error) {
        if (!isCiliumError(error, 'KvstoreUnavailable')) throw error;
        cause = error;
      }
      await this.#clock.sleep(backoffMs(attempt, { ...RETRY, random: this.#random }), signal);
    }
    throw new CiliumError('KvstoreUnavailable', `allocate an identity for ${labels}`, { labels }, cause);
  }

  /** One attempt; `undefined` when others were faster again and again. */
  async #take(labels: string, preferred: number | undefined): Promise<number | undefined> {
    const plans = new IdentityPlans({
      labels,
      known: this.#numbers.get(labels) ?? [],
      preferred,
      isInRange: (id) => this.#isInRange(id),
      pick: (except) => this.#pick(except),
    });
    let plan: Plan | undefined = plans.first();
    for (let count = 0; plan !== undefined && count < MAX_PLANS; count++) {
      this.#taking.add(plan.id);
      const result = await this.#write(labels, plan).finally(() => this.#taking.delete(plan!.id));
      if (result.succeeded) return plan.id;
      plan = plans.next(result);
    }
    return undefined;
  }

  #write(labels: string, { id, when, writesMaster, otherwise }: Plan): Promise<KvTransactionResult> {
    const slave: KvOperation = { put: slaveKey(labels, this.#options.node), value: String(id), leased: true };
    const then = writesMaster ? [{ put: masterKey(id), value: labels }, slave] : [slave];
    return this.#store.transact({ when, then, otherwise });
  }

  /** A number that nobody is known to have, from a random place on. */
  #pick(except: ReadonlySet<number>): number {
    const { min, max } = this.#options.range;
    const count = max - min + 1;
    const start = Math.floor(this.#random() * count);
    for (let i = 0; i < count; i++) {
      const id = min + ((start + i) % count);
      const isTaken = this.#labels.has(id) || this.#masters.entries.has(masterKey(id));
      if (!isTaken && !this.#taking.has(id) && !except.has(id)) return id;
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
    const undeleted = [...this.#undeleted];
    await Promise.all(undeleted.map((labels) => this.#queue.run(labels, () => this.#deleteSlave(labels))));
    const used = [...this.#local.keys()];
    for (let i = 0; i < used.length && !signal.aborted; i += ASSURE_BATCH) {
      const amiss = await this.#findAmiss(used.slice(i, i + ASSURE_BATCH));
      await Promise.all(amiss.map((labels) => this.#queue.run(labels, () => this.#assure(labels))));
    }
  }

  /** Those whose keys are not as they should be. */
  async #findAmiss(batch: readonly string[]): Promise<string[]> {
    const expected = batch.flatMap((labels) => {
      const id = this.#local.get(labels)?.id;
      return id === undefined
        ? []
        : [{ labels, id, master: masterKey(id), slave: slaveKey(labels, this.#options.node) }];
    });
    const present = await this.#store.getAll(expected.flatMap(({ master, slave }) => [master, slave]));
    const isWell = ({ labels, id, master, slave }: (typeof expected)[number]): boolean => {
      const own = present.get(slave);
      return present.get(master)?.value === labels && own?.value === String(id) && this.#store.isOwn(own);
    };
    return expected.filter((one) => !isWell(one)).map(({ labels }) => labels);
  }

  /** Writes the keys of a number that we use, or takes another one if it is not ours any more. */
  async #assure(labels: string): Promise<void> {
    const use = this.#local.get(labels);
    if (use === undefined) return;
    const { id } = use;
    const key = masterKey(id);
    const otherwise = [{ get: key }];
    const result = await this.#write(labels, { id, when: [{ key, value: labels }], writesMaster: false, otherwise });
    if (result.succeeded) return;
    const spoilt = result.found?.find(({ value }) => !this.#isIdentity(id, value));
    if (spoilt !== undefined) {
      const when = [{ key, value: spoilt.value }];
      const { succeeded } = await this.#write(labels, { id, when, writesMaster: true, otherwise: [] });
      if (!succeeded) this.#assurance.trigger();
    } else await this.#takeAgain(labels, use, result.found?.[0]?.value);
  }

  /** `others`: the labels that its number stands for now, if any. */
  async #takeAgain(labels: string, use: LocalUse, others: string | undefined): Promise<void> {
    const from = use.id;
    const to = await this.#take(labels, from);
    const { log } = this.#options;
    if (to === undefined) this.#assurance.trigger();
    else if (to === from) log.warn('Made a missing identity again', { identity: to, identityLabels: labels });
    else {
      log.error('Identity stands for other labels now', { identity: from, identityLabels: labels, newIdentity: to });
      this.#learn(to, labels);
      use.id = to;
      await this.#tellMove({ labels, from, to });
      if (others === undefined) this.#forget(from, labels);
      else this.#learn(from, others);
    }
  }

  async #tellMove(move: IdentityMove): Promise<void> {
    const done = new AbortController();
    const all = Promise.allSettled([...this.#moveListeners].map((listener) => listener(move)));
    // They may wait for work that waits for us.
    await Promise.race([all, this.#clock.sleep(MOVE_MS, done.signal).catch(() => undefined)]);
    done.abort();
  }

  #onMasterPut(key: string, labels: string): void {
    const id = parseIdentity(key.slice(MASTER_PREFIX.length));
    const known = id === undefined ? undefined : this.#labels.get(id);
    if (id !== undefined && known !== labels && this.#isUsed(id)) this.#assurance.trigger();
    else if (id !== undefined && this.#isIdentity(id, labels)) this.#learn(id, labels);
    else {
      this.#options.log.warn('Not an identity; it is left out', { key, value: labels.slice(0, MAX_SHOWN) });
      if (id !== undefined && known !== undefined) this.#forget(id, known);
    }
  }

  #onMasterDelete(key: string, labels: string): void {
    const id = parseIdentity(key.slice(MASTER_PREFIX.length));
    if (id === undefined || this.#labels.get(id) !== labels) return;
    if (this.#isUsed(id)) this.#assurance.trigger();
    else this.#forget(id, labels);
  }

  /** What was remembered and is not so any more. */
  #forgetUnlisted(): void {
    for (const [id, labels] of this.#labels) {
      if (this.#masters.entries.has(masterKey(id))) continue;
      if (this.#isUsed(id)) this.#assurance.trigger();
      else this.#forget(id, labels);
    }
  }

  #isInRange(id: number): boolean {
    return id >= this.#options.range.min && id <= this.#options.range.max;
  }

  #isIdentity(id: number, labels: string): boolean {
    return this.#isInRange(id) && (this.#options.isLabels?.(labels) ?? true);
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
    this.#options.memory?.touch();
    this.#tell({ type: 'upsert', id, labels });
  }

  #forget(id: number, labels: string): void {
    this.#labels.delete(id);
    const numbers = this.#numbers.get(labels);
    numbers?.delete(id);
    if (numbers?.size === 0) this.#numbers.delete(labels);
    this.#options.memory?.touch();
    this.#tell({ type: 'delete', id, labels });
  }

  #tell(event: IdentityEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
