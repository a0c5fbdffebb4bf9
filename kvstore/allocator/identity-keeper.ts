// SPDX-License-Identifier: Apache-2.0

/** The keys of the numbers that a node takes and keeps: what is written to the store, and what must hold for it. */
import { CiliumError } from '../../errors/cilium-error.ts';
import { MAX_TRANSACTION_SIZE, type KvOperation, type Kvstore, type KvTransactionResult } from '../kvstore.ts';
import { masterKey, slaveKey } from './identity-keys.ts';
import { IdentityPlans, type Plan } from './identity-plans.ts';

/** How often in a row what was found is acted upon at once. */
const MAX_PLANS = 4;
/** Labels whose keys are looked at with one request. */
export const BATCH_SIZE = MAX_TRANSACTION_SIZE / 2;

export interface IdentityKeeperOptions {
  readonly store: Kvstore;
  /** An address of this node that no other node has. */
  readonly node: string;
  /** The numbers to take from, both ends included. */
  readonly range: { readonly min: number; readonly max: number };
  readonly numbersOf: (labels: string) => Iterable<number>;
  readonly isKnown: (id: number) => boolean;
  /** Whether a master key may say this. */
  readonly isIdentity: (id: number, labels: string) => boolean;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** What came of an attempt to keep a number: `others` have it, or nobody. */
export type Kept = { readonly isOurs: true } | { readonly isOurs: false; readonly others: string | undefined };

export class IdentityKeeper {
  readonly #options: IdentityKeeperOptions;
  /** Numbers that are being taken. */
  readonly #taking = new Set<number>();

  constructor(options: IdentityKeeperOptions) {
    this.#options = options;
  }

  isInRange(id: number): boolean {
    return id >= this.#options.range.min && id <= this.#options.range.max;
  }

  /** One attempt to take a number; `undefined` when others were faster again and again. Throws `PoolExhausted`. */
  async take(labels: string, preferred: number | undefined): Promise<number | undefined> {
    const plans = new IdentityPlans({
      labels,
      known: this.#options.numbersOf(labels),
      preferred,
      isInRange: (id) => this.isInRange(id),
      pick: (except) => this.#pick(except),
    });
    let plan: Plan | undefined = plans.first();
    for (let count = 0; plan !== undefined && count < MAX_PLANS; count++) {
      const { id } = plan;
      this.#taking.add(id);
      const result = await this.#write(labels, plan).finally(() => this.#taking.delete(id));
      if (result.succeeded) return id;
      plan = plans.next(result);
    }
    return undefined;
  }

  /** Writes our slave key, and the master key if its value is no identity. */
  async keep(labels: string, id: number): Promise<Kept> {
    const key = masterKey(id);
    let value = labels;
    for (let count = 0; count < MAX_PLANS; count++) {
      const plan = { id, when: [{ key, value }], writesMaster: value !== labels, otherwise: [{ get: key }] };
      const { succeeded, found } = await this.#write(labels, plan);
      if (succeeded) return { isOurs: true };
      const others = found?.[0]?.value;
      if (others === undefined || this.#options.isIdentity(id, others)) return { isOurs: false, others };
      value = others;
    }
    throw new CiliumError('KvstoreUnavailable', `the labels of identity ${id} are overwritten again and again`, { id });
  }

  async drop(labels: string): Promise<void> {
    await this.#options.store.delete(slaveKey(labels, this.#options.node));
  }

  /** Labels whose keys are not as they should be; at most BATCH_SIZE of them cost one request. */
  async findAmiss(uses: readonly (readonly [labels: string, id: number])[]): Promise<string[]> {
    const { store, node } = this.#options;
    const present = await store.getAll(uses.flatMap(([labels, id]) => [masterKey(id), slaveKey(labels, node)]));
    const isWell = (labels: string, id: number): boolean => {
      const own = present.get(slaveKey(labels, node));
      return present.get(masterKey(id))?.value === labels && own?.value === String(id) && store.isOwn(own);
    };
    return uses.filter(([labels, id]) => !isWell(labels, id)).map(([labels]) => labels);
  }

  #write(labels: string, { id, when, writesMaster, otherwise }: Plan): Promise<KvTransactionResult> {
    const slave: KvOperation = { put: slaveKey(labels, this.#options.node), value: String(id), leased: true };
    const then = writesMaster ? [{ put: masterKey(id), value: labels }, slave] : [slave];
    return this.#options.store.transact({ when, then, otherwise });
  }

  /** A number that nobody is known to have, from a random place on. */
  #pick(except: ReadonlySet<number>): number {
    const { range, random, isKnown } = this.#options;
    const { min, max } = range;
    const count = max - min + 1;
    const start = Math.floor(random() * count);
    for (let i = 0; i < count; i++) {
      const id = min + ((start + i) % count);
      if (!isKnown(id) && !this.#taking.has(id) && !except.has(id)) return id;
    }
    throw new CiliumError('PoolExhausted', `all ${count} identities are in use; use fewer different sets of labels`, {
      min,
      max,
    });
  }
}
