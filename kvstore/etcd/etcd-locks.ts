// SPDX-License-Identifier: Apache-2.0

/**
 * Locks between all clients of a cluster, in the way of etcd's own tools: who wants the lock `path` makes the key
 * `path/<lease>`, and has it when no older key stands there. Each waits for the one before it only.
 *
 * All locks of a client hang on one short lease, so those of a client that has died are free soon.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { LOCK_TIMEOUT_MS, type KvEntry, type KvLock, type Kvstore } from '../kvstore.ts';
import { LockTable } from '../lock-table.ts';
import { isKind } from './etcd-fault.ts';
import type { KeptLease } from './kept-lease.ts';

/** How long a lock outlives its holder. */
export const LOCK_TTL_MS = 25_000;
/** A watch may miss that its key has gone before it began: look again. */
const LOOK_AGAIN_MS = 5_000;

export interface EtcdLocksOptions {
  readonly store: Pick<Kvstore, 'get' | 'list' | 'delete' | 'watch'>;
  /** Makes the key if it does not exist, attached to the lease; returns whether it did. */
  readonly create: (key: string, leaseId: string) => Promise<boolean>;
  readonly newLease: () => KeptLease;
  readonly log: Logger;
  readonly clock: Clock;
}

export class EtcdLocks {
  readonly #options: EtcdLocksOptions;
  /** Between callers of this client: they share a lease, and so a key. */
  readonly #local: LockTable;
  readonly #deletion: Controller;
  /** Keys of ours that could not be deleted, or may have been made after all. */
  readonly #leftovers = new Set<string>();
  #lease: Promise<KeptLease> | undefined;
  #hasLease = false;
  readonly #unlocks = new Set<() => void>();

  constructor(options: EtcdLocksOptions) {
    this.#options = options;
    const { clock, log } = options;
    this.#local = new LockTable(clock, LOCK_TIMEOUT_MS);
    this.#deletion = new Controller({ name: 'kvstore-unlock', run: () => this.#deleteLeftovers(), log, clock });
  }

  /** How many leases there are for locks. */
  get leases(): number {
    return this.#hasLease ? 1 : 0;
  }

  start(): void {
    this.#deletion.start();
  }

  /** Gives all locks back. */
  async stop(): Promise<void> {
    await this.#deletion.stop();
    const lease = await this.#lease?.catch(() => undefined);
    this.#lease = undefined;
    this.#hasLease = false;
    try {
      await lease?.revoke();
    } catch (error) {
      this.#options.log.debug('Locks stay until their lease ends', { error });
    }
    for (const unlock of this.#unlocks) unlock();
    this.#unlocks.clear();
  }

  async lock(path: string, signal?: AbortSignal): Promise<KvLock> {
    const unlockLocal = await this.#local.acquire(path, signal);
    const done = new AbortController();
    const timeout = new AbortController();
    this.#options.clock.sleep(LOCK_TIMEOUT_MS, done.signal).then(
      () => timeout.abort(new CiliumError('Timeout', `lock ${path} was not free within ${LOCK_TIMEOUT_MS / 1000} s`)),
      () => undefined, // got it, or not
    );
    try {
      const limit = AbortSignal.any([timeout.signal, ...(signal === undefined ? [] : [signal])]);
      const own = await this.#acquire(path, limit);
      return this.#held(own, unlockLocal);
    } catch (error) {
      unlockLocal();
      throw error;
    } finally {
      done.abort();
    }
  }

  #held({ key, modRevision }: KvEntry, unlockLocal: () => void): KvLock {
    this.#unlocks.add(unlockLocal);
    return {
      guards: [{ key, modRevision }],
      unlock: async () => {
        if (!this.#unlocks.delete(unlockLocal)) return;
        await this.#delete(key);
        unlockLocal();
      },
    };
  }

  /** Resolves with our key when it is the oldest. */
  async #acquire(path: string, signal: AbortSignal): Promise<KvEntry> {
    for (;;) {
      const lease = await this.#openLease();
      const id = lease.id;
      if (id === undefined) throw new CiliumError('KvstoreUnavailable', 'the session of the locks has ended');
      const key = `${path}/${id}`;
      try {
        this.#leftovers.delete(key);
        if (!(await this.#options.create(key, id)))
          this.#options.log.debug('Lock key of before is taken over', { key });
        const own = await this.#awaitTurn(path, key, signal);
        if (own !== undefined) return own;
      } catch (error) {
        if (isKind(error, 'gone')) lease.check();
        else await this.#delete(key);
        throw error;
      }
    }
  }

  /** Our key, once nobody is before it; `undefined` when it has gone with its lease. */
  async #awaitTurn(path: string, key: string, signal: AbortSignal): Promise<KvEntry | undefined> {
    for (;;) {
      signal.throwIfAborted();
      const { entries, revision } = await this.#options.store.list(`${path}/`);
      const own = entries.find((entry) => entry.key === key);
      if (own === undefined) return undefined;
      // A slash further on belongs to a lock whose path begins with this one.
      const before = entries.filter(
        (other) => other.createRevision < own.createRevision && !other.key.includes('/', path.length + 1),
      );
      if (before.length === 0) return own;
      const last = before.reduce((a, b) => (a.createRevision > b.createRevision ? a : b));
      await this.#awaitChange(last.key, revision + 1, signal);
    }
  }

  /** Until something happens to the key, or may have. */
  async #awaitChange(key: string, fromRevision: number, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#options;
    const changed = new AbortController();
    const wake = (): void => changed.abort();
    const watch = store.watch(key, fromRevision, { onEvents: wake, onEnd: wake });
    await clock.sleep(LOOK_AGAIN_MS, AbortSignal.any([changed.signal, signal])).catch(() => undefined);
    watch.close();
  }

  async #openLease(): Promise<KeptLease> {
    this.#lease ??= (async () => {
      const lease = this.#options.newLease();
      await lease.start();
      return lease;
    })();
    try {
      const lease = await this.#lease;
      this.#hasLease = true;
      return lease;
    } catch (error) {
      this.#lease = undefined; // the next caller tries again
      throw error;
    }
  }

  /** Never fails: while etcd is away the key stays, kept alive by us, so this has to be made up for. */
  async #delete(key: string): Promise<void> {
    try {
      await this.#options.store.delete(key);
    } catch (error) {
      this.#options.log.debug('Lock could not be given back yet', { key, error });
      this.#leftovers.add(key);
      this.#deletion.trigger();
    }
  }

  async #deleteLeftovers(): Promise<void> {
    await Promise.all(
      [...this.#leftovers].map(async (key) => {
        // Not while somebody here takes the lock anew: the key would be the same.
        const unlockLocal = await this.#local.acquire(key.slice(0, key.lastIndexOf('/')));
        try {
          if (this.#leftovers.has(key)) await this.#options.store.delete(key);
          this.#leftovers.delete(key);
        } finally {
          unlockLocal();
        }
      }),
    );
  }
}
