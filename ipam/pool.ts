// SPDX-License-Identifier: Apache-2.0

/**
 * One address pool: what is leased, and what comes next.
 *
 * Addresses are given in order from a cursor that wraps, so a released one comes round last; in a pool that is nearly
 * full it still rests for `ADDRESS_COOLDOWN_MS` unless nothing else is left. Holds no files and no clock.
 *
 * Cost: O(1) for an address while the pool is not nearly full, at worst one look-up for each address of the range.
 */
import { IpAddress, type Prefix } from '../net/ip.ts';

/** How long a released address is kept back: peers and caches elsewhere may still take it for its last owner. */
export const ADDRESS_COOLDOWN_MS = 60_000;
/** At most so many addresses of a range are given out by number; the others of a huge IPv6 range only on request. */
const DYNAMIC_LIMIT = 2 ** 24;

export interface Lease {
  readonly address: IpAddress;
  readonly gateway: boolean;
  /** Whose it is, for leases that the driver takes itself: Docker's endpoint ID. */
  readonly owner: string | undefined;
  /** Docker was started since: it may ask for this address once more and gets it. */
  readonly replayable: boolean;
}

export class Pool {
  readonly id: string;
  readonly space: string;
  readonly prefix: Prefix;
  /** Where addresses that nobody asked for by number come from: the pool, or its `--ip-range`. */
  readonly range: Prefix;
  replayable = false;
  readonly #leases = new Map<string, Lease>();
  /** Offsets in the range that are leased, and those that rest with the time of their release, oldest first. */
  readonly #leased = new Set<number>();
  readonly #resting = new Map<number, number>();
  readonly #base: bigint;
  readonly #lowest: number;
  readonly #highest: number;
  #cursor: number;
  #gateway: Lease | undefined;
  readonly #reserved: ReadonlySet<string>;
  readonly #reservedCount: number;

  /** @param reserved addresses that nobody gets */
  constructor(space: string, prefix: Prefix, range: Prefix = prefix, reserved: readonly IpAddress[] = []) {
    this.id = poolId(space, prefix, range);
    this.space = space;
    this.prefix = prefix;
    this.range = range;
    this.#reserved = new Set(reserved.map(String));
    this.#base = range.first.toBigInt();
    const last = range.size > BigInt(DYNAMIC_LIMIT) ? DYNAMIC_LIMIT - 1 : Number(range.size) - 1;
    this.#lowest = this.isUsable(range.first) ? 0 : 1;
    this.#highest = this.isUsable(range.first.add(BigInt(last))) ? last : last - 1;
    this.#cursor = this.#lowest;
    const offsets = reserved.map((address) => this.#offsetOf(address)).filter((offset) => offset !== undefined);
    this.#reservedCount = offsets.length;
    for (const offset of offsets) this.#leased.add(offset);
  }

  isReserved(address: IpAddress): boolean {
    return this.#reserved.has(address.toString());
  }

  /** False for the network and broadcast address of an IPv4 pool, the subnet-router address of an IPv6 one, and outside. */
  isUsable(address: IpAddress): boolean {
    if (!this.prefix.contains(address) || this.isReserved(address)) return false;
    if (this.prefix.address.bits - this.prefix.length <= 1) return true;
    if (address.equals(this.prefix.first)) return false;
    return address.family === 6 || !address.equals(this.prefix.last);
  }

  /** The next address to lease, or undefined when all are taken. Changes nothing. */
  next(nowMs: number): { address: IpAddress; cursor: number } | undefined {
    const count = this.#span;
    if (this.#leased.size >= count) return undefined;
    for (const [offset, releasedAt] of this.#resting) {
      if (nowMs - releasedAt < ADDRESS_COOLDOWN_MS) break;
      this.#resting.delete(offset);
    }
    for (let step = 0; step < count; step++) {
      const offset = this.#lowest + ((this.#cursor - this.#lowest + step) % count);
      if (!this.#leased.has(offset) && !this.#resting.has(offset)) return this.#candidate(offset);
    }
    const [oldest] = this.#resting.keys();
    return oldest === undefined ? undefined : this.#candidate(oldest);
  }

  /** The lowest address that is free: the gateway of a network that names none. */
  lowestFree(): IpAddress | undefined {
    for (let offset = this.#lowest; offset <= this.#highest; offset++) {
      if (!this.#leased.has(offset)) return this.#addressAt(offset);
    }
    return undefined;
  }

  get(address: IpAddress): Lease | undefined {
    return this.#leases.get(address.toString());
  }

  ownedBy(owner: string): Lease | undefined {
    for (const lease of this.#leases.values()) if (lease.owner === owner) return lease;
    return undefined;
  }

  get gateway(): Lease | undefined {
    return this.#gateway;
  }

  leases(): IterableIterator<Lease> {
    return this.#leases.values();
  }

  /** How many addresses can be given out by number, and how many of those are. */
  get capacity(): number {
    return this.#span - this.#reservedCount;
  }

  get leasedCount(): number {
    return this.#leased.size - this.#reservedCount;
  }

  get cursor(): number {
    return this.#cursor;
  }

  /** Records a lease; one of the same address is replaced. */
  add(lease: Lease): void {
    this.#leases.set(lease.address.toString(), lease);
    const offset = this.#offsetOf(lease.address);
    if (offset !== undefined) {
      this.#leased.add(offset);
      this.#resting.delete(offset);
    }
    if (lease.gateway) this.#gateway = lease;
  }

  remove(address: IpAddress, nowMs: number): void {
    if (!this.#leases.delete(address.toString())) return;
    if (this.#gateway?.address.equals(address) === true) this.#gateway = undefined;
    const offset = this.#offsetOf(address);
    if (offset === undefined) return;
    this.#leased.delete(offset);
    this.#resting.set(offset, nowMs);
  }

  /** Where `next` begins; a position outside the range means its beginning. */
  moveCursor(cursor: number): void {
    this.#cursor = cursor >= this.#lowest && cursor <= this.#highest ? cursor : this.#lowest;
  }

  /** Lets the pool and each of its leases be asked for once more. */
  markReplayable(): void {
    this.replayable = true;
    for (const lease of [...this.#leases.values()]) this.add({ ...lease, replayable: true });
  }

  /** Offsets from the lowest to the highest. */
  get #span(): number {
    return Math.max(0, this.#highest - this.#lowest + 1);
  }

  #candidate(offset: number): { address: IpAddress; cursor: number } {
    return { address: this.#addressAt(offset), cursor: offset + 1 };
  }

  #addressAt(offset: number): IpAddress {
    return IpAddress.fromBigInt(this.#base + BigInt(offset), this.prefix.family);
  }

  #offsetOf(address: IpAddress): number | undefined {
    if (!this.range.contains(address)) return undefined;
    const offset = address.toBigInt() - this.#base;
    return offset >= BigInt(this.#lowest) && offset <= BigInt(this.#highest) ? Number(offset) : undefined;
  }
}

/** Docker keeps it and sends it with each later call, so it says all that would be needed to make the pool again. */
export function poolId(space: string, prefix: Prefix, range: Prefix): string {
  const id = `${space}/${prefix.toString()}`;
  return range.equals(prefix) ? id : `${id}/${range.toString()}`;
}
