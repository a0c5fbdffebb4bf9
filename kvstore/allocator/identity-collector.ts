// SPDX-License-Identifier: Apache-2.0

/**
 * Deletes the numbers that no node uses any more.
 *
 * Only what was unused at two rounds in a row and was not written between them goes, so a node that is about to use a
 * number again, or was away for less than an interval, keeps it.
 */
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { Kvstore } from '../kvstore.ts';
import { IDENTITIES_PATH, labelsOfSlave, MASTER_PREFIX, parseIdentity, SLAVE_PREFIX } from './identity-keys.ts';

/** As long as a session: whoever lost its session has had the time to come back. */
const COLLECTION_INTERVAL_MS = 15 * 60_000;
/** More wait for the next round, so that a store that is shared is not flooded. */
const MAX_DELETIONS_PER_ROUND = 2_500;

export interface IdentityCollectorOptions {
  readonly store: Kvstore;
  /** Numbers outside belong to somebody else. */
  readonly range: { readonly min: number; readonly max: number };
  readonly log: Logger;
  readonly clock?: Clock;
}

export class IdentityCollector implements Component {
  readonly name = 'identity-collector';
  readonly #options: IdentityCollectorOptions;
  readonly #rounds: Controller;
  /** Unused master keys of the last round and their revisions. */
  #unused = new Map<string, number>();

  constructor(options: IdentityCollectorOptions) {
    this.#options = options;
    const { log, clock } = options;
    const intervalMs = COLLECTION_INTERVAL_MS;
    this.#rounds = new Controller({
      name: this.name,
      run: async () => {
        await this.collect();
      },
      intervalMs,
      log,
      ...(clock && { clock }),
    });
  }

  start(): Promise<void> {
    this.#rounds.start();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#rounds.stop();
  }

  /** One round; returns how many numbers were deleted. */
  async collect(): Promise<number> {
    const { store, log } = this.#options;
    const unused = await this.#findUnused();
    let deleted = 0;
    for (const [key, modRevision] of unused) {
      if (this.#unused.get(key) !== modRevision || deleted >= MAX_DELETIONS_PER_ROUND) continue;
      const { succeeded } = await store.transact({ when: [{ key, modRevision }], then: [{ delete: key }] });
      unused.delete(key);
      if (succeeded) deleted++;
    }
    this.#unused = unused;
    if (deleted > 0) log.info('Collected unused identities', { deleted });
    return deleted;
  }

  async #findUnused(): Promise<Map<string, number>> {
    const { store, range } = this.#options;
    // Both kinds of keys in one list: of one revision.
    const { entries } = await store.list(IDENTITIES_PATH);
    const used = new Set<string>();
    for (const { key, value } of entries) {
      if (key.startsWith(SLAVE_PREFIX)) used.add(`${value} ${labelsOfSlave(key)}`);
    }
    const unused = new Map<string, number>();
    for (const { key, value, modRevision } of entries) {
      if (!key.startsWith(MASTER_PREFIX)) continue;
      const id = parseIdentity(key.slice(MASTER_PREFIX.length));
      if (id === undefined || id < range.min || id > range.max || used.has(`${id} ${value}`)) continue;
      unused.set(key, modRevision);
    }
    return unused;
  }
}
