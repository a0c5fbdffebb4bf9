// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps the kernel's ipcache map as the Ipcache is.
 *
 * A change is written before `upsert` or `delete` of the Ipcache returns, so the order in which the agent calls is the
 * order in which packets see it: an identity is put into the policy maps before an address gets it, and its last address
 * is taken away before it leaves them.
 *
 * What the map refuses is tried again with back-off, by comparing the whole map with what it should be. That is also done
 * at the start, where it takes over what an earlier agent wrote and touches only what differs, and now and then, against
 * hands from outside.
 */
import type { Component } from '../runtime/component.ts';
import type { Clock } from '../runtime/clock.ts';
import { Controller } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import type { Prefix } from '../net/ip.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { sameEntry, type Ipcache, type IpcacheChange, type IpcacheEntry } from './ipcache.ts';

/** How often the map is compared with what it should be. Reading 50,000 entries takes about 50 ms. */
const COMPARE_INTERVAL_MS = 10 * 60_000;

/** The kernel's map, as this class needs it. A longest-prefix map; both writes throw when the kernel refuses. */
export interface IpcacheKernelMap {
  update(prefix: Prefix, info: IpcacheEntry): void;
  /** A prefix that is not there is no error. */
  delete(prefix: Prefix): unknown;
  entries(): Iterable<{ readonly prefix: Prefix; readonly info: IpcacheEntry }>;
}

export interface IpcacheWriterOptions {
  readonly ipcache: Ipcache;
  readonly map: IpcacheKernelMap;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class IpcacheWriter implements Component {
  readonly name = 'ipcache-writer';
  readonly #options: IpcacheWriterOptions;
  readonly #comparison: Controller;
  /** Prefixes that the map does not hold as it should, by their text, with the reason. */
  readonly #failed = new Map<string, unknown>();
  /** The start has compared, just before the controller's first run. */
  #isJustDone = false;
  #unsubscribe: (() => void) | undefined;

  constructor(options: IpcacheWriterOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#comparison = new Controller({
      name: 'ipcache-compare',
      run: () => Promise.resolve().then(() => this.#compareUnlessJustDone()),
      intervalMs: COMPARE_INTERVAL_MS,
      log,
      ...(clock && { clock }),
    });
  }

  /**
   * Brings the map to what the Ipcache says now, then follows it. Whatever is to survive a restart must be in the
   * Ipcache before: what nobody wants is removed from the map.
   */
  start(): Promise<void> {
    this.#unsubscribe = this.#options.ipcache.onChange((change) => this.#write(change));
    try {
      this.#compare();
      this.#isJustDone = true;
    } catch (error) {
      this.#options.log.error('The ipcache map refuses addresses', { error });
      this.#comparison.trigger();
    }
    this.#comparison.start();
    return Promise.resolve();
  }

  /** Leaves the map as it is: the kernel goes on with it. */
  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#comparison.stop();
  }

  /** Prefixes that the kernel does not know as it should, with the reason; empty when all is well. */
  get failed(): ReadonlyMap<string, unknown> {
    return this.#failed;
  }

  #write(change: IpcacheChange): void {
    if (this.#apply(change)) return;
    // One line when it begins: a full map refuses everything that follows.
    if (this.#failed.size === 1) {
      const { prefix } = change;
      const error = this.#failed.get(prefix.toString());
      this.#options.log.error('The ipcache map refuses an address', { prefix, error });
    }
    this.#comparison.trigger();
  }

  #apply({ prefix, entry }: Pick<IpcacheChange, 'prefix' | 'entry'>): boolean {
    const { map } = this.#options;
    try {
      if (entry === undefined) map.delete(prefix);
      else map.update(prefix, entry);
      if (this.#failed.size > 0) this.#failed.delete(prefix.toString());
      return true;
    } catch (error) {
      this.#failed.set(prefix.toString(), error);
      return false;
    }
  }

  #compareUnlessJustDone(): void {
    if (!this.#isJustDone) this.#compare();
    this.#isJustDone = false;
  }

  /** Writes what differs: additions first, so that no address is without an identity meanwhile. */
  #compare(): void {
    const { ipcache, map, log } = this.#options;
    const kernel = new Map<string, { readonly prefix: Prefix; readonly info: IpcacheEntry }>();
    for (const present of map.entries()) kernel.set(keyOf(present.prefix), present);
    this.#failed.clear();
    let written = 0;
    for (const { prefix, entry } of ipcache.records()) {
      const key = keyOf(prefix);
      const isRight = sameEntry(kernel.get(key)?.info, entry);
      kernel.delete(key);
      if (!isRight && this.#apply({ prefix, entry })) written++;
    }
    let removed = 0;
    for (const { prefix } of kernel.values()) if (this.#apply({ prefix, entry: undefined })) removed++;
    if (written + removed > 0) log.info('Corrected the ipcache map', { written, removed });
    const [first] = this.#failed;
    if (first === undefined) return;
    throw new CiliumError('MapFull', `${this.#failed.size} prefixes are not in the ipcache map`, {}, first[1]);
  }
}

/** The text of a single address is that of its prefix, which stays in memory with it. */
function keyOf(prefix: Prefix): string {
  return prefix.isHost ? prefix.address.toString() : prefix.toString();
}
