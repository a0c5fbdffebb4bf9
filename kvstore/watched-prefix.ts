// SPDX-License-Identifier: Apache-2.0

/**
 * List-then-watch: a cache of all keys below a prefix that follows the store.
 *
 * The first list is told as puts; then come changes as they happen. A watch that is lost goes on where it ended. When
 * the store no longer has what came after that, the prefix is listed again and the difference is told: what has gone as
 * deletes, what is new or was written since as puts. So listeners see every key's last state, but not every state between.
 */
import { Controller } from '../runtime/controller.ts';
import { systemClock, type Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import type { KvEntry, KvEvent, KvList, Kvstore, Watch } from './kvstore.ts';

/** What happens while nobody follows is known late: not as patient as other work. */
const RETRY = { minBackoffMs: 250, maxBackoffMs: 5_000 };
/** How long a start that may do without a list waits for it. */
const PATIENCE_MS = 5_000;

export interface PrefixListener {
  /** `old`: what the cache held before. Must not throw. */
  onPut(entry: KvEntry, old: KvEntry | undefined): void;
  /** `old`: the last known entry. Must not throw. */
  onDelete(old: KvEntry): void;
  /** A list has been told: all that is in the cache is so, as of then. Must not throw. */
  onListed?(): void;
}

export interface WatchedPrefixOptions {
  readonly store: Pick<Kvstore, 'list' | 'watch' | 'onSessionLost'> & Partial<Pick<Kvstore, 'isConnected'>>;
  readonly prefix: string;
  readonly listener: PrefixListener;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default false: `start` does not wait for a store that is away. */
  readonly mayStartWithout?: boolean;
}

export class WatchedPrefix implements Component {
  readonly name: string;
  readonly #options: WatchedPrefixOptions;
  readonly #entries = new Map<string, KvEntry>();
  readonly #sync: Controller;
  #watch: Watch | undefined;
  /** Revision after the last one that is known here. */
  #next = 0;
  #mustList = true;
  #isListed = false;
  #onListed: (() => void) | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(options: WatchedPrefixOptions) {
    this.#options = options;
    this.name = `watch ${options.prefix}`;
    const { log, clock } = options;
    this.#sync = new Controller({ name: this.name, run: () => this.#follow(), log, ...RETRY, ...(clock && { clock }) });
  }

  /** Resolves when the first list is complete, however often that has to be tried; or sooner, see `mayStartWithout`. */
  async start(signal: AbortSignal): Promise<void> {
    const { store, mayStartWithout = false, clock = systemClock } = this.#options;
    const listed = new Promise<void>((resolve, reject) => {
      this.#onListed = resolve;
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
    listed.catch(() => undefined); // nobody may be waiting for it
    this.#unsubscribe = this.#options.store.onSessionLost(() => this.#distrust());
    this.#sync.trigger();
    this.#sync.start();
    const enough = new AbortController();
    try {
      if (!mayStartWithout) await listed;
      else if (store.isConnected !== false) await Promise.race([listed, clock.sleep(PATIENCE_MS, enough.signal)]);
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      enough.abort();
    }
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#sync.stop();
    this.#watch?.close();
    this.#watch = undefined;
  }

  /** What the cache holds; not to be changed. */
  get entries(): ReadonlyMap<string, KvEntry> {
    return this.#entries;
  }

  /** Whether the cache shows the store, as of the last that was heard of it. */
  get isListed(): boolean {
    return this.#isListed;
  }

  /** Resolves when the watch stands. */
  async #follow(): Promise<void> {
    const { store, prefix, log } = this.#options;
    this.#watch?.close();
    this.#watch = undefined;
    if (this.#mustList) {
      this.#mustList = false; // set again while we list: list again
      const list = await store.list(prefix).catch((error: unknown) => {
        this.#mustList = true;
        throw error;
      });
      this.#replace(list);
      this.#next = list.revision + 1;
      this.#isListed = true;
      this.#options.listener.onListed?.();
      this.#onListed?.();
    }
    const state = { stands: false, hasEnded: false };
    const watch = store.watch(prefix, this.#next, {
      onEvents: (events) => {
        for (const event of events) {
          this.#apply(event);
          this.#next = (event.type === 'put' ? event.entry.modRevision : event.modRevision) + 1;
        }
      },
      onEnd: (reason, error) => {
        log.debug('Watch ended', { prefix, reason, error });
        state.hasEnded = true;
        this.#watch = undefined;
        if (reason === 'compacted') this.#mustList = true;
        // One that never stood is tried again with back-off.
        if (state.stands || reason === 'compacted') this.#sync.trigger();
      },
    });
    this.#watch = watch;
    await watch.started;
    state.stands = true;
    if (state.hasEnded) this.#sync.trigger();
  }

  /** A store that does not know our session may have lost everything, and its revisions begun anew. */
  #distrust(): void {
    this.#mustList = true;
    this.#sync.trigger();
  }

  #replace(list: KvList): void {
    const present = new Set(list.entries.map(({ key }) => key));
    for (const key of [...this.#entries.keys()]) {
      if (!present.has(key)) this.#apply({ type: 'delete', key, modRevision: list.revision });
    }
    for (const entry of list.entries) {
      const known = this.#entries.get(entry.key);
      // The value, too: a store that has lost its data counts from the beginning.
      const isKnown = known?.modRevision === entry.modRevision && known.value === entry.value;
      if (!isKnown) this.#apply({ type: 'put', entry });
    }
  }

  #apply(event: KvEvent): void {
    const { listener } = this.#options;
    if (event.type === 'put') {
      const { entry } = event;
      const old = this.#entries.get(entry.key);
      this.#entries.set(entry.key, entry);
      listener.onPut(entry, old);
      return;
    }
    const old = this.#entries.get(event.key);
    if (old === undefined) return;
    this.#entries.delete(event.key);
    listener.onDelete(old);
  }
}
