// SPDX-License-Identifier: Apache-2.0

/** Which ranges a node may have beside those of the others: taken from the cluster's, or as configured and checked. */
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import { addressesOf, nodeRanges, type ClusterNode } from './node.ts';

/** At how many places a search may begin: enough for all nodes, and short addresses in the vast pools of IPv6. */
const PLACES = 65_536n;

/** Where the range of a family comes from. */
export type RangeSource =
  | { readonly fixed: Prefix; /** The option that said so, for errors. */ readonly option: string }
  /** One of `length` bits inside `pool`. */
  | { readonly pool: Prefix; readonly length: number; readonly option: string };

export interface RangeWishes {
  /** Of the node. */
  readonly name: string;
  /** What it had before. */
  readonly remembered?: Prefix | undefined;
  /** It can do with another range: nothing of it is in use. @default false */
  readonly mayMove?: boolean;
}

/**
 * The range of one family: the one that the node had before, if it still fits its source and nobody else has it, else a
 * free one. Throws `InUse` when what it must have overlaps another node's, `PoolExhausted` when the pool is full.
 */
export function chooseRange(
  source: RangeSource,
  { name, remembered, mayMove = false }: RangeWishes,
  others: readonly ClusterNode[],
): Prefix {
  if ('fixed' in source) {
    const { fixed, option } = source;
    const owner = ownerOf(fixed, others);
    if (owner === undefined) return fixed;
    throw new CiliumError(
      'InUse',
      `${fixed.toString()} (${option}) overlaps ${describeOwner(owner)}: give each node a range of its own, or have ` +
        `ranges allocated with --cluster-pool-ipv${fixed.family}-cidr; a node that is gone for good gives its range ` +
        'back when its lease has run out',
      { range: fixed.toString(), node: owner.node.name },
    );
  }
  if (remembered !== undefined && isFrom(source, remembered)) {
    const owner = ownerOf(remembered, others);
    if (owner === undefined) return remembered;
    if (!mayMove)
      throw new CiliumError(
        'InUse',
        `the range of this node, ${remembered.toString()}, overlaps ${describeOwner(owner)}: this node was away for longer ` +
          'than its lease. Remove its networks of this driver (docker network rm) and start the agent again: it gets another range',
        { range: remembered.toString(), node: owner.node.name },
      );
  }
  const free = firstFree(source.pool, source.length, name, others);
  if (free !== undefined) return free;
  throw new CiliumError(
    'PoolExhausted',
    `no /${source.length} is left in ${source.pool.toString()} (${source.option}), ${others.length} other nodes have ` +
      'ranges: give the cluster a larger one, on all nodes',
    { pool: source.pool.toString(), nodes: others.length },
  );
}

/** True when `range` could have come from `source`. */
export function isFrom(source: RangeSource, range: Prefix): boolean {
  if ('fixed' in source) return source.fixed.equals(range);
  return source.pool.contains(range) && range.length === source.length;
}

/** Throws `InUse` when a range of a network overlaps one of another node. */
export function checkNetworkRange(range: Prefix, others: readonly ClusterNode[]): void {
  const owner = ownerOf(range, others);
  if (owner === undefined) return;
  throw new CiliumError(
    'InUse',
    `${range.toString()} overlaps ${describeOwner(owner)}: add --ipam-driver cilium without --subnet (the network gets a ` +
      "part of this node's own range), or pass a --subnet that no other node has; nodes that are to share one need a part " +
      'each (--ip-range)',
    { pool: range.toString(), node: owner.node.name },
  );
}

interface Owner {
  readonly node: ClusterNode;
  readonly range: Prefix;
}

function ownerOf(range: Prefix, others: readonly ClusterNode[]): Owner | undefined {
  for (const node of others) {
    const found = nodeRanges(node).find((theirs) => theirs.overlaps(range));
    if (found !== undefined) return { node, range: found };
  }
  return undefined;
}

function describeOwner({ node, range }: Owner): string {
  const [address] = addressesOf(node, 'InternalIP');
  return `${range.toString()} of node ${node.name}${address === undefined ? '' : ` (${address.toString()})`}`;
}

/**
 * A range of this length that nobody has. The search begins at a place that follows from the node's name: so a range that
 * its node could not keep is not the first to be given away, and a node that lost all it knew finds its own again.
 * Cost: O(nodes) for each range that is taken.
 */
function firstFree(pool: Prefix, length: number, name: string, others: readonly ClusterNode[]): Prefix | undefined {
  const taken = others.flatMap(nodeRanges).filter((range) => range.overlaps(pool));
  const size = 1n << BigInt(pool.address.bits - length);
  const first = pool.first.toBigInt();
  const places = pool.size / size;
  const begin = first + (hashOf(name) % (places < PLACES ? places : PLACES)) * size;
  const search = (from: bigint, to: bigint): Prefix | undefined => {
    for (let start = from; start < to;) {
      const candidate = prefixAt(start, length, pool.family);
      const obstacle = taken.find((range) => range.overlaps(candidate));
      if (obstacle === undefined) return candidate;
      const behind = obstacle.first.toBigInt() + obstacle.size;
      start = behind <= start + size ? start + size : ((behind + size - 1n) / size) * size;
    }
    return undefined;
  };
  return search(begin, first + pool.size) ?? search(first, begin);
}

/** FNV-1a, 64 bits. */
function hashOf(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

function prefixAt(start: bigint, length: number, family: IpFamily): Prefix {
  return new Prefix(IpAddress.fromBigInt(start, family), length);
}
