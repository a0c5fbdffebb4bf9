// SPDX-License-Identifier: Apache-2.0

/**
 * Address pools and leases of this node, as Docker's IPAM protocol sees them (libnetwork's IpamDriver).
 *
 * Every change is in the journal before it is in memory and before it is answered, so `kill -9` loses nothing. Docker
 * names neither network nor container here; what it forgets to give back is found by `collect`.
 *
 * Docker repeats requests for what it holds, once, after its own start. Then they succeed; at any other time a pool or an
 * address that is in use is refused.
 *
 * Cost: some 20 µs for an address, most of it the append to the journal; tests in ipam.test.ts.
 */
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress, IpFamily, Prefix } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { prepareStateFolder } from '../runtime/state-file.ts';
import { Journal } from './journal.ts';
import { JournalEntry } from './journal-entry.ts';
import { Pool, poolId } from './pool.ts';
import { findOverlap, firstFree, type TakenRange } from './ranges.ts';

export const LOCAL_SPACE = 'CiliumLocal';
export const GLOBAL_SPACE = 'CiliumGlobal';
/** Pools that the driver takes itself, for networks to which Docker gives no IPv6. */
export const DRIVER_SPACE = 'CiliumDriver';
/** The size of a pool that is carved from the node's range: 254 containers; 65,534 for IPv6. */
const CARVED_LENGTH: Record<IpFamily, number> = { 4: 24, 6: 112 };
/** The journal is rewritten when most of it is history. */
const REWRITE_LINES_MIN = 4_096;

export interface IpamOptions {
  readonly stateDir: string;
  readonly ipv4Range: Prefix;
  readonly ipv6Range: Prefix | undefined;
  /** Addresses in its ranges that the node has itself: given to nobody. @default none */
  readonly reserved?: () => readonly IpAddress[];
  /** Ranges of the node that no pool may overlap: its addresses, on-link routes and name servers; none of our own. */
  readonly nodeRanges: () => Iterable<TakenRange>;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface PoolRequest {
  readonly space: string;
  readonly family: IpFamily;
  /** None: carve one from the node's range. */
  readonly prefix?: Prefix | undefined;
  readonly range?: Prefix | undefined;
}

export interface AddressRequest {
  readonly address?: IpAddress | undefined;
  readonly gateway?: boolean;
  readonly owner?: string;
}

/** What Docker knows to be in use; see `collect`. */
export interface AddressUse {
  readonly pools: readonly Prefix[];
  /** Addresses of endpoints and auxiliary addresses. Gateways live as long as their pool. */
  readonly addresses: readonly IpAddress[];
}

export class Ipam implements Component {
  readonly name = 'ipam';
  readonly #options: IpamOptions;
  readonly #journal: Journal<JournalEntry>;
  readonly #pools = new Map<string, Pool>();
  readonly #sources: (() => Iterable<TakenRange>)[];
  /** What was not in use at the last collection: "pool ID" and "pool ID address". */
  #suspects = new Set<string>();
  #rewriteAt = REWRITE_LINES_MIN;

  constructor(options: IpamOptions) {
    this.#options = options;
    this.#journal = new Journal(join(options.stateDir, 'ipam.jsonl'), JournalEntry);
    this.#sources = [options.nodeRanges];
  }

  async start(): Promise<void> {
    await prepareStateFolder(this.#options.stateDir);
    this.#pools.clear();
    for (const entry of this.#journal.open()) this.#apply(entry);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- Component's stop is asynchronous, the journal is not
  async stop(): Promise<void> {
    this.#journal.close();
  }

  /** Makes pools avoid these ranges, too, from now on. */
  addTakenRanges(source: () => Iterable<TakenRange>): void {
    this.#sources.push(source);
  }

  pools(): IterableIterator<Pool> {
    return this.#pools.values();
  }

  get(id: string): Pool | undefined {
    return this.#pools.get(id);
  }

  /** True when a container can be given an IPv6 address on a network for which Docker asks none. */
  get hasIpv6(): boolean {
    return this.range(6) !== undefined;
  }

  /** The node's range, of which networks made without --subnet get a part. */
  range(family: IpFamily): Prefix | undefined {
    return family === 4 ? this.#options.ipv4Range : this.#options.ipv6Range;
  }

  /** Docker was started: what it held before it may ask for once more. */
  dockerStarted(): void {
    if (this.#pools.size > 0) this.#write({ op: 'replayable' }, false);
  }

  /**
   * What a pool of this prefix overlaps; the pool that it is itself, in the address space given, does not count. Of other
   * nodes only what overlaps `part` does, which addresses are given from.
   */
  overlap(prefix: Prefix, space?: string, part: Prefix = this.partOf(prefix)): TakenRange | undefined {
    const taken = [...this.#taken((pool) => pool.space === space && pool.prefix.equals(prefix))];
    const here = taken.filter(({ elsewhere }) => elsewhere !== true);
    return (
      findOverlap(prefix, here) ??
      findOverlap(
        part,
        taken.filter(({ elsewhere }) => elsewhere === true),
      )
    );
  }

  /** The part of a network's pool that addresses are given from, as far as that is known here. */
  partOf(prefix: Prefix): Prefix {
    for (const pool of this.#pools.values()) if (pool.prefix.equals(prefix)) return pool.range;
    return prefix;
  }

  requestPool(request: PoolRequest): Pool {
    const prefix = request.prefix ?? this.#carve(request.family);
    const range = request.range ?? prefix;
    if (!prefix.contains(range)) {
      throw new CiliumError('InvalidArgument', `the IP range ${range.toString()} is not inside ${prefix.toString()}`);
    }
    const id = poolId(request.space, prefix, range);
    const known = this.#pools.get(id);
    if (known?.replayable !== true) {
      const obstacle = this.overlap(prefix, undefined, range);
      if (obstacle) throw overlapError(prefix, obstacle);
    }
    this.#write({ op: 'pool', space: request.space, prefix, range }, true);
    this.#options.log.info('Address pool in use', { pool: id });
    return this.#pool(id);
  }

  /** An unknown pool is no error: it was released before. */
  releasePool(id: string): void {
    if (!this.#pools.has(id)) return;
    this.#write({ op: 'unpool', pool: id }, true);
    this.#options.log.info('Address pool released', { pool: id });
  }

  requestAddress(id: string, request: AddressRequest): IpAddress {
    const pool = this.#pool(id);
    const { owner, gateway = false } = request;
    const owned = owner === undefined ? undefined : pool.ownedBy(owner);
    if (owned) return owned.address;
    if (gateway) return this.#requestGateway(pool, request.address);
    if (request.address) return this.#requestExact(pool, request.address, false);
    const next = pool.next(this.#options.clock.monotonic());
    if (!next) throw poolExhausted(pool);
    this.#write({ op: 'lease', pool: id, ...next, owner }, false);
    return next.address;
  }

  /** An unknown pool or address is no error: it was released before. */
  releaseAddress(id: string, address: IpAddress): void {
    if (this.#pools.get(id)?.get(address)) this.#write({ op: 'release', pool: id, address }, false);
  }

  /** Releases what this owner has in the pool, if anything. */
  releaseOwner(id: string, owner: string): void {
    const lease = this.#pools.get(id)?.ownedBy(owner);
    if (lease) this.releaseAddress(id, lease.address);
  }

  /**
   * Drops pools and leases that nobody uses and that nobody used at the collection before, either: what Docker lists lags
   * behind what it is doing, so call this at intervals longer than a `docker run`. Answers what was dropped.
   */
  collect(use: AddressUse): { pools: Prefix[]; addresses: IpAddress[] } {
    const usedPools = new Set(use.pools.map(String));
    const usedAddresses = new Set(use.addresses.map(String));
    const suspects = new Set<string>();
    const dropped = { pools: [] as Prefix[], addresses: [] as IpAddress[] };
    const isLeft = (key: string): boolean => {
      if (this.#suspects.has(key)) return true;
      suspects.add(key);
      return false;
    };
    for (const pool of [...this.#pools.values()]) {
      if (pool.space !== DRIVER_SPACE && !usedPools.has(pool.prefix.toString())) {
        if (isLeft(pool.id)) {
          this.releasePool(pool.id);
          dropped.pools.push(pool.prefix);
        }
        continue;
      }
      for (const { address, gateway } of [...pool.leases()]) {
        if (gateway || usedAddresses.has(address.toString()) || !isLeft(`${pool.id} ${address.toString()}`)) continue;
        this.releaseAddress(pool.id, address);
        dropped.addresses.push(address);
      }
    }
    this.#suspects = suspects;
    return dropped;
  }

  #requestGateway(pool: Pool, wanted: IpAddress | undefined): IpAddress {
    const current = pool.gateway;
    if (current && (!wanted || wanted.equals(current.address))) return current.address;
    if (current) {
      throw new CiliumError(
        'InUse',
        `pool ${pool.prefix.toString()} has the gateway ${current.address.toString()} already`,
      );
    }
    const address = wanted ?? pool.lowestFree();
    if (!address) throw poolExhausted(pool);
    return this.#requestExact(pool, address, true);
  }

  #requestExact(pool: Pool, address: IpAddress, gateway: boolean): IpAddress {
    if (!pool.isUsable(address)) {
      const unusable = pool.isReserved(address)
        ? 'is the address of the router of this node, in'
        : 'is the first or last address of';
      const why = pool.prefix.contains(address) ? unusable : 'is not in';
      throw new CiliumError(
        'InvalidArgument',
        `${address.toString()} ${why} the pool ${pool.prefix.toString()}: choose another address`,
      );
    }
    const lease = pool.get(address);
    if (lease?.gateway === true) {
      throw new CiliumError('InUse', `${address.toString()} is the gateway of its network: choose another address`);
    }
    if (lease && !lease.replayable) {
      throw new CiliumError(
        'InUse',
        `${address.toString()} is in use by another container, or is an auxiliary address: choose another one, or remove ` +
          '(docker network inspect shows it) what has it; one left behind by a crash is free again within minutes',
      );
    }
    this.#write({ op: 'lease', pool: pool.id, address, ...(gateway ? { gateway } : {}) }, false);
    return address;
  }

  #carve(family: IpFamily): Prefix {
    const range = this.range(family);
    if (!range) {
      throw new CiliumError('Unsupported', 'this node has no IPv6 range: pass an IPv6 --subnet, or set --ipv6-range');
    }
    const length = Math.max(CARVED_LENGTH[family], range.length);
    const prefix = firstFree(range, length, [...this.#taken()]);
    if (prefix) return prefix;
    throw new CiliumError(
      'PoolExhausted',
      `no /${length} is left in the node's range ${range.toString()}: pass --subnet, remove networks that are not used ` +
        `(docker network prune), or start cilium-agent with a larger --ipv${family}-range`,
      { range: range.toString() },
    );
  }

  *#taken(except: (pool: Pool) => boolean = () => false): Generator<TakenRange> {
    for (const source of this.#sources) yield* source();
    for (const pool of this.#pools.values()) {
      if (!except(pool)) yield { prefix: pool.prefix, by: 'another network' };
    }
  }

  #pool(id: string): Pool {
    const pool = this.#pools.get(id);
    if (pool) return pool;
    throw new CiliumError(
      'NotFound',
      `address pool "${id}" is not known to this agent: restart Docker, which tells its pools again, or remove the network ` +
        'and create it anew',
    );
  }

  #write(entry: JournalEntry, durable: boolean): void {
    this.#journal.append(entry, durable);
    this.#apply(entry);
    if (this.#journal.lines > this.#rewriteAt) this.#rewrite();
  }

  /** The change that led here is in the journal already, so it has succeeded, whatever happens here. */
  #rewrite(): void {
    const entries = [...this.#snapshot()];
    try {
      this.#journal.rewrite(entries);
      this.#rewriteAt = Math.max(REWRITE_LINES_MIN, 4 * entries.length);
    } catch (error) {
      this.#rewriteAt = this.#journal.lines + REWRITE_LINES_MIN;
      this.#options.log.warn('Journal of addresses not rewritten; it goes on growing', { error });
    }
  }

  #apply(entry: JournalEntry): void {
    switch (entry.op) {
      case 'pool': {
        const pool = new Pool(entry.space, entry.prefix, entry.range, this.#options.reserved?.());
        const known = this.#pools.get(pool.id);
        if (known) known.replayable = false;
        else this.#pools.set(pool.id, pool);
        if (entry.replayable === true) pool.replayable = true;
        if (entry.cursor !== undefined) pool.moveCursor(entry.cursor);
        break;
      }
      case 'unpool':
        this.#pools.delete(entry.pool);
        break;
      case 'lease': {
        const { address, gateway = false, owner, replayable = false } = entry;
        const pool = this.#pools.get(entry.pool);
        pool?.add({ address, gateway, owner, replayable });
        if (entry.cursor !== undefined) pool?.moveCursor(entry.cursor);
        break;
      }
      case 'release':
        this.#pools.get(entry.pool)?.remove(entry.address, this.#options.clock.monotonic());
        break;
      case 'replayable':
        for (const pool of this.#pools.values()) pool.markReplayable();
        break;
    }
  }

  *#snapshot(): Generator<JournalEntry> {
    for (const pool of this.#pools.values()) {
      const { space, prefix, range, replayable, cursor } = pool;
      yield { op: 'pool', space, prefix, range, cursor, replayable };
      for (const lease of pool.leases()) yield { op: 'lease', pool: pool.id, ...lease };
    }
  }
}

function poolExhausted(pool: Pool): CiliumError {
  return new CiliumError(
    'PoolExhausted',
    `no address is free in ${pool.range.toString()} (${pool.leasedCount} in use): remove containers, or create a network ` +
      'with a larger --subnet and --ip-range',
    { pool: pool.id, inUse: pool.leasedCount },
  );
}

export function overlapError(prefix: Prefix, obstacle: TakenRange): CiliumError {
  const remedy =
    obstacle.elsewhere === true
      ? "add --ipam-driver cilium without --subnet (the network gets a part of this node's own range), or pass a --subnet that no " +
        'other node has; nodes that are to share one need a part each (--ip-range)'
      : 'choose another --subnet, or remove what uses that range (docker network ls; docker network inspect)';
  return new CiliumError(
    'InUse',
    `${prefix.toString()} overlaps ${obstacle.prefix.toString()} of ${obstacle.by}: ${remedy}`,
    { pool: prefix.toString(), obstacle: obstacle.prefix.toString() },
  );
}
