// SPDX-License-Identifier: Apache-2.0

/**
 * This node: what it tells of itself, and what it must remember of that to be the same after a restart, even when the
 * store is away then. Kept in `node.json` of the state folder.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import { prepareStateFolder, readJsonFile, writeJsonFile } from '../runtime/state-file.ts';
import { checkNetworkRange, chooseRange, isFrom, type RangeSource } from './claim.ts';
import { byFamily, lastUsable, type ByFamily, type ClusterNode, type NodeRouting } from './node.ts';

export interface LocalNodeOptions {
  readonly name: string;
  readonly cluster: string;
  readonly bootId: string;
  /** Its addresses towards other nodes, at most one of each family; asked for again when the node's addresses change. */
  readonly addresses: () => readonly IpAddress[];
  readonly ranges: ByFamily<RangeSource>;
  readonly routing: NodeRouting;
  readonly stateDir: string;
}

const prefix = z.string().transform((text) => Prefix.parse(text));
const NodeFile = z.object({
  name: z.string(),
  cluster: z.string(),
  ipv4Range: prefix,
  ipv6Range: prefix,
  networks: z.array(z.object({ id: z.string(), ranges: z.array(prefix) })),
});

export class LocalNode {
  readonly #options: LocalNodeOptions;
  readonly #path: string;
  #ranges: Partial<Record<IpFamily, Prefix>> = {};
  /** The node's networks by their ID, each with its ranges outside of the node's own. */
  #networks = new Map<string, readonly Prefix[]>();
  #wasThere = false;
  #isSettled = false;
  #addresses: readonly IpAddress[] = [];

  constructor(options: LocalNodeOptions) {
    this.#options = options;
    this.#path = join(options.stateDir, 'node.json');
  }

  get name(): string {
    return this.#options.name;
  }

  get cluster(): string {
    return this.#options.cluster;
  }

  /** An earlier agent of this name has claimed ranges with the state folder that we have. */
  get isKnown(): boolean {
    return this.#wasThere;
  }

  /** Both ranges are known, so the node can work while the store is away. */
  get hasRanges(): boolean {
    return this.#ranges[4] !== undefined && this.#ranges[6] !== undefined;
  }

  /** The node's range; throws before it is known. */
  range(family: IpFamily): Prefix {
    const range = this.#ranges[family];
    if (range === undefined) throw new CiliumError('Internal', `this node has no IPv${family} range yet`);
    return range;
  }

  router(family: IpFamily): IpAddress {
    return lastUsable(this.range(family));
  }

  /** Towards other nodes. */
  get addresses(): readonly IpAddress[] {
    return this.#addresses;
  }

  get node(): ClusterNode {
    const networks = [...this.#networks.values()].flat();
    const distinct = [...new Map(networks.map((range) => [range.toString(), range])).values()];
    const internal = this.#addresses.map((ip) => ({ type: 'InternalIP' as const, ip }));
    const routers = Object.values(byFamily((family) => this.router(family)));
    return {
      name: this.name,
      cluster: this.cluster,
      addresses: [...internal, ...routers.map((ip) => ({ type: 'CiliumInternalIP' as const, ip }))],
      ipv4AllocCidr: this.range(4),
      ipv6AllocCidr: this.range(6),
      ipv4SecondaryAllocCidrs: distinct.filter(({ family }) => family === 4),
      ipv6SecondaryAllocCidrs: distinct.filter(({ family }) => family === 6),
      // No endpoint of its own for that: routers are probed.
      ipv4HealthIp: undefined,
      ipv6HealthIp: undefined,
      bootId: this.#options.bootId,
      routing: this.#options.routing,
    };
  }

  /** Reads what was remembered. Ranges that do not fit the configuration any more are forgotten. */
  async load(): Promise<void> {
    await prepareStateFolder(this.#options.stateDir);
    this.refreshAddresses();
    const file = await readJsonFile(this.#path, NodeFile);
    if (file === undefined) return;
    const { name, cluster, ranges } = this.#options;
    this.#wasThere = file.name === name && file.cluster === cluster;
    this.#networks = new Map(file.networks.map(({ id, ranges: theirs }) => [id, theirs]));
    // What was claimed under another name is to be claimed anew.
    if (!this.#wasThere) return;
    if (isFrom(ranges[4], file.ipv4Range)) this.#ranges[4] = file.ipv4Range;
    if (isFrom(ranges[6], file.ipv6Range)) this.#ranges[6] = file.ipv6Range;
  }

  /** True when the node has other addresses than at the last look. */
  refreshAddresses(): boolean {
    const present = this.#options.addresses();
    // One that is away for a moment, as when a device is set up anew, is not unsaid: nobody could use that.
    const kept = this.#addresses.filter((old) => !present.some(({ family }) => family === old.family));
    const now = [...present, ...kept].sort((a, b) => a.compare(b));
    if (now.join() === this.#addresses.join()) return false;
    this.#addresses = now;
    return true;
  }

  /** Chooses ranges and checks all that the node has against the others'. Throws `InUse` or `PoolExhausted`. */
  chooseRanges(others: readonly ClusterNode[]): void {
    const { ranges } = this.#options;
    const mayMove = !this.#isSettled && this.#networks.size === 0;
    const { name } = this;
    this.#ranges = byFamily((family) => {
      return chooseRange(ranges[family], { name, mayMove, remembered: this.#ranges[family] }, others);
    });
    for (const range of [...this.#networks.values()].flat()) checkNetworkRange(range, others);
  }

  /** From now on the ranges are in use: they are not exchanged any more. */
  settle(): void {
    this.#isSettled = true;
  }

  /** Nothing of the ranges can be in use: the node has no network. */
  get isIdle(): boolean {
    return this.#networks.size === 0;
  }

  /** Sets the ranges of a network; of those only what is outside of the node's own counts, and needs a claim. */
  setNetwork(id: string, ranges: readonly Prefix[]): { readonly isNews: boolean; readonly needsClaim: boolean } {
    const outside = ranges.filter((range) => !this.range(range.family).contains(range));
    const known = this.#networks.get(id);
    this.#networks.set(id, outside);
    return { isNews: known === undefined, needsClaim: outside.join() !== (known ?? []).join() };
  }

  /** True when the network had ranges outside of the node's. */
  deleteNetwork(id: string): boolean {
    const known = this.#networks.get(id);
    this.#networks.delete(id);
    return known !== undefined && known.length > 0;
  }

  networkRanges(id: string): readonly Prefix[] | undefined {
    return this.#networks.get(id);
  }

  networks(): string[] {
    return [...this.#networks.keys()];
  }

  async save(): Promise<void> {
    await writeJsonFile(this.#path, {
      name: this.name,
      cluster: this.cluster,
      ipv4Range: this.range(4),
      ipv6Range: this.range(6),
      networks: Array.from(this.#networks, ([id, ranges]) => ({ id, ranges })),
    });
    this.#wasThere = true;
  }
}
