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
 * Labels that this node uses, or has stopped to use without the store having heard of it, cost no I/O. A store that is away
 * at the start is done without: what was known of it then counts, and what this node uses is held against it later.
 */
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { backoffMs, Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { KeyedQueue } from '../../runtime/serial-queue.ts';
import type { Kvstore } from '../kvstore.ts';
import { WatchedPrefix } from '../watched-prefix.ts';
import { BATCH_SIZE, IdentityKeeper } from './identity-keeper.ts';
import { labelsForPeople, MASTER_PREFIX, masterKey, parseIdentity } from './identity-keys.ts';
import type { IdentityMemory } from './identity-memory.ts';
import { IdentityTable, type IdentityListener } from './identity-table.ts';

/** How often this node's keys are compared with the store. */
const ASSURE_INTERVAL_MS = 5 * 60_000;
/** With the delays below, a call gives up after about 80 s. */
const MAX_ATTEMPTS = 16;
const RETRY = { minBackoffMs: 20, maxBackoffMs: 10_000 };
/** How long the store is waited for before a number of before a restart is taken on trust. */
const RESTORE_MS = 2_000;
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

/** Labels that this node uses have another number from now on; their users stay counted. */
export interface IdentityMove {
  readonly labels: string;
  readonly from: number;
  readonly to: number;
}

interface LocalUse {
  id: number;
  /** None: the slave key is still to be deleted. */
  users: number;
}

export class IdentityAllocator implements Component {
  readonly name = 'identity-allocator';
  readonly #options: IdentityAllocatorOptions;
  readonly #store: Kvstore;
  readonly #clock: Clock;
  readonly #masters: WatchedPrefix;
  readonly #keeper: IdentityKeeper;
  readonly #assurance: Controller;
  /** Label sets with work in the store: one after the other for each. */
  readonly #queue = new KeyedQueue<string>('identity allocation');
  readonly #table = new IdentityTable();
  /** What this node uses. */
  readonly #local = new Map<string, LocalUse>();
  readonly #random: () => number;
  readonly #moveListeners = new Set<(move: IdentityMove) => Promise<void>>();
  readonly #stop = new AbortController();
  /** The store did not answer when something was restored, and has not since. */
  #isSlow = false;
  #lastFailure: unknown;
  #unsubscribe: (() => void) | undefined;

  constructor(options: IdentityAllocatorOptions) {
    this.#options = options;
    const { store, node, range, memory, log, clock = systemClock } = options;
    this.#store = store;
    this.#clock = clock;
    this.#random = options.random ?? Math.random;
    this.#masters = new WatchedPrefix({
      store,
      prefix: MASTER_PREFIX,
      mayStartWithout: memory?.exists ?? false,
      listener: {
        onPut: ({ key, value }) => this.#onMasterPut(key, value),
        onDelete: ({ key, value }) => this.#onMasterDelete(key, value),
        onListed: () => this.#forgetUnlisted(),
      },
      log,
      clock,
    });
    this.#keeper = new IdentityKeeper({
      store,
      node,
      range,
      numbersOf: (labels) => this.#table.numbersOf(labels),
      isKnown: (id) => this.#table.get(id) !== undefined || this.#masters.entries.has(masterKey(id)),
      isIdentity: (id, labels) => this.#isIdentity(id, labels),
      random: this.#random,
    });
    this.#assurance = new Controller({
      name: 'identity-allocator-assure',
      run: (signal) => this.#assureAll(signal),
      intervalMs: ASSURE_INTERVAL_MS,
      log,
      clock,
    });
    this.#table.onChange(() => memory?.touch());
  }

  /** Resolves when all numbers in use are known, or remembered while the store is away. */
  async start(signal: AbortSignal): Promise<void> {
    const { memory } = this.#options;
    await this.#masters.start(signal);
    if (memory !== undefined && !this.#masters.isListed) {
      for (const [id, labels] of await memory.load()) if (this.#isIdentity(id, labels)) this.#table.learn(id, labels);
    }
    memory?.start(() => this.#table);
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

  /**
   * The number of the label set; each call counts as one user. `signal` ends the waiting for a store that is away; then,
   * and when the store stays away, it throws `KvstoreUnavailable`.
   */
  async allocate(labels: string, signal?: AbortSignal): Promise<number> {
    const id = this.#use(labels);
    if (id !== undefined) return id;
    const work = this.#queue.run(labels, () => this.#use(labels) ?? this.#allocate(labels, signal));
    return signal === undefined ? work : this.#unlessGivenUp(work, labels, signal);
  }

  /**
   * As `allocate`, for what this node has used as `id` before a restart: it gets that number again unless the store says
   * otherwise, now or, if it is away, later (as a move).
   */
  async restore(labels: string, id: number): Promise<number> {
    return this.#use(labels) ?? (await this.#queue.run(labels, () => this.#use(labels) ?? this.#restore(labels, id)));
  }

  /** One user less; without users the number is given back, some time later if the store is away. */
  release(labels: string): void {
    const use = this.#local.get(labels);
    if (use === undefined || use.users === 0 || --use.users > 0) return;
    this.#queue.run(labels, () => this.#giveBack(labels)).catch(() => this.#assurance.trigger());
  }

  /** The labels that a number stands for, on whatever node. */
  lookup(id: number): string | undefined {
    return this.#table.get(id);
  }

  /** The number of a label set, if any node has made one. */
  lookupLabels(labels: string): number | undefined {
    const numbers = this.#table.numbersOf(labels);
    return this.#local.get(labels)?.id ?? (numbers.size > 0 ? Math.min(...numbers) : undefined);
  }

  /** All known numbers; `users`: how many on this node. */
  *list(): Generator<{ readonly id: number; readonly labels: string; readonly users: number }> {
    for (const [id, labels] of this.#table) {
      const use = this.#local.get(labels);
      yield { id, labels, users: use?.id === id ? use.users : 0 };
    }
  }

  /**
   * Tells each number that comes or goes, whoever made it; before `start`, also those that are there already.
   * Must not throw.
   */
  onChange(listener: IdentityListener): () => void {
    return this.#table.onChange(listener);
  }

  /** Tells moves: after the new number has come (`onChange`); the old one waits for the listener, but not for long. */
  onMove(listener: (move: IdentityMove) => Promise<void>): () => void {
    this.#moveListeners.add(listener);
    return () => this.#moveListeners.delete(listener);
  }

  /** The number, if this node has it; one that is about to be given back is looked after again. */
  #use(labels: string): number | undefined {
    const use = this.#local.get(labels);
    if (use === undefined || (use.users === 0 && this.#table.get(use.id) !== labels)) return undefined;
    if (use.users++ === 0) this.#queue.run(labels, () => this.#assure(labels)).catch(() => this.#assurance.trigger());
    return use.id;
  }

  #hold(labels: string, id: number): number {
    this.#local.set(labels, { id, users: 1 });
    this.#table.learn(id, labels);
    return id;
  }

  async #allocate(labels: string, caller: AbortSignal | undefined): Promise<number> {
    const signal = caller === undefined ? this.#stop.signal : AbortSignal.any([this.#stop.signal, caller]);
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      signal.throwIfAborted();
      try {
        const id = await this.#keeper.take(labels, undefined);
        if (id !== undefined) return this.#hold(labels, id);
      } catch (error) {
        if (!isCiliumError(error, 'KvstoreUnavailable')) throw error;
        this.#lastFailure = error;
      }
      await this.#clock.sleep(backoffMs(attempt, { ...RETRY, random: this.#random }), signal);
    }
    throw this.#noIdentity(labels);
  }

  /** What comes of the work when the caller has gone is given back. */
  async #unlessGivenUp(work: Promise<number>, labels: string, signal: AbortSignal): Promise<number> {
    const over = Promise.withResolvers<never>();
    const giveUp = (): void => over.reject(this.#noIdentity(labels));
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp);
    try {
      return await Promise.race([work, over.promise]);
    } catch (error) {
      if (!signal.aborted) throw error;
      work.then(
        () => this.release(labels),
        () => undefined,
      );
      throw this.#noIdentity(labels);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  #noIdentity(labels: string): CiliumError {
    const text = `the kvstore gave no identity for ${labelsForPeople(labels)} in time; only labels that this node uses already do without it`;
    return new CiliumError('KvstoreUnavailable', text, { labels }, this.#lastFailure);
  }

  async #restore(labels: string, before: number): Promise<number> {
    const id = this.#masters.isListed && !this.#isSlow ? await this.#takeSoon(labels, before) : undefined;
    if (id !== undefined) return this.#hold(labels, id);
    this.#isSlow = true;
    if ((this.#table.get(before) ?? labels) !== labels) throw this.#noIdentity(labels);
    this.#assurance.trigger();
    return this.#hold(labels, before);
  }

  async #takeSoon(labels: string, before: number): Promise<number | undefined> {
    const done = new AbortController();
    const take = this.#keeper.take(labels, before).catch((error: unknown) => {
      if (!isCiliumError(error, 'KvstoreUnavailable')) throw error;
      this.#lastFailure = error;
      return undefined;
    });
    const limit = this.#clock.sleep(RESTORE_MS, done.signal).catch(() => undefined);
    try {
      return (await Promise.race([take, limit])) ?? undefined;
    } finally {
      done.abort();
    }
  }

  async #giveBack(labels: string): Promise<void> {
    const use = this.#local.get(labels);
    if (use?.users !== 0) return; // in use again
    await this.#keeper.drop(labels);
    if ((use.users as number) > 0) {
      await this.#assure(labels); // since then
      return;
    }
    this.#local.delete(labels);
    // A number of ours whose master key was lost meanwhile is nobody's now.
    for (const id of this.#table.numbersOf(labels))
      if (!this.#masters.entries.has(masterKey(id))) this.#table.forget(id);
  }

  async #assureAll(signal: AbortSignal): Promise<void> {
    const all = [...this.#local];
    const unused = all.filter(([, { users }]) => users === 0);
    await Promise.all(unused.map(([labels]) => this.#queue.run(labels, () => this.#giveBack(labels))));
    const used = all.filter(([, { users }]) => users > 0);
    for (let i = 0; i < used.length && !signal.aborted; i += BATCH_SIZE) {
      const batch = used.slice(i, i + BATCH_SIZE).map(([labels, { id }]) => [labels, id] as const);
      const amiss = await this.#keeper.findAmiss(batch);
      await Promise.all(amiss.map((labels) => this.#queue.run(labels, () => this.#assure(labels))));
    }
    this.#isSlow = false;
  }

  /** Writes the keys of a number that we use, or takes another one if it is not ours any more. */
  async #assure(labels: string): Promise<void> {
    const use = this.#local.get(labels);
    if (use === undefined || use.users === 0) return;
    const from = use.id;
    const kept = await this.#keeper.keep(labels, from);
    if (kept.isOurs) return;
    const to = await this.#keeper.take(labels, from);
    const { log } = this.#options;
    if (to === undefined) {
      this.#assurance.trigger();
      return;
    }
    this.#table.learn(to, labels);
    if (to === from) log.warn('Made a missing identity again', { identity: to, identityLabels: labels });
    else {
      log.error('Identity stands for other labels now', { identity: from, identityLabels: labels, newIdentity: to });
      use.id = to;
      await this.#tellMove({ labels, from, to });
      if (kept.others === undefined) this.#table.forget(from);
      else this.#table.learn(from, kept.others);
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
    if (id !== undefined && this.#isUsed(id) && this.#table.get(id) !== labels) this.#assurance.trigger();
    else if (id !== undefined && this.#isIdentity(id, labels)) this.#table.learn(id, labels);
    else {
      this.#options.log.warn('Not an identity; it is left out', { key, value: labels.slice(0, MAX_SHOWN) });
      if (id !== undefined) this.#table.forget(id);
    }
  }

  #onMasterDelete(key: string, labels: string): void {
    const id = parseIdentity(key.slice(MASTER_PREFIX.length));
    if (id === undefined || this.#table.get(id) !== labels) return;
    if (this.#isUsed(id)) this.#assurance.trigger();
    else this.#table.forget(id);
  }

  /** What was remembered and is not so any more. */
  #forgetUnlisted(): void {
    for (const [id] of this.#table) {
      if (this.#masters.entries.has(masterKey(id))) continue;
      if (this.#isUsed(id)) this.#assurance.trigger();
      else this.#table.forget(id);
    }
  }

  #isIdentity(id: number, labels: string): boolean {
    return this.#keeper.isInRange(id) && (this.#options.isLabels?.(labels) ?? true);
  }

  #isUsed(id: number): boolean {
    const use = this.#local.get(this.#table.get(id) ?? '');
    return use?.id === id && use.users > 0;
  }
}
