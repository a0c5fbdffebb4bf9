// SPDX-License-Identifier: Apache-2.0

/** Ranges that are taken, and the search for one that is not. */
import { IpAddress, Prefix } from '../net/ip.ts';
import type { IpFamily } from '../net/ip.ts';

/** A range that no pool may overlap. */
export interface TakenRange {
  readonly prefix: Prefix;
  /** Whose it is, as the end of a sentence: "overlaps 172.17.0.0/16 of …". */
  readonly by: string;
  /** Other nodes' ranges: a subnet may hold them, as long as the part that addresses are given from does not. */
  readonly elsewhere?: boolean;
}

/** Containers get unicast addresses that routers forward. */
const UNUSABLE: readonly TakenRange[] = [
  ['0.0.0.0/8', '"this network" addresses'],
  ['127.0.0.0/8', 'loopback addresses'],
  ['169.254.0.0/16', 'link-local addresses'],
  ['224.0.0.0/3', 'multicast and reserved addresses'],
  ['::/16', 'loopback and IPv4-mapped addresses'],
  ['fe80::/10', 'link-local addresses'],
  ['ff00::/8', 'multicast addresses'],
].map(([prefix = '', by = '']) => ({ prefix: Prefix.parse(prefix), by }));

/** What `prefix` overlaps: one of the taken ranges, or addresses that containers cannot have. */
export function findOverlap(prefix: Prefix, taken: Iterable<TakenRange>): TakenRange | undefined {
  for (const range of UNUSABLE) if (range.prefix.overlaps(prefix)) return range;
  for (const range of taken) if (range.prefix.overlaps(prefix)) return range;
  return undefined;
}

/** The lowest prefix of this length inside `range` that overlaps nothing taken. Cost: O(taken²) at worst. */
export function firstFree(range: Prefix, length: number, taken: readonly TakenRange[]): Prefix | undefined {
  const size = 1n << BigInt(range.address.bits - length);
  const end = range.first.toBigInt() + range.size;
  let start = range.first.toBigInt();
  while (start < end) {
    const candidate = prefixAt(start, length, range.family);
    const obstacle = findOverlap(candidate, taken);
    if (obstacle === undefined) return candidate;
    const behind = obstacle.prefix.first.toBigInt() + obstacle.prefix.size;
    start = behind <= start + size ? start + size : ((behind + size - 1n) / size) * size;
  }
  return undefined;
}

function prefixAt(start: bigint, length: number, family: IpFamily): Prefix {
  return new Prefix(IpAddress.fromBigInt(start, family), length);
}
