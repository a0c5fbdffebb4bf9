// SPDX-License-Identifier: Apache-2.0

/**
 * The ways to take a number for one label set, each a single transaction. The first follows what is believed; when it
 * does not hold, it brings back what is so, from which the next is made.
 *
 *   join     others use the number: their slave key and the master key must be there
 *   reuse    nobody uses it, but it has not been collected yet: its master key is written again, so that it will not be
 *   renew    others use it, but its master key is missing
 *   new      nobody has made one: no slave key may come to be meanwhile, and the master key must be free
 *
 * Agents of Cilium hold a lock while they look and write. Ours need none, but wait for theirs before they make a number.
 */
import type { KvCondition, KvEntry, KvRead, KvTransactionResult } from '../kvstore.ts';
import { lockPath, MASTER_PREFIX, masterKey, parseIdentity, SLAVE_PREFIX } from './identity-keys.ts';

/** Several are a rare accident, or mischief. */
const MAX_KNOWN = 8;

export interface Plan {
  readonly id: number;
  readonly when: readonly KvCondition[];
  /** Besides our slave key. */
  readonly writesMaster: boolean;
  /** What the next plan has to know. */
  readonly otherwise: readonly KvRead[];
}

export interface IdentityPlansOptions {
  readonly labels: string;
  /** Numbers that are believed to stand for the labels. */
  readonly known: Iterable<number>;
  /** To be made if none is in use. */
  readonly preferred?: number | undefined;
  readonly isInRange: (id: number) => boolean;
  /** A number that nobody is believed to have, and that is none of these; throws when there is none. */
  readonly pick: (except: ReadonlySet<number>) => number;
}

export class IdentityPlans {
  readonly #options: IdentityPlansOptions;
  readonly #slaves: string;
  readonly #locks: string;
  /** Numbers whose master key is looked at. */
  readonly #looked: Set<number>;

  constructor(options: IdentityPlansOptions) {
    this.#options = options;
    this.#slaves = `${SLAVE_PREFIX}${options.labels}/`;
    this.#locks = `${lockPath(options.labels)}/`;
    this.#looked = new Set([...options.known].slice(0, MAX_KNOWN));
  }

  first(): Plan {
    const [known] = this.#looked;
    if (known === undefined) return this.#new(0, new Map());
    return this.#plan(known, false, [
      { prefix: this.#slaves, value: String(known) },
      { key: masterKey(known), value: this.#options.labels },
    ]);
  }

  /** `undefined`: somebody is making a number under a lock; wait. */
  next({ found = [], revision }: Pick<KvTransactionResult, 'found' | 'revision'>): Plan | undefined {
    const { labels } = this.#options;
    const masters = new Map(found.map((entry) => [entry.key, entry]));
    const users = found.flatMap((slave) => {
      const id = this.#numberOf(slave);
      return id === undefined ? [] : [{ id, key: masterKey(id), isUsed: { key: slave.key, value: slave.value } }];
    });
    for (const { id, key, isUsed } of users) {
      const isNews = !this.#looked.has(id);
      this.#looked.add(id);
      if (isNews || masters.get(key)?.value === labels) return this.#plan(id, false, [isUsed, { key, value: labels }]);
    }
    for (const { id, key, isUsed } of users) {
      if (masters.has(key)) continue;
      return this.#plan(id, true, [isUsed, ...this.#isUnused(revision), { key, exists: false }]);
    }
    // One without a lease is nobody's.
    if (found.some(({ key, leaseId }) => leaseId !== undefined && isDirectlyBelow(key, this.#locks))) return undefined;
    for (const id of this.#looked) {
      const master = masters.get(masterKey(id));
      if (master?.value !== labels) continue;
      const isSame: KvCondition = { key: master.key, modRevision: master.modRevision };
      return this.#plan(id, true, [...this.#isUnused(revision), isSame]);
    }
    return this.#new(revision, masters);
  }

  #new(revision: number, masters: ReadonlyMap<string, KvEntry>): Plan {
    const { preferred, pick } = this.#options;
    const isFree = preferred !== undefined && !masters.has(masterKey(preferred));
    const id = isFree ? preferred : pick(this.#looked);
    this.#looked.add(id);
    return this.#plan(id, true, [...this.#isUnused(revision), { key: masterKey(id), exists: false }]);
  }

  /** Nobody has begun to use the labels, or to make a number, since they were looked at; 0: nobody does at all. */
  #isUnused(revision: number): KvCondition[] {
    return [this.#slaves, this.#locks].map((prefix) => ({ prefix, unchangedSince: revision }));
  }

  #plan(id: number, writesMaster: boolean, when: readonly KvCondition[]): Plan {
    const looks = [...this.#looked].map((number) => ({ get: masterKey(number) }));
    return { id, when, writesMaster, otherwise: [{ list: this.#slaves }, { list: this.#locks }, ...looks] };
  }

  /** The number in a slave key of these labels. */
  #numberOf({ key, value }: KvEntry): number | undefined {
    const id = isDirectlyBelow(key, this.#slaves) ? parseIdentity(value) : undefined;
    return id !== undefined && this.#options.isInRange(id) ? id : undefined;
  }
}

/** A slash further on belongs to a longer label set that begins with this one. */
function isDirectlyBelow(key: string, prefix: string): boolean {
  return key.startsWith(prefix) && !key.includes('/', prefix.length);
}

/** The number of a master key. */
export function numberOfMaster(key: string): number | undefined {
  return key.startsWith(MASTER_PREFIX) ? parseIdentity(key.slice(MASTER_PREFIX.length)) : undefined;
}
