// SPDX-License-Identifier: Apache-2.0

/** Follows a prefix and holds it to its word: every change is news, and in the end it knows what the store has. */
import assert from 'node:assert/strict';
import type { KvEntry, Kvstore } from '../../kvstore/kvstore.ts';
import { WatchedPrefix } from '../../kvstore/watched-prefix.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { eventually } from './eventually.ts';

export class Follower {
  readonly replica = new Map<string, string>();
  /** What was told that was not so: the same twice, a change backwards, the end of what was not there. */
  readonly lies: string[] = [];
  lists = 0;
  /** The store loses its data and counts anew: a change may go backwards. */
  revisionsBeginAnew = false;
  readonly #revisions = new Map<string, number>();
  readonly #watched: WatchedPrefix;

  constructor(store: Kvstore, prefix: string) {
    const list: Kvstore['list'] = (wanted) => {
      this.lists++;
      return store.list(wanted);
    };
    this.#watched = new WatchedPrefix({
      store: { list, watch: store.watch.bind(store), onSessionLost: store.onSessionLost.bind(store) },
      prefix,
      log: silentLogger,
      listener: {
        onPut: (entry) => this.#put(entry),
        onDelete: ({ key }) => this.#delete(key),
      },
    });
  }

  start(): Promise<void> {
    return this.#watched.start(new AbortController().signal);
  }

  stop(): Promise<void> {
    return this.#watched.stop();
  }

  /** `truth`: what the store has, asked for elsewhere. Waits until it is known here. */
  async agreesWith(truth: () => Promise<ReadonlyMap<string, string>>): Promise<void> {
    await eventually('what was told is what the store has', async () => {
      assert.deepEqual(new Map([...this.replica].sort()), new Map([...(await truth())].sort()));
    });
    assert.deepEqual(this.lies, []);
  }

  #put({ key, value, modRevision }: KvEntry): void {
    const known = this.#revisions.get(key);
    const isTwice = known === modRevision && this.replica.get(key) === value;
    const isBackwards = known !== undefined && known >= modRevision && !this.revisionsBeginAnew;
    if (isTwice || isBackwards) this.lies.push(`put ${key} ${modRevision} after ${String(known)}`);
    this.#revisions.set(key, modRevision);
    this.replica.set(key, value);
  }

  #delete(key: string): void {
    if (!this.replica.delete(key)) this.lies.push(`delete ${key}`);
    this.#revisions.delete(key);
  }
}

/** Writes, overwrites and deletes keys until it is stopped; remembers what was acknowledged. */
export class Writer {
  readonly acknowledged = new Map<string, string>();
  failures = 0;
  readonly #store: Kvstore;
  readonly #prefix: string;
  #isStopped = false;
  #work: Promise<void> | undefined;

  constructor(store: Kvstore, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
  }

  start(): void {
    this.#work = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#work;
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.#isStopped; turn++) {
      const key = `${this.#prefix}${turn % 50}`;
      try {
        if (turn % 7 === 0) {
          await this.#store.delete(key);
          this.acknowledged.delete(key);
        } else {
          await this.#store.put(key, String(turn));
          this.acknowledged.set(key, String(turn));
        }
      } catch {
        this.failures++;
        this.acknowledged.delete(key); // done or not
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }
}
