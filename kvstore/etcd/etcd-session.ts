// SPDX-License-Identifier: Apache-2.0

/**
 * The leases that this client's keys hang on: as many as it takes for none to carry too many, because etcd deletes the
 * keys of a lease that ends at one go. Whoever puts a key does not see which it is.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KeptLease } from './kept-lease.ts';

/** As Cilium has it. */
const MAX_KEYS_PER_LEASE = 1_000;

export interface EtcdSessionOptions {
  /** `onReplaced`: it has ended with all its keys, and has another number now. */
  readonly newLease: (onReplaced: () => void) => KeptLease;
  /** The keys of a lease have gone, and can be written again. */
  readonly onLost: () => void;
  /** @default MAX_KEYS_PER_LEASE */
  readonly maxKeys?: number | undefined;
}

interface Holder {
  readonly lease: KeptLease;
  readonly keys: Set<string>;
}

export class EtcdSession {
  readonly #options: EtcdSessionOptions;
  readonly #maxKeys: number;
  #holders: Holder[] = [];
  /** Which lease a key of ours hangs on. */
  readonly #byKey = new Map<string, Holder>();
  #growth: Promise<void> | undefined;

  constructor(options: EtcdSessionOptions) {
    this.#options = options;
    this.#maxKeys = options.maxKeys ?? MAX_KEYS_PER_LEASE;
  }

  /** How many leases there are. */
  get size(): number {
    return this.#holders.filter(({ lease }) => lease.id !== undefined).length;
  }

  /** Resolves when there is a lease. */
  async start(): Promise<void> {
    if (this.#holders.length === 0) await this.#grow();
  }

  /** From now on the time of the leases runs. May be called twice. */
  async stop(): Promise<void> {
    await this.#growth?.catch(() => undefined);
    await Promise.all(this.#holders.splice(0).map(({ lease }) => lease.stop()));
    this.#byKey.clear();
  }

  /** The lease of each key; `fresh`: those that hung on none of ours before, for `release` if they are not put after all. */
  async leasesFor(keys: readonly string[]): Promise<{ leases: ReadonlyMap<string, string>; fresh: readonly string[] }> {
    const leases = new Map<string, string>();
    const fresh: string[] = [];
    for (const key of keys) {
      let holder: Holder | undefined;
      while ((holder = this.#byKey.get(key) ?? this.#withRoom()) === undefined) await this.#grow();
      if (!holder.keys.has(key)) {
        this.#byKey.set(key, holder);
        holder.keys.add(key);
        fresh.push(key);
      }
      const { id } = holder.lease;
      if (id === undefined) throw new CiliumError('KvstoreUnavailable', 'the session of this client has ended');
      leases.set(key, id);
    }
    return { leases, fresh };
  }

  /** Keys that have been deleted, or were not put. Others than ours are left out. */
  release(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#byKey.get(key)?.keys.delete(key);
      this.#byKey.delete(key);
    }
  }

  /** As `release`, for all keys below. */
  releaseBelow(prefix: string): void {
    this.release([...this.#byKey.keys()].filter((key) => key.startsWith(prefix)));
  }

  isOwn(leaseId: string): boolean {
    return this.#holders.some(({ lease }) => lease.id === leaseId);
  }

  /** Looks now whether the leases still live. */
  check(): void {
    for (const { lease } of this.#holders) lease.check();
  }

  #withRoom(): Holder | undefined {
    return this.#holders.find(({ keys }) => keys.size < this.#maxKeys);
  }

  /** One more lease; those who ask meanwhile share it. */
  #grow(): Promise<void> {
    this.#growth ??= (async () => {
      const keys = new Set<string>();
      const lease = this.#options.newLease(() => {
        this.release([...keys]);
        this.#options.onLost();
      });
      await lease.start();
      this.#holders.push({ lease, keys });
    })().finally(() => {
      this.#growth = undefined;
    });
    return this.#growth;
  }
}
