// SPDX-License-Identifier: Apache-2.0

/**
 * What the agent asks of a key-value store. Shaped after etcd, so that `embedded/` and etcd are the same to their users;
 * `kvstore-contract.ts` is the suite that every implementation passes.
 *
 * Keys are paths without a leading slash; values are text. Each change of the store has a revision, a number that grows
 * by one; all that one transaction changes has the same. Any call may throw `KvstoreUnavailable`: then it is unknown
 * whether a change was made, and the caller repeats it in a way that bears both.
 */
import type { Component } from '../runtime/component.ts';

export interface KvEntry {
  readonly key: string;
  readonly value: string;
  /** Revision in which the key came to be; it starts anew when the key is deleted and made again. */
  readonly createRevision: number;
  /** Revision of the last write. */
  readonly modRevision: number;
  /** The lease that the key lives and dies with. */
  readonly leaseId?: string;
}

export interface KvList {
  /** Sorted by key, all of the same revision. */
  readonly entries: readonly KvEntry[];
  /** To be watched from: the list shows everything up to it. */
  readonly revision: number;
}

export type KvCondition =
  | { readonly key: string; readonly exists: boolean }
  | { readonly key: string; readonly value: string }
  | { readonly key: string; readonly modRevision: number }
  /** Every key below holds it, and there is one. */
  | { readonly prefix: string; readonly value: string }
  /** No key below was written after that revision; 0: there is none. */
  | { readonly prefix: string; readonly unchangedSince: number };

export type KvRead = { readonly get: string } | { readonly list: string };

export type KvOperation =
  | { readonly put: string; readonly value: string; /** Attach to this client's session. */ readonly leased?: boolean }
  | { readonly delete: string }
  | { readonly deletePrefix: string };

export interface KvTransaction {
  /** All must hold, otherwise nothing is done. */
  readonly when?: readonly KvCondition[];
  /** Done together or not at all; no key may be touched twice. */
  readonly then: readonly KvOperation[];
  /** Read in place of it when a condition does not hold. */
  readonly otherwise?: readonly KvRead[];
}

/** etcd takes no more conditions, operations or reads in one transaction unless it is told to (`--max-txn-ops`). */
export const MAX_TRANSACTION_SIZE = 128;

export interface KvTransactionResult {
  /** Whether the conditions held. */
  readonly succeeded: boolean;
  /** Revision after the transaction. */
  readonly revision: number;
  /** How many keys were deleted. */
  readonly deleted: number;
  /** What `otherwise` has read, of that revision; only if the conditions did not hold. */
  readonly found?: readonly KvEntry[];
}

/** A deletion carries no value, as in etcd: who needs it keeps a cache (see WatchedPrefix). */
export type KvEvent =
  | { readonly type: 'put'; readonly entry: KvEntry }
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: number };

export interface WatchHandlers {
  /** Changes in the order of their revisions. All of one revision come in one call. Must not throw. */
  onEvents(events: readonly KvEvent[]): void;
  /**
   * The watch is over without having been closed. `compacted`: the store no longer has the history that was asked for.
   * In both cases: list again, then watch from there.
   */
  onEnd(reason: 'compacted' | 'lost', error?: unknown): void;
}

export interface Watch {
  /** Resolves when the store follows; rejects when the watch is over before that. Nobody has to look. */
  readonly started: Promise<void>;
  /** No handler is called afterwards. May be called twice. */
  close(): void;
}

/** A lock that is held. It is lost with its lease; then `guards` no longer hold. */
export interface KvLock {
  /** To be put into a transaction that must not happen after the lock is lost. */
  readonly guards: readonly KvCondition[];
  /** May be called twice. */
  unlock(): Promise<void>;
}

export interface KvstoreStatus {
  readonly healthy: boolean;
  /** One line for `cilium status`. */
  readonly message: string;
}

/** One client of a store. Between `start` and `stop` it has a session, the lease that its leased keys hang on. */
export interface Kvstore extends Component {
  /**
   * It will be stopped soon: what is not answered within LEAVE_MS fails, and so does what is asked later, so that nobody's
   * end waits for a store that is away. May be called twice.
   */
  leave(): void;
  /** Whether there is a session. False after a start that did not find the store: it goes on looking for it. */
  readonly isConnected: boolean;
  get(key: string): Promise<KvEntry | undefined>;
  /**
   * All entries below the prefix. With `onPage` they may be handed over piece by piece as they come, all of the same
   * revision, and are then not in the result; when that fails half way, the pieces so far have been handed over.
   */
  list(prefix: string, onPage?: (entries: readonly KvEntry[]) => void): Promise<KvList>;
  /** Those of the keys that exist, in one request for MAX_TRANSACTION_SIZE of them. */
  getAll(keys: readonly string[]): Promise<Map<string, KvEntry>>;
  /** Writes, whatever was there. Returns the revision. */
  put(key: string, value: string, options?: { readonly leased?: boolean }): Promise<number>;
  /** False when there was nothing to delete. */
  delete(key: string): Promise<boolean>;
  transact(transaction: KvTransaction): Promise<KvTransactionResult>;

  /** Follows all keys below `prefix` from `fromRevision` on, that one included. */
  watch(prefix: string, fromRevision: number, handlers: WatchHandlers): Watch;

  /** Waits until nobody else holds the lock `path`; at most LOCK_TIMEOUT_MS, then `Timeout`. */
  lock(path: string, signal?: AbortSignal): Promise<KvLock>;

  /** True when the entry is attached to this client's present session. */
  isOwn(entry: KvEntry): boolean;
  /**
   * A new session stands, because some or all leased keys of this client have gone with their lease, or because the
   * store was away at the start. Listeners write again what is theirs and is missing. Returns how to unsubscribe.
   */
  onSessionLost(listener: () => void): () => void;

  status(): Promise<KvstoreStatus>;
}

/** How long the keys of a client that has gone stay: longer than an agent's upgrade, shorter than a lunch. */
export const SESSION_TTL_MS = 15 * 60_000;
/** How long a store that is away may hold up the end of a client. */
export const LEAVE_MS = 2_000;
/** How long a caller waits for a lock. */
export const LOCK_TIMEOUT_MS = 60_000;

/**
 * Writes if the value differs or the key is not attached to the present session; costs one read when all is well.
 * Returns whether it wrote.
 */
export async function putIfDifferent(store: Kvstore, key: string, value: string): Promise<boolean> {
  const present = await store.get(key);
  if (present?.value === value && store.isOwn(present)) return false;
  await store.put(key, value, { leased: true });
  return true;
}
