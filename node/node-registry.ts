// SPDX-License-Identifier: Apache-2.0

/**
 * The nodes of the cluster: this one, which is announced in the key-value store, and the others, which are followed there.
 *
 * The key of a node is its claim on the ranges in it. It is written under a lock, after a look at the keys of all others,
 * in a transaction that fails when the lock is lost: so no two nodes ever have the same addresses, and a node that is gone
 * for good gives its ranges back when its lease runs out. A claim that fails because the store is away is repeated; one
 * that fails because another node has the range is repeated, too, but meanwhile the claim is `lost`, and this node has to
 * keep away from the others: its containers have addresses that are somebody else's by now.
 *
 * A node whose key vanishes is gone after DELETION_GRACE_MS, unless its key is back by then or somebody else has claimed
 * its ranges: a lease that was lost for a moment must not cost connections.
 */
import { CiliumError, isCiliumError } from '../errors/cilium-error.ts';
import { WatchedPrefix } from '../kvstore/watched-prefix.ts';
import { LOCK_TIMEOUT_MS, type KvEntry, type Kvstore } from '../kvstore/kvstore.ts';
import type { Prefix } from '../net/ip.ts';
import { PrefixTrie } from '../net/prefix-trie.ts';
import { systemClock, type Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import type { LocalNode } from './local-node.ts';
import {
  addressesOf,
  decodeNode,
  encodeNode,
  nodeKey,
  nodeRanges,
  NODES_PREFIX,
  sameNode,
  type ClusterNode,
} from './node.ts';
import { RememberedNodes } from './remembered-nodes.ts';

/** How long the others wait before a node whose key has vanished is gone. */
export const DELETION_GRACE_MS = 30_000;
/** How often our key is written again, as other agents do. */
const ANNOUNCE_INTERVAL_MS = 30 * 60_000;
/** How long a start that cannot do without a claim may take: one lock, and as much again. */
export const CLAIM_TIMEOUT_MS = 2 * LOCK_TIMEOUT_MS;
/** How long a start that may do without a claim waits for it: the lock may be that of an agent that was killed. */
const PATIENCE_MS = 5_000;
const ANNOUNCE_RETRY = { minBackoffMs: 500, maxBackoffMs: 15_000 };

export interface NodeEvent {
  readonly type: 'upsert' | 'delete';
  readonly node: ClusterNode;
  /** What was known before; absent for a new one. */
  readonly old?: ClusterNode | undefined;
}

/** `lost`: another node has its name or range. `unknown`: the store has not been asked since this start or session. */
export type ClaimState = 'unknown' | 'held' | 'lost';

export interface NodeRegistryOptions {
  readonly store: Kvstore;
  readonly local: LocalNode;
  readonly stateDir: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default 5 s: how long a start that may do without a claim waits for it. */
  readonly patienceMs?: number;
}

export class NodeRegistry implements Component {
  readonly name = 'node-registry';
  readonly startTimeoutMs = CLAIM_TIMEOUT_MS;
  readonly #options: NodeRegistryOptions;
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #watched: WatchedPrefix;
  readonly #announcer: Controller;
  readonly #remembered: RememberedNodes;
  /** Claims, one at a time. */
  readonly #claims = new SerialQueue('node claims');
  readonly #others = new Map<string, ClusterNode>();
  /** Names of the others by their ranges. */
  readonly #owners = new PrefixTrie<string>();
  /** Nodes that claim what another one has, which no agent does: left out while that is so. */
  readonly #refused = new Map<string, ClusterNode>();
  /** Nodes without a key, each with what ends the waiting for it. */
  readonly #leaving = new Map<string, AbortController>();
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #stop = new AbortController();
  readonly #claimListeners = new Set<(state: ClaimState) => void>();
  #claimState: ClaimState = 'unknown';
  #problem: CiliumError | undefined;
  #isClaimed = false;
  #isFresh = false;
  #announced = '';
  #unsubscribe: (() => void) | undefined;

  constructor(options: NodeRegistryOptions) {
    this.#options = options;
    const { store, local, log } = options;
    this.#clock = options.clock ?? systemClock;
    this.#prefix = `${NODES_PREFIX}${local.cluster}/`;
    const common = { log, clock: this.#clock };
    this.#remembered = new RememberedNodes({
      ...common,
      stateDir: options.stateDir,
      nodes: () => this.#others.values(),
    });
    this.#announcer = new Controller({
      ...common,
      name: 'node-announce',
      run: () => this.#announce(),
      intervalMs: ANNOUNCE_INTERVAL_MS,
      ...ANNOUNCE_RETRY,
    });
    this.#watched = new WatchedPrefix({
      ...common,
      store,
      prefix: this.#prefix,
      mayStartWithout: true,
      listener: {
        onPut: (entry) => this.#onPut(entry),
        onDelete: ({ key }) => this.#onDelete(key),
        onListed: () => this.#onListed(),
      },
    });
  }

  /**
   * Claims and follows. While the store is away a node that has claimed its ranges before starts with what it remembers, and
   * does both later. Throws `InUse` when another node has what this one needs, unless it was here before: then it starts,
   * apart from the others, so that what it has can be removed.
   */
  async start(signal: AbortSignal): Promise<void> {
    const { store, local, log } = this.#options;
    for (const node of await this.#remembered.load()) {
      if (node.cluster === local.cluster && node.name !== local.name) this.#upsert(node);
    }
    const mayWait = local.isKnown && local.hasRanges;
    const enough = AbortSignal.timeout(this.#options.patienceMs ?? PATIENCE_MS);
    try {
      if (!this.#isClaimed) await this.claim(mayWait ? AbortSignal.any([signal, enough]) : signal);
    } catch (error) {
      if (!mayWait || signal.aborted) throw error;
      if (isAway(error) || !isCiliumError(error)) {
        log.warn('Start with the nodes known before: the store is away', { nodes: this.#others.size, error });
      } else {
        // Refusing to start would leave things as they are, and its networks could not be removed.
        log.error('Start apart from the other nodes', { error });
        this.#lose(error);
      }
    }
    this.#unsubscribe = store.onSessionLost(() => {
      if (this.#claimState === 'held') this.#setClaimState('unknown');
      this.#announcer.trigger();
    });
    this.#isFresh = this.#isClaimed;
    this.#announcer.start();
    await this.#watched.start(this.#stop.signal);
  }

  /** Our key stays for the time of its lease, so that a restart goes unnoticed. */
  async stop(): Promise<void> {
    this.#unsubscribe?.();
    this.#stop.abort(new CiliumError('KvstoreUnavailable', 'the node registry has stopped'));
    await this.#announcer.stop();
    await this.#watched.stop();
    await this.#claims.drain();
    await this.#remembered.stop();
  }

  get local(): ClusterNode {
    return this.#options.local.node;
  }

  /** This node first, then the others by name. */
  list(): readonly ClusterNode[] {
    return [this.local, ...[...this.#others.values()].sort((a, b) => (a.name < b.name ? -1 : 1))];
  }

  /** The others, in no order. */
  others(): IterableIterator<ClusterNode> {
    return this.#others.values();
  }

  get(name: string): ClusterNode | undefined {
    return name === this.#options.local.name ? this.local : this.#others.get(name);
  }

  /** Why others may not believe in this node's addresses: somebody else has its name or its range. */
  get problem(): CiliumError | undefined {
    return this.#problem;
  }

  get status(): ControllerStatus {
    return this.#announcer.status;
  }

  /** Tells each node that comes, changes or goes; of this one, changes. Must not throw. */
  onChange(listener: (event: NodeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether this node has what it says that it has. */
  get claimState(): ClaimState {
    return this.#claimState;
  }

  /** Must not throw. */
  onClaim(listener: (state: ClaimState) => void): () => void {
    this.#claimListeners.add(listener);
    return () => this.#claimListeners.delete(listener);
  }

  /** The node's own addresses may have changed. */
  refreshAddresses(): void {
    if (this.#options.local.refreshAddresses()) this.#announcer.trigger();
  }

  /**
   * Takes ranges for a network; those inside the node's own need no claim. Throws `InUse` when another node has one of
   * them, `KvstoreUnavailable` when that cannot be found out.
   */
  async claimNetwork(id: string, ranges: readonly Prefix[]): Promise<void> {
    const { local } = this.#options;
    const before = local.networkRanges(id);
    const { isNews, needsClaim } = local.setNetwork(id, ranges);
    try {
      if (needsClaim) await this.claim();
      else if (isNews) await local.save();
    } catch (error) {
      if (before === undefined) local.deleteNetwork(id);
      else local.setNetwork(id, before);
      if (!isAway(error)) throw error;
      throw new CiliumError(
        'KvstoreUnavailable',
        `whether ${ranges.join(', ')} is free can only be found out with the key-value store: try again when it is back, or ` +
          "create the network without --subnet (--ipam-driver cilium), which takes a part of this node's own range",
        {},
        error,
      );
    }
  }

  /** Gives back what a network had; soon, when the store is away. */
  async releaseNetwork(id: string): Promise<void> {
    const { local } = this.#options;
    if (local.networkRanges(id) === undefined) return;
    if (local.deleteNetwork(id)) this.#announcer.trigger();
    await local.save();
  }

  /** Forgets ranges of networks that are not among these. */
  async retainNetworks(ids: Iterable<string>): Promise<void> {
    const present = new Set(ids);
    for (const id of this.#options.local.networks()) if (!present.has(id)) await this.releaseNetwork(id);
  }

  /** Looks at the keys of all nodes, chooses or checks this one's ranges, and writes its key. */
  async claim(signal: AbortSignal = this.#stop.signal): Promise<void> {
    await this.#claims.run(async () => {
      signal.throwIfAborted();
      await this.#claim(signal);
      this.#problem = undefined;
      this.#setClaimState('held');
    });
  }

  /** The first time is right after a claim, usually. */
  async #announce(): Promise<void> {
    const isFresh = this.#isFresh;
    this.#isFresh = false;
    if (isFresh) return;
    try {
      await this.claim();
    } catch (error) {
      if (isCiliumError(error) && !isAway(error)) this.#lose(error);
      throw error;
    }
  }

  #lose(problem: CiliumError): void {
    this.#problem = problem;
    this.#setClaimState('lost');
  }

  #setClaimState(state: ClaimState): void {
    if (state === this.#claimState) return;
    this.#claimState = state;
    for (const listener of this.#claimListeners) listener(state);
    if (state !== 'held') this.#reconsider(); // who claims what was ours may be right
  }

  async #claim(signal: AbortSignal): Promise<void> {
    const { store, local, log } = this.#options;
    const key = nodeKey(local.cluster, local.name);
    const lock = await store.lock(`cilium/state/nodes/lock/${local.cluster}`, signal);
    try {
      const others: ClusterNode[] = [];
      for (const entry of (await store.list(this.#prefix)).entries) {
        const node = this.#decode(entry);
        if (node === undefined) continue;
        if (entry.key === key) this.#checkName(entry, node);
        else others.push(node);
      }
      local.chooseRanges(others);
      const value = encodeNode(local.node);
      const { succeeded } = await store.transact({ when: lock.guards, then: [{ put: key, value, leased: true }] });
      if (!succeeded) throw new CiliumError('KvstoreUnavailable', 'the lock of the nodes was lost');
      await local.save();
      if (value !== this.#announced) {
        log.info('Node announced', { node: local.name, ranges: nodeRanges(local.node).map(String) });
        this.#tell({ type: 'upsert', node: local.node });
      }
      this.#announced = value;
      this.#isClaimed = true;
    } finally {
      await lock.unlock().catch((error: unknown) => log.debug('Lock was not given back', { error }));
    }
  }

  /** A key of our name is ours if we wrote it, if we remember having been here, or if it has our address. */
  #checkName(entry: KvEntry, node: ClusterNode): void {
    const { store, local } = this.#options;
    if (store.isOwn(entry) || (local.isKnown && !this.#isClaimed)) return;
    const [ours, theirs] = [local.addresses, addressesOf(node, 'InternalIP')];
    if (theirs.length === 0 || theirs.some((ip) => ours.some((own) => own.equals(ip)))) return;
    throw new CiliumError(
      'InUse',
      `the node name ${local.name} is in use by ${theirs.join(', ')}: start this agent with another --node-name; a node ` +
        'that is gone for good gives its name back when its lease has run out',
      { node: local.name },
    );
  }

  #onPut(entry: KvEntry): void {
    const { local } = this.#options;
    if (entry.key === nodeKey(local.cluster, local.name)) {
      if (this.#isClaimed && entry.value !== this.#announced) this.#announcer.trigger();
      return;
    }
    const node = this.#decode(entry);
    if (node !== undefined) this.#upsert(node);
  }

  /** Nodes that were remembered, and have no key, are as gone as those whose key vanishes. */
  #onListed(): void {
    const { cluster } = this.#options.local;
    for (const name of this.#others.keys()) if (!this.#watched.entries.has(nodeKey(cluster, name))) this.#leave(name);
  }

  #onDelete(key: string): void {
    const { local } = this.#options;
    if (key === nodeKey(local.cluster, local.name)) this.#announcer.trigger();
    else this.#leave(key.slice(this.#prefix.length));
  }

  #upsert(node: ClusterNode): void {
    const { log } = this.#options;
    this.#leaving.get(node.name)?.abort();
    this.#leaving.delete(node.name);
    const old = this.#others.get(node.name);
    if (old !== undefined && sameNode(old, node)) return;
    for (const owner of this.#ownersOf(node)) {
      // Whoever has claimed ranges of a node that is leaving has found its key gone.
      if (this.#leaving.has(owner)) this.#gone(owner);
      else {
        if (!this.#refused.has(node.name))
          log.error('Node left out, it claims what another one has', { node: node.name, owner });
        this.#refused.set(node.name, node);
        if (old !== undefined) this.#remove(old);
        return;
      }
    }
    this.#refused.delete(node.name);
    if (old !== undefined) for (const range of nodeRanges(old)) this.#owners.delete(range);
    for (const range of nodeRanges(node)) this.#owners.set(range, node.name);
    this.#others.set(node.name, node);
    if (old === undefined) log.info('Node found', { node: node.name, ranges: nodeRanges(node).map(String) });
    this.#remembered.changed();
    this.#tell({ type: 'upsert', node, old });
    if (old !== undefined) this.#reconsider();
  }

  /** Nodes that have some of what this one claims. */
  #ownersOf(node: ClusterNode): Set<string> {
    const owners = new Set<string>();
    const own = this.#claimState === 'held' ? nodeRanges(this.local) : [];
    for (const range of nodeRanges(node)) {
      for (const owner of this.#owners.inside(range)) owners.add(owner);
      const around = this.#owners.longest(range.first);
      if (around !== undefined) owners.add(around);
      if (own.some((ours) => ours.overlaps(range))) owners.add(this.local.name);
    }
    owners.delete(node.name);
    return owners;
  }

  /** Somebody has less than before: what was left out may be right now. */
  #reconsider(): void {
    for (const node of [...this.#refused.values()]) this.#upsert(node);
  }

  #leave(name: string): void {
    this.#refused.delete(name);
    if (!this.#others.has(name) || this.#leaving.has(name)) return;
    const waiting = new AbortController();
    this.#leaving.set(name, waiting);
    const signal = AbortSignal.any([waiting.signal, this.#stop.signal]);
    this.#clock.sleep(DELETION_GRACE_MS, signal).then(
      () => this.#gone(name),
      () => undefined, // it is back, or we stop
    );
  }

  #gone(name: string): void {
    this.#leaving.get(name)?.abort();
    this.#leaving.delete(name);
    const node = this.#others.get(name);
    if (node === undefined) return;
    this.#options.log.info('Node gone', { node: name });
    this.#remove(node);
    this.#reconsider();
  }

  #remove(node: ClusterNode): void {
    this.#others.delete(node.name);
    for (const range of nodeRanges(node)) this.#owners.delete(range);
    this.#remembered.changed();
    this.#tell({ type: 'delete', node });
  }

  #decode({ key, value }: KvEntry): ClusterNode | undefined {
    try {
      return decodeNode(key, value);
    } catch (error) {
      this.#options.log.warn('Not a node', { key, error });
      return undefined;
    }
  }

  #tell(event: NodeEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** The store did not answer; whether it did what it was asked is not known. */
function isAway(error: unknown): boolean {
  return isCiliumError(error, 'KvstoreUnavailable') || isCiliumError(error, 'Timeout');
}
