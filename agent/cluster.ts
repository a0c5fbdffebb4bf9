// SPDX-License-Identifier: Apache-2.0

/**
 * The part of the agent that knows of other nodes, put together. It exists with etcd only: a store of its own has a node
 * nobody else to tell.
 *
 * The node's range, and with it its router, has to be known before the datapath starts. Usually it is: from the
 * configuration, or remembered from before. Only a node that gets a range from the cluster's for the first time waits for
 * the store before that.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Datapath, DatapathOptions } from '../datapath/datapath.ts';
import { TUNNEL_OVERHEAD } from '../datapath/loader/tunnel-device.ts';
import { networkPools, type NetworkHooks, type NetworkRecord } from '../driver/types.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { TakenRange } from '../ipam/ranges.ts';
import type { Ipcache } from '../ipcache/ipcache.ts';
import type { Kvstore } from '../kvstore/kvstore.ts';
import { IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import type { RangeSource } from '../node/claim.ts';
import { LocalNode } from '../node/local-node.ts';
import { NodeClaims } from '../node/node-claims.ts';
import { NodeNetwork } from '../node/node-network.ts';
import { CLAIM_TIMEOUT_MS, NodeRegistry } from '../node/node-registry.ts';
import { byFamily, nodeRanges, tunnelEndpoint, type ByFamily, type NodeRouting } from '../node/node.ts';
import { RoutingCheck } from '../node/routing.ts';
import type { Clock } from '../runtime/clock.ts';
import { COMPONENT_TIMEOUT_MS, type Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { addressMtu, bootId, checkNodeAddress, nodeAddress } from './node-facts.ts';
import type { AgentOptions } from './options.ts';

export interface ClusterDeps {
  readonly options: AgentOptions;
  readonly store: Kvstore;
  readonly ipcache: Ipcache;
  readonly datapath: () => Datapath;
  readonly clock: Clock;
  readonly log: (subsys: string) => Logger;
}

export class Cluster {
  readonly local: LocalNode;
  readonly nodes: NodeRegistry;
  readonly network: NodeNetwork;
  /** Whether the others send as this node does. */
  readonly routing: RoutingCheck;
  /** Which addresses a node may speak for. */
  readonly claims: NodeClaims;
  /** Family of the addresses by which nodes reach each other. */
  readonly underlay: IpFamily;
  readonly #deps: ClusterDeps;
  readonly #networks = new Map<string, NetworkRecord>();

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    const { options, store, ipcache, datapath, clock, log } = deps;
    checkAddresses(options);
    this.underlay = underlayFamily(options);
    const routing: NodeRouting = {
      mode: options.routingMode,
      tunnelPort: options.tunnelPort,
      underlay: this.underlay,
    };
    this.local = new LocalNode({
      name: options.nodeName,
      cluster: options.clusterName,
      bootId: bootId(),
      addresses: () => Object.values(nodeAddresses(options)).filter((address) => address !== undefined),
      ranges: rangeSources(options),
      routing,
      stateDir: options.stateDir,
    });
    this.nodes = new NodeRegistry({ store, local: this.local, stateDir: options.stateDir, log: log('node'), clock });
    this.network = new NodeNetwork({
      links: () => datapath().links,
      hostIfindex: () => datapath().hostIfindex,
      routers: () => this.routers,
      mode: options.routingMode,
      underlay: this.underlay,
      ipcache: ipcache.as('cluster'),
      local: () => this.nodes.local,
      pools: () => [...this.#networks.values()].flatMap(networkPools).map(({ pool }) => pool),
      others: () => this.nodes.others(),
      isApart: () => this.nodes.claimState === 'lost',
      log: log('node'),
      clock,
    });
    this.routing = new RoutingCheck({ nodes: this.nodes, routing, log: log('node') });
    this.claims = new NodeClaims(this.nodes);
    this.nodes.onChange(() => this.network.changed());
    this.nodes.onClaim(() => this.network.changed());
  }

  /** Addresses of cilium_host; known once `early` has started. */
  get routers(): ByFamily<IpAddress> {
    return byFamily((family) => this.local.router(family));
  }

  get mtu(): { readonly wire: number; readonly inside: number } {
    return clusterMtu(this.#deps.options, this.underlay);
  }

  /** What the kernel's programs are told of the cluster; the routers are read when the datapath starts. */
  get datapathOptions(): Pick<DatapathOptions, 'routerAddresses' | 'tunnel'> {
    const { options } = this.#deps;
    const { local, mtu } = this;
    const routerAddresses = {
      get 4() {
        return local.router(4);
      },
      get 6() {
        return local.router(6);
      },
    };
    if (options.routingMode === 'native') return { routerAddresses };
    return { routerAddresses, tunnel: { port: options.tunnelPort, mtu: mtu.wire } };
  }

  /** Networks may use ranges that no other node has. */
  networkHooks(next: NetworkHooks, ipam: Pick<Ipam, 'partOf'>): NetworkHooks {
    return {
      created: async (network) => {
        await this.nodes.claimNetwork(
          network.id,
          networkPools(network).map(({ pool }) => ipam.partOf(pool)),
        );
        this.#networks.set(network.id, network);
        this.network.changed();
        await next.created(network);
      },
      deleted: async (network) => {
        await next.deleted(network);
        await this.nodes.releaseNetwork(network.id);
        this.#networks.delete(network.id);
        this.network.changed();
      },
    };
  }

  /** Ranges of other nodes. */
  *takenRanges(): Generator<TakenRange> {
    for (const node of this.nodes.others()) {
      for (const prefix of nodeRanges(node)) yield { prefix, by: `node ${node.name}`, elsewhere: true };
    }
  }

  /** Throws for an address that a container of this node cannot have: the router's, or one that others may have. */
  checkAddress(address: IpAddress): void {
    const { problem, local } = this.nodes;
    if (problem !== undefined) throw problem;
    if (this.routers[address.family].equals(address)) {
      throw new CiliumError(
        'InUse',
        `${address.toString()} is the address of this node's router: choose another with --ip`,
      );
    }
    const ranges = nodeRanges(local).filter(({ family }) => family === address.family);
    if (ranges.some((range) => range.contains(address))) return;
    throw new CiliumError(
      'InvalidArgument',
      `${address.toString()} is outside of this node's part of the cluster's addresses (${ranges.join(', ')}): choose an ` +
        'address in the --ip-range of the network',
    );
  }

  /** The node's devices have changed. */
  refreshAddresses(): void {
    this.nodes.refreshAddresses();
    this.network.changed();
    this.#tellTunnels();
  }

  /** To be started after the store and before the datapath: makes sure that the node's range is known. */
  get early(): Component {
    return {
      name: 'node-range',
      startTimeoutMs: CLAIM_TIMEOUT_MS,
      start: async (signal) => {
        await this.local.load();
        const isNew = !this.local.hasRanges;
        if (isNew || this.local.isIdle) {
          const limit = isNew ? signal : AbortSignal.any([signal, AbortSignal.timeout(COMPONENT_TIMEOUT_MS / 2)]);
          await this.nodes.claim(limit).catch((error: unknown) => {
            if (isNew) throw error; // else the registry tries again, and says what is wrong
          });
        }
        this.local.settle();
      },
      stop: () => Promise.resolve(),
    };
  }

  /** What follows the other nodes; needs the datapath and the store. */
  get components(): Component[] {
    const tunnels: Component = {
      name: 'tunnel-source',
      start: () => {
        this.#tellTunnels();
        return Promise.resolve();
      },
      stop: () => Promise.resolve(),
    };
    return [this.nodes, this.network, tunnels];
  }

  /** Tunnels have the address as source that others know this node by. */
  #tellTunnels(): void {
    const { tunnelSource } = this.#deps.datapath();
    tunnelSource.set(this.underlay === 4 ? tunnelEndpoint(this.nodes.local, 4) : undefined);
  }
}

/** MTU of the network between the nodes, and of what containers send through it. */
function clusterMtu(options: AgentOptions, family: IpFamily): { readonly wire: number; readonly inside: number } {
  const wire = addressMtu(nodeAddresses(options)[family]);
  return { wire, inside: options.routingMode === 'tunnel' ? wire - TUNNEL_OVERHEAD[family] : wire };
}

function nodeAddresses(options: AgentOptions): ByFamily<IpAddress | undefined> {
  const given: ByFamily<string> = { 4: options.ipv4Node, 6: options.ipv6Node };
  return byFamily((family) => {
    const text = given[family] === 'auto' ? nodeAddress(family) : given[family];
    return text === undefined ? undefined : IpAddress.parse(text);
  });
}

/**
 * Throws `Precondition` when the node does not have the addresses that it is to be known by: nobody would find it there.
 * Only at the start: one that goes later may come back.
 */
function checkAddresses({ ipv4Node, ipv6Node }: AgentOptions): void {
  if (ipv4Node !== 'auto') checkNodeAddress(IpAddress.parse(ipv4Node), '--ipv4-node');
  if (ipv6Node !== 'auto') checkNodeAddress(IpAddress.parse(ipv6Node), '--ipv6-node');
}

/** Throws `Precondition` when the node has no address of the family asked for. */
function underlayFamily(options: AgentOptions): IpFamily {
  const addresses = nodeAddresses(options);
  const wanted = { auto: addresses[4] === undefined ? 6 : 4, ipv4: 4, ipv6: 6 } as const;
  const family = wanted[options.underlayProtocol];
  if (addresses[family] !== undefined) return family;
  throw new CiliumError(
    'Precondition',
    `this node has no IPv${family} address for other nodes (--underlay-protocol=${options.underlayProtocol}): give a device ` +
      `one, or name it with --ipv${family}-node`,
  );
}

function rangeSources(options: AgentOptions): ByFamily<RangeSource> {
  const pools: ByFamily<{ readonly cidr: string; readonly length: number }> = {
    4: { cidr: options.clusterPoolIpv4Cidr, length: options.clusterPoolIpv4MaskSize },
    6: { cidr: options.clusterPoolIpv6Cidr, length: options.clusterPoolIpv6MaskSize },
  };
  return byFamily((family): RangeSource => {
    const { cidr, length } = pools[family];
    if (cidr === '') {
      const fixed = Prefix.parse(family === 4 ? options.ipv4Range : options.ipv6Range);
      return { fixed, option: `--ipv${family}-range` };
    }
    const pool = Prefix.parse(cidr);
    if (pool.length <= length) return { pool, length, option: `--cluster-pool-ipv${family}-cidr` };
    throw new CiliumError(
      'InvalidArgument',
      `--cluster-pool-ipv${family}-mask-size: expected at least ${pool.length}, the length of ${cidr}, found ${length}`,
    );
  });
}
