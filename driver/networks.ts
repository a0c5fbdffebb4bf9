// SPDX-License-Identifier: Apache-2.0

/**
 * The Docker networks of this driver, on disk in `networks.json`.
 *
 * Docker tells us about a network once, when it is made, and not again after anybody's restart. A network that the file
 * does not have, though Docker does, is made known again from what Docker's API says. All networks of a node are one L3
 * space, so their ranges must not overlap, whoever's IPAM they came from.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { DRIVER_SPACE, GLOBAL_SPACE, LOCAL_SPACE, overlapError, type Ipam } from '../ipam/ipam.ts';
import type { TakenRange } from '../ipam/ranges.ts';
import type { InterfaceAddress } from '../ipam/wire-fields.ts';
import { IpAddress, Prefix, type IpFamily } from '../net/ip.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import { prepareStateFolder, readJsonFile, writeJsonFile } from '../runtime/state-file.ts';
import { parseNetworkOptions } from './options.ts';
import { networkPools } from './types.ts';
import type {
  DockerNetwork,
  InspectNetwork,
  Ipv6Allocation,
  NetworkHooks,
  NetworkPool,
  NetworkRecord,
} from './types.ts';

/** Our name in Docker: that of the socket. */
const DRIVER_NAME = 'cilium';

/** What Docker says of one pool of a network. */
export interface PoolData {
  readonly space: string;
  readonly pool: Prefix | undefined;
  readonly gateway: InterfaceAddress | undefined;
}

export interface NetworkRequest {
  readonly id: string;
  readonly ipv4: readonly PoolData[];
  readonly ipv6: readonly PoolData[];
  readonly internal: boolean;
  readonly options: Readonly<Record<string, string>>;
}

export interface NetworksOptions {
  readonly stateDir: string;
  /** MTU of networks that do not name one. */
  readonly mtu: number;
  readonly ipam: Ipam;
  readonly hooks: NetworkHooks;
  readonly inspect: InspectNetwork;
  readonly log: Logger;
}

const address = z.string().transform((text) => IpAddress.parse(text));
const prefix = z.string().transform((text) => Prefix.parse(text));
const networkPool = z.object({ pool: prefix, gateway: address, addressLength: z.int() });
const NetworksFile = z.object({
  networks: z.array(
    z.object({
      id: z.string(),
      pools: z.object({ ipv4: z.array(networkPool), ipv6: z.array(networkPool) }),
      ipv6Allocation: networkPool.extend({ poolId: z.string() }).optional(),
      internal: z.boolean(),
      options: z.record(z.string(), z.string()),
    }),
  ),
});

export class Networks implements Component {
  readonly name = 'networks';
  readonly #options: NetworksOptions;
  readonly #path: string;
  readonly #networks = new Map<string, NetworkRecord>();
  /** Networks come and go one at a time: ranges are compared and the file is written without anyone in between. */
  readonly #changes = new SerialQueue('networks');
  #suspects = new Set<string>();

  constructor(options: NetworksOptions) {
    this.#options = options;
    this.#path = join(options.stateDir, 'networks.json');
    options.ipam.addTakenRanges(() => this.#ranges());
  }

  /** Reads the file and calls `created` for each network; needs a started Ipam. */
  async start(): Promise<void> {
    await prepareStateFolder(this.#options.stateDir);
    const { networks } = (await readJsonFile(this.#path, NetworksFile)) ?? { networks: [] };
    this.#networks.clear();
    for (const stored of networks) {
      const mtu = parseNetworkOptions(stored.options).mtu ?? this.#options.mtu;
      this.#networks.set(stored.id, { ...stored, ipv6Allocation: stored.ipv6Allocation, mtu });
    }
    this.#dropOrphanedPools();
    for (const network of this.#networks.values()) {
      await this.#options.hooks.created(network).catch((error: unknown) => {
        this.#logFailure(network, error);
      });
    }
  }

  async stop(): Promise<void> {
    await this.#changes.drain();
  }

  list(): readonly NetworkRecord[] {
    return [...this.#networks.values()];
  }

  get(id: string): NetworkRecord | undefined {
    return this.#networks.get(id);
  }

  /** The network of this ID, made known again if only Docker has it; `NotFound` when it does not, either. */
  async find(id: string): Promise<NetworkRecord> {
    const known = this.#networks.get(id);
    if (known) return known;
    const found = await this.#options.inspect(id);
    if (!found) {
      throw new CiliumError('NotFound', `network ${id} is not known: remove it (docker network rm) and create it anew`);
    }
    this.#options.log.warn('Network made known again from Docker', { dockerNetworkID: id });
    return await this.create(this.#requestFrom(found));
  }

  /** The same request again is no error. When the signal has aborted by the end, nobody wants the network any more. */
  async create(request: NetworkRequest, signal?: AbortSignal): Promise<NetworkRecord> {
    return await this.#changes.run(async () => {
      const known = this.#networks.get(request.id);
      const network = known ?? this.#build(request);
      if (known && !isSameNetwork(known, request)) {
        throw new CiliumError('AlreadyExists', `network ${request.id} exists with other ranges or options`);
      }
      this.#networks.set(network.id, network);
      try {
        await this.#save();
        await this.#options.hooks.created(network);
        signal?.throwIfAborted();
      } catch (error) {
        if (!known) {
          await this.#forget(network).catch((reason: unknown) => {
            this.#logFailure(network, reason);
            this.#releaseIpv6(network);
          });
        }
        throw error;
      }
      this.#options.log.info('Network created', {
        dockerNetworkID: network.id,
        pools: networkPools(network).map(poolText),
      });
      return network;
    });
  }

  /** An unknown network is no error. */
  async delete(id: string): Promise<void> {
    await this.#changes.run(async () => {
      const network = this.#networks.get(id);
      if (!network) return;
      await this.#forget(network);
      this.#options.log.info('Network deleted', { dockerNetworkID: id });
    });
  }

  /** Deletes networks that Docker does not have, and did not have at the collection before. Answers their IDs. */
  async collect(dockerIds: Iterable<string>): Promise<string[]> {
    const alive = new Set(dockerIds);
    const missing = [...this.#networks.keys()].filter((id) => !alive.has(id));
    const gone = missing.filter((id) => this.#suspects.has(id));
    this.#suspects = new Set(missing);
    for (const id of gone) await this.delete(id);
    return gone;
  }

  #build(request: NetworkRequest): NetworkRecord {
    const { mtu = this.#options.mtu } = parseNetworkOptions(request.options);
    const ipv4 = request.ipv4.map((data, index) => checkedPool(data, 4, `IPv4Data[${index}]`));
    const ipv6 = request.ipv6.map((data, index) => checkedPool(data, 6, `IPv6Data[${index}]`));
    const earlier: NetworkPool[] = [];
    [...request.ipv4, ...request.ipv6].forEach(({ space }, index) => {
      const pool = [...ipv4, ...ipv6][index]!;
      const twin = earlier.find((other) => other.pool.overlaps(pool.pool));
      const obstacle = twin
        ? { prefix: twin.pool, by: 'the same network' }
        : this.#options.ipam.overlap(pool.pool, space);
      if (obstacle) throw overlapError(pool.pool, obstacle);
      earlier.push(pool);
    });
    if (ipv4.length + ipv6.length === 0) {
      throw new CiliumError(
        'InvalidArgument',
        'the network has no address pool: use --ipam-driver cilium, or the default one',
      );
    }
    const ipv6Allocation = ipv6.length === 0 ? this.#allocateIpv6() : undefined;
    return {
      id: request.id,
      pools: { ipv4, ipv6 },
      ipv6Allocation,
      internal: request.internal,
      options: request.options,
      mtu,
    };
  }

  #allocateIpv6(): Ipv6Allocation | undefined {
    const { ipam } = this.#options;
    if (!ipam.hasIpv6) return undefined;
    const pool = ipam.requestPool({ space: DRIVER_SPACE, family: 6 });
    const gateway = ipam.requestAddress(pool.id, { gateway: true });
    return { poolId: pool.id, pool: pool.prefix, gateway, addressLength: gateway.bits };
  }

  async #forget(network: NetworkRecord): Promise<void> {
    await this.#options.hooks.deleted(network);
    this.#networks.delete(network.id);
    await this.#save();
    this.#releaseIpv6(network);
  }

  #releaseIpv6({ ipv6Allocation }: NetworkRecord): void {
    if (ipv6Allocation) this.#options.ipam.releasePool(ipv6Allocation.poolId);
  }

  async #save(): Promise<void> {
    const networks = this.list().map(({ id, pools, ipv6Allocation, internal, options }) => {
      return { id, pools, ipv6Allocation, internal, options };
    });
    await writeJsonFile(this.#path, { networks });
  }

  /** Pools that we took for a network and could not write down before we died. */
  #dropOrphanedPools(): void {
    const used = new Set(this.list().map((network) => network.ipv6Allocation?.poolId));
    for (const pool of [...this.#options.ipam.pools()]) {
      if (pool.space === DRIVER_SPACE && !used.has(pool.id)) this.#options.ipam.releasePool(pool.id);
    }
  }

  *#ranges(): Generator<TakenRange> {
    for (const network of this.#networks.values()) {
      for (const { pool } of networkPools(network)) yield { prefix: pool, by: `network ${network.id.slice(0, 12)}` };
    }
  }

  #requestFrom(found: DockerNetwork): NetworkRequest {
    const ours = found.Scope === 'global' ? GLOBAL_SPACE : LOCAL_SPACE;
    const space = found.IPAM.Driver === DRIVER_NAME ? ours : '';
    const data = (found.IPAM.Config ?? []).map(({ Subnet, Gateway }): PoolData => {
      const pool = Prefix.parse(Subnet);
      const gateway = Gateway ? IpAddress.parse(Gateway.split('/', 1)[0]!) : pool.first.add(1n);
      return { space, pool, gateway: { address: gateway, length: space === '' ? pool.length : gateway.bits } };
    });
    return {
      id: found.Id,
      ipv4: data.filter(({ pool }) => pool?.family === 4),
      ipv6: data.filter(({ pool }) => pool?.family === 6),
      internal: found.Internal,
      options: found.Options ?? {},
    };
  }

  #logFailure(network: NetworkRecord, error: unknown): void {
    this.#options.log.error('Network not set up as it should be', { dockerNetworkID: network.id, error });
  }
}

function checkedPool({ pool, gateway }: PoolData, family: IpFamily, field: string): NetworkPool {
  if (pool?.family !== family)
    throw new CiliumError('InvalidArgument', `${field}.Pool: expected an IPv${family} range`);
  if (!gateway || !pool.contains(gateway.address)) {
    throw new CiliumError(
      'InvalidArgument',
      `${field}.Gateway: expected an address in ${pool.toString()}: pass --gateway`,
    );
  }
  return { pool, gateway: gateway.address, addressLength: gateway.length };
}

/** True when what was recorded came from an equal request. */
function isSameNetwork(known: NetworkRecord, request: NetworkRequest): boolean {
  const ranges = (pools: readonly { pool: Prefix | undefined }[]): string =>
    pools.map(({ pool }) => String(pool)).join();
  return (
    ranges(known.pools.ipv4) === ranges(request.ipv4) &&
    ranges(known.pools.ipv6) === ranges(request.ipv6) &&
    known.internal === request.internal &&
    JSON.stringify(Object.entries(known.options).sort()) === JSON.stringify(Object.entries(request.options).sort())
  );
}

function poolText({ pool }: NetworkPool): string {
  return pool.toString();
}
