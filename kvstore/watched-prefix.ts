// SPDX-License-Identifier: Apache-2.0

/**
 * List-then-watch: a cache of all keys below a prefix that follows the store.
 *
 * The first list is told as puts; then come changes as they happen. A watch that is lost goes on where it ended. When
 * the store no longer has what came after that, the prefix is listed again and the difference is told: what is new or was
 * written since as puts, what has gone as deletes. So listeners see every key's last state, but not every state between.
 *
 * What is kept of an entry is up to the listener (`keep`): of a large prefix that should be little.
 */
import { Controller } from '../runtime/controller.ts';
import { systemClock, type Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import type { KvEntry, KvEvent, Kvstore, Watch } from './kvstore.ts';

/** What happens while nobody follows is known late: not as patient as other work. */
const RETRY = { minBackoffMs: 250, maxBackoffMs: 5_000 };
/** How long a start that may do without a list waits for it. */
const PATIENCE_MS = 5_000;

/** What a cache has to know of an entry. */
export interface KeptEntry {
  readonly modRevision: number;
  /** Without it an entry whose revision a store that has lost its data may have given anew is told again. */
  readonly value?: string;
}

export interface PrefixListener<Kept> {
  /** `old`: what the cache held before. Must not throw. */
  onPut(entry: Kept, old: Kept | undefined): void;
  /** `old`: the last known entry. Must not throw. */
  onDelete(old: Kept): void;
  /** A list has been told: all that is in the cache is so, as of then. Must not throw. */
  onListed?(): void;
}

interface Following<Kept> {
  readonly store: Pick<Kvstore, 'list' | 'watch' | 'onSessionLost'> & Partial<Pick<Kvstore, 'isConnected'>>;
  readonly prefix: string;
  readonly listener: PrefixListener<Kept>;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default false: `start` does not wait for a store that is away. */
  readonly mayStartWithout?: boolean;
}

/** `keep`: makes of an entry what the cache holds and the listener is told. Must not throw. @default the entry itself */
export type WatchedPrefixOptions<Kept extends KeptEntry = KvEntry> = Following<Kept> &
  (KvEntry extends Kept ? { readonly keep?: (entry: KvEntry) => Kept } : { readonly keep: (entry: KvEntry) => Kept });

export class WatchedPrefix<Kept extends KeptEntry = KvEntry> implements Component {
  readonly name: string;
  readonly #options: Following<Kept>;
  readonly #keep: (entry: KvEntry) => Kept;
  readonly #entries = new Map<string, Kept>();
  readonly #sync: Controller;
  #watch: Watch | undefined;
  /** Revision after the last one that is known here. */
  #next = 0;
  #mustList = true;
  /** Revisions of before may have been given anew. */
  #isNewStore = false;
  #isListed = false;
  #onListed: (() => void) | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(options: WatchedPrefixOptions<Kept>) {
    this.#options = options;
    this.#keep = options.keep ?? ((entry) => entry as KeptEntry as Kept);
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
  get entries(): ReadonlyMap<string, Kept> {
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
      try {
        await this.#list();
      } catch (error) {
        this.#mustList = true;
        throw error;
      }
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
    this.#isNewStore = true;
    this.#sync.trigger();
  }

  async #list(): Promise<void> {
    const { store, prefix } = this.#options;
    const isNewStore = this.#isNewStore;
    this.#isNewStore = false; // set again while we list: list again
    /** What may have gone. */
    const missing = new Set(this.#entries.keys());
    const take = (entries: readonly KvEntry[]): void => {
      for (const entry of entries) {
        missing.delete(entry.key);
        const known = this.#entries.get(entry.key);
        const isSame = known?.value === undefined ? !isNewStore : known.value === entry.value;
        if (known?.modRevision !== entry.modRevision || !isSame) this.#put(entry);
      }
    };
    try {
      const list = await store.list(prefix, take);
      take(list.entries);
      for (const key of missing) this.#delete(key);
      this.#next = list.revision + 1;
    } catch (error) {
      this.#isNewStore ||= isNewStore;
      throw error;
    }
  }

  #apply(event: KvEvent): void {
    if (event.type === 'put') this.#put(event.entry);
    else this.#delete(event.key);
  }

  #put(entry: KvEntry): void {
    const old = this.#entries.get(entry.key);
    const kept = this.#keep(entry);
    this.#entries.set(entry.key, kept);
    this.#options.listener.onPut(kept, old);
  }

  #delete(key: string): void {
    const old = this.#entries.get(key);
    if (old === undefined) return;
    this.#entries.delete(key);
    this.#options.listener.onDelete(old);
  }
}
