// SPDX-License-Identifier: Apache-2.0

/** Nodes and addresses as the API shows them. */
import type { IpListEntry } from '../api/cluster-models.ts';
import type { ClusterNodeStatus, NodeElement } from '../api/node-models.ts';
import type { Endpoint } from '../endpoint/endpoint.ts';
import type { Ipcache } from '../ipcache/ipcache.ts';
import type { RemoteAddress } from '../ipcache/shared/remote-addresses.ts';
import { IpAddress, Prefix, type IpFamily } from '../net/ip.ts';
import { tunnelEndpoint, type ClusterNode, type NodeRouting } from '../node/node.ts';
import { nodeAddress } from './node-facts.ts';
import type { AgentOptions } from './options.ts';

/** Nodes of this cluster are shown without its name. */
const DEFAULT_CLUSTER = 'default';

export interface ClusterViewDeps {
  /** All nodes, this one first. */
  readonly nodes: () => readonly ClusterNode[];
  readonly ipcache: Pick<Ipcache, 'entries'>;
  /** Names of containers by address, as far as they are known. */
  readonly names: () => Iterable<readonly [address: string, name: string]>;
}

export class ClusterView {
  readonly #deps: ClusterViewDeps;

  constructor(deps: ClusterViewDeps) {
    this.#deps = deps;
  }

  nodes(): ClusterNodeStatus {
    const elements = this.#deps.nodes().map((node, i) => nodeElement(node, i === 0 ? 'local' : 'kvstore'));
    return { self: elements[0]?.name ?? '', 'nodes-added': elements, 'nodes-removed': [] };
  }

  /** In ascending order; with a range only what is inside of it. */
  addresses(range?: Prefix): IpListEntry[] {
    const names = new Map(this.#deps.names());
    const found: IpListEntry[] = [];
    for (const { prefix, entry, source } of this.#deps.ipcache.entries()) {
      if (range?.contains(prefix) === false) continue;
      const name = prefix.isHost ? names.get(prefix.address.toString()) : undefined;
      found.push({
        cidr: prefix.toString(),
        identity: entry.identity,
        ...(entry.tunnelEndpoint && { hostIP: entry.tunnelEndpoint.toString() }),
        encryptKey: 0,
        metadata: { source, ...(name !== undefined && { name }) },
      });
    }
    return found;
  }
}

/** A node that has no cluster, as one that has. */
export function standaloneNode(options: Pick<AgentOptions, 'nodeName' | 'ipv4Range' | 'ipv6Range'>): ClusterNode {
  const addresses = ([4, 6] as const).map((family) => nodeAddress(family)).filter((address) => address !== undefined);
  return {
    name: options.nodeName,
    cluster: DEFAULT_CLUSTER,
    addresses: addresses.map((text) => ({ type: 'InternalIP', ip: IpAddress.parse(text) })),
    ipv4AllocCidr: Prefix.parse(options.ipv4Range),
    ipv6AllocCidr: Prefix.parse(options.ipv6Range),
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

/** How a node is called where several clusters may be meant. */
export function fullName({ name, cluster }: ClusterNode): string {
  return cluster === DEFAULT_CLUSTER ? name : `${cluster}/${name}`;
}

/** Of the containers of this node and of those that other nodes have told of, by address. */
export function* containerNames(
  endpoints: Iterable<Endpoint>,
  remote: Iterable<Pick<RemoteAddress, 'address' | 'docker'>> = [],
): Generator<[address: string, name: string]> {
  for (const { address, docker } of remote) {
    const name = docker?.names[0];
    if (name !== undefined) yield [address.toString(), name];
  }
  for (const { addresses, identity } of endpoints) {
    if (identity === undefined) continue;
    for (const address of addresses) yield [address.toString(), identity.container.name];
  }
}

function nodeElement(node: ClusterNode, source: string): NodeElement {
  const primary = { ipv4: addressOf(node, 4), ipv6: addressOf(node, 6) };
  const shown = new Set([primary.ipv4.ip, primary.ipv6.ip]);
  return {
    name: fullName(node),
    'primary-address': primary,
    'secondary-addresses': node.addresses
      .filter(({ ip }) => !shown.has(ip.toString()))
      .map(({ type, ip }) => ({ ip: ip.toString(), 'address-type': type })),
    source,
    ...(node.routing && { routing: routingModel(node.routing) }),
  };
}

function routingModel({ mode, tunnelPort, underlay }: NodeRouting): NonNullable<NodeElement['routing']> {
  return { mode, ...(mode === 'tunnel' && { 'tunnel-port': tunnelPort, underlay: `ipv${underlay}` as const }) };
}

function addressOf(node: ClusterNode, family: IpFamily): NodeElement['primary-address']['ipv4'] {
  const ip = tunnelEndpoint(node, family);
  const range = family === 4 ? node.ipv4AllocCidr : node.ipv6AllocCidr;
  return {
    enabled: ip !== undefined || range !== undefined,
    ...(ip && { ip: ip.toString() }),
    ...(range && { 'alloc-range': range.toString() }),
  };
}
