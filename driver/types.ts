// SPDX-License-Identifier: Apache-2.0

/** What the driver knows about a Docker network, and what it asks of the rest of the agent. */
import type { IpAddress, Prefix } from '../net/ip.ts';
import type { MacAddress } from '../net/mac.ts';

/** A range of addresses of a network. Every network has a gateway address of its own in each. */
export interface NetworkPool {
  readonly pool: Prefix;
  readonly gateway: IpAddress;
  /** Prefix length of the addresses on interfaces: 32 or 128 from our IPAM, the pool's from Docker's. */
  readonly addressLength: number;
}

/** The pool that the driver took for a network to which Docker gives no IPv6 addresses. */
export interface Ipv6Allocation extends NetworkPool {
  readonly poolId: string;
}

export interface NetworkRecord {
  readonly id: string;
  readonly pools: { readonly ipv4: readonly NetworkPool[]; readonly ipv6: readonly NetworkPool[] };
  readonly ipv6Allocation: Ipv6Allocation | undefined;
  /** `--internal`: neither host nor world. */
  readonly internal: boolean;
  /** What `docker network create --opt` said. */
  readonly options: Readonly<Record<string, string>>;
  readonly mtu: number;
}

/** All pools of a network, the driver's own included. */
export function networkPools(network: NetworkRecord): readonly NetworkPool[] {
  const own = network.ipv6Allocation;
  return [...network.pools.ipv4, ...network.pools.ipv6, ...(own ? [own] : [])];
}

export interface EndpointRequest {
  readonly networkId: string;
  readonly network: NetworkRecord;
  readonly dockerEndpointId: string;
  readonly ipv4?: IpAddress;
  /** Prefix length that the container sees on its IPv4 address. */
  readonly ipv4PrefixLength?: number;
  readonly ipv6?: IpAddress;
  /** What `--mac-address` said. */
  readonly mac?: MacAddress;
  readonly driverOptions: Readonly<Record<string, string>>;
}

/** Each call may come again; calls for one endpoint never overlap. */
export interface EndpointHooks {
  /** The same request again gives the same answer. */
  create(request: EndpointRequest): Promise<{ readonly mac: MacAddress }>;
  /** Answers when the container's labels are known and its policy is in force. */
  join(request: {
    readonly network: NetworkRecord;
    readonly dockerEndpointId: string;
    readonly sandboxKey: string;
  }): Promise<{
    readonly srcName: string;
    readonly ipv4?: IpAddress | undefined;
    readonly ipv6?: IpAddress | undefined;
  }>;
  /** An endpoint that is not known is no error. */
  leave(dockerEndpointId: string): Promise<void>;
  /** An endpoint that is not known is no error; also takes back what a failed `create` left. */
  delete(dockerEndpointId: string): Promise<void>;
}

/** Each call may come again. */
export interface NetworkHooks {
  /** Called for a new network, and for each known one at start. */
  created(network: NetworkRecord): Promise<void>;
  deleted(network: NetworkRecord): Promise<void>;
}

/** The part of Docker's `GET /networks/<id>` from which a network can be known again. */
export interface DockerNetwork {
  readonly Id: string;
  readonly Internal: boolean;
  /** `local`, or `global` when the driver had that scope as the network was made. */
  readonly Scope?: string | undefined;
  readonly IPAM: {
    readonly Driver: string;
    readonly Config: readonly { readonly Subnet: string; readonly Gateway?: string | undefined }[] | null;
  };
  readonly Options: Readonly<Record<string, string>> | null;
}

/** Whether Docker takes our networks for those of one engine or for everybody's; see `networkScope` of the agent. */
export type NetworkScope = 'local' | 'global';

/** What Docker knows of a network; undefined when it has none of that ID. */
export type InspectNetwork = (id: string) => Promise<DockerNetwork | undefined>;
