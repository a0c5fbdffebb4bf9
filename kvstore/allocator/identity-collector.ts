// SPDX-License-Identifier: Apache-2.0

/**
 * Deletes the numbers that no node uses any more. One node does it for all, the one that holds the collector's key.
 *
 * Only what was unused at two rounds in a row and was not written between them goes, so a node that is about to use a
 * number again, or was away for less than an interval, keeps it.
 */
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { KvEntry, Kvstore } from '../kvstore.ts';
import {
  COLLECTOR_KEY,
  IDENTITIES_PATH,
  labelsOfSlave,
  masterKey,
  parseIdentity,
  SLAVE_PREFIX,
} from './identity-keys.ts';
import { numberOfMaster } from './identity-plans.ts';

/** As long as a session usually is: whoever lost its session has had the time to come back. */
export const COLLECTION_INTERVAL_MS = 15 * 60_000;
/** More wait for the next round, so that a store that is shared is not flooded. */
const MAX_DELETIONS_PER_ROUND = 2_500;

export interface IdentityCollectorOptions {
  readonly store: Kvstore;
  /** Who this node is among those that could collect. */
  readonly node: string;
  /** Numbers outside belong to somebody else. */
  readonly range: { readonly min: number; readonly max: number };
  readonly log: Logger;
  readonly clock?: Clock;
}

interface Candidate {
  readonly id: number;
  readonly labels: string;
  readonly modRevision: number;
}

export class IdentityCollector implements Component {
  readonly name = 'identity-collector';
  readonly #options: IdentityCollectorOptions;
  readonly #rounds: Controller;
  /** Unused master keys of the last round and their revisions. */
  #unused = new Map<string, number>();
  #isNew = true;

  constructor(options: IdentityCollectorOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#rounds = new Controller({
      name: this.name,
      run: () => this.#round(),
      intervalMs: COLLECTION_INTERVAL_MS,
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

  /** One look at the store; returns how many numbers were deleted. */
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

  /** A node that has just started has other things to do. */
  async #round(): Promise<void> {
    const isNew = this.#isNew;
    this.#isNew = false;
    if (isNew) return;
    if (await this.#isInCharge()) await this.collect();
    else this.#unused.clear();
  }

  /** Whoever finds the key missing makes it, and it goes with its session. */
  async #isInCharge(): Promise<boolean> {
    const { store, node } = this.#options;
    const key = COLLECTOR_KEY;
    const then = [{ put: key, value: node, leased: true }];
    const first = await store.transact({ when: [{ key, exists: false }], then, otherwise: [{ get: key }] });
    if (first.succeeded) return true;
    const [holder] = first.found ?? [];
    if (holder === undefined) return false;
    if (store.isOwn(holder)) return true;
    // Ours, from before a restart, or nobody's.
    const { modRevision, value, leaseId } = holder;
    if (value !== node && leaseId !== undefined) return false;
    return (await store.transact({ when: [{ key, modRevision }], then })).succeeded;
  }

  async #findUnused(): Promise<Map<string, number>> {
    const candidates = new Map<number, Candidate>();
    const seen = (entry: KvEntry): void => {
      const candidate = this.#candidateOf(entry);
      if (candidate !== undefined) candidates.set(candidate.id, candidate);
      if (!entry.key.startsWith(SLAVE_PREFIX)) return;
      const id = parseIdentity(entry.value);
      if (id !== undefined && candidates.get(id)?.labels === labelsOfSlave(entry.key)) candidates.delete(id);
    };
    // Both kinds of keys in one list, of one revision; master keys come before slave keys.
    const page = (entries: readonly KvEntry[]): void => entries.forEach(seen);
    page((await this.#options.store.list(IDENTITIES_PATH, page)).entries);
    return new Map([...candidates.values()].map(({ id, modRevision }) => [masterKey(id), modRevision]));
  }

  #candidateOf({ key, value, modRevision }: KvEntry): Candidate | undefined {
    const id = numberOfMaster(key);
    const { min, max } = this.#options.range;
    return id === undefined || id < min || id > max ? undefined : { id, labels: value, modRevision };
  }
}
