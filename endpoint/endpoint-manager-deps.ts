// SPDX-License-Identifier: Apache-2.0

/** What the endpoint manager is asked for, and what it needs of others. */
import type { IpAddress, Prefix } from '../net/ip.ts';
import type { MacAddress } from '../net/mac.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/logger.ts';
import type { ContainerInfo, Endpoint } from './endpoint.ts';
import type { PolicyRealizer } from './policy-realizer.ts';
import type { EndpointStore } from './store.ts';

export interface CreateRequest {
  readonly networkId: string;
  readonly dockerEndpointId: string;
  readonly internal: boolean;
  readonly mtu: number;
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
  readonly mac: MacAddress | undefined;
}

/** The part of a network device that endpoints need. */
export interface VethLinks {
  createVeth(options: { hostName: string; peerName: string; hostMac: MacAddress; peerMac: MacAddress; mtu: number }): {
    hostIfindex: number;
  };
  /** False when there was none. May take tens of milliseconds, off the event loop. */
  deleteLink(name: string): Promise<boolean>;
  getLink(name: string): { readonly ifindex: number } | undefined;
}

/** The kernel's record of an endpoint's address. */
export interface EndpointRecords {
  update(
    address: IpAddress,
    record: {
      ifindex: number;
      identity: number;
      policySlot: number;
      host: boolean;
      internal: boolean;
      id: number;
      mtu: number;
      mac: MacAddress;
      hostMac: MacAddress;
    },
  ): void;
  delete(address: IpAddress): void;
  get(
    address: IpAddress,
  ): { readonly identity: number; readonly policySlot: number; readonly host: boolean } | undefined;
  entries(): Iterable<{ readonly address: IpAddress; readonly info: { readonly host: boolean } }>;
}

/** Labels to numbers; an identity is known to every policy map before `acquire` resolves. */
export interface IdentityRegistry {
  acquire(
    container: ContainerInfo,
    changes: Endpoint['labelChanges'],
    networkId: string,
  ): Promise<{ identity: number; labels: string }>;
  /** Takes back an identity that an endpoint had before a restart, under the same number where possible. */
  reacquire(labels: string, identity: number): Promise<number>;
  release(labels: string): Promise<void>;
}

export interface EndpointManagerDeps {
  readonly links: VethLinks;
  readonly records: EndpointRecords;
  readonly ipcache: {
    upsert(prefix: Prefix, entry: { identity: number }): void;
    delete(prefix: Prefix): void;
  };
  readonly identities: IdentityRegistry;
  readonly policy: PolicyRealizer;
  readonly containers: {
    /** The container of this endpoint is about to start: `find` will be called soon. */
    foresee(dockerEndpointId: string): void;
    /** Who the container is; undefined while Docker does not say. */
    find(networkId: string, dockerEndpointId: string, signal: AbortSignal): Promise<ContainerInfo | undefined>;
  };
  readonly connections: {
    /** Begins to remove what conntrack and masquerade remember of the addresses. */
    purge(addresses: readonly IpAddress[]): void;
    /** Resolves once nothing is remembered of the addresses any more. */
    purged(addresses: readonly IpAddress[]): Promise<void>;
  };
  /**
   * Awaited before addresses get an identity: resolves once no other node takes them for another one, which they had
   * before. Throws when that cannot be brought about.
   */
  readonly takeOver: (addresses: readonly IpAddress[], identity: number) => Promise<void>;
  readonly store: EndpointStore;
  readonly clock: Clock;
  readonly log: Logger;
}
