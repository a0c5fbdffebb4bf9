// SPDX-License-Identifier: Apache-2.0

/** Addresses of containers, told to the other nodes and heard from them; put together from `ipcache/shared`. */
import type { Endpoint } from '../endpoint/endpoint.ts';
import { namesOn } from '../endpoint/endpoint.ts';
import type { EndpointListener } from '../endpoint/endpoint-manager.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN, RESERVED_IDENTITIES } from '../identity/numeric-identity.ts';
import type { Ipcache, IpcacheEntry } from '../ipcache/ipcache.ts';
import { RemoteAddresses, type KnownIdentities } from '../ipcache/shared/remote-addresses.ts';
import { SharedAddresses } from '../ipcache/shared/shared-addresses.ts';
import type { Kvstore } from '../kvstore/kvstore.ts';
import type { IpAddress, IpFamily, Prefix } from '../net/ip.ts';
import type { NodeClaims } from '../node/node-claims.ts';
import { tunnelEndpoint, type ClusterNode } from '../node/node.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';

export interface ClusterAddressesDeps {
  readonly store: Kvstore;
  readonly ipcache: Ipcache;
  readonly claims: NodeClaims;
  readonly nodes: {
    readonly local: ClusterNode;
    onChange(listener: (event: { readonly node: ClusterNode }) => void): () => void;
  };
  /** Family of the addresses by which nodes reach each other. */
  readonly underlay: IpFamily;
  readonly identities: KnownIdentities;
  readonly endpoints: { list(): Endpoint[]; onChange(listener: EndpointListener): void };
  /** What the kernel's ipcache holds, from an earlier agent. */
  readonly kernelEntries: () => Iterable<{ readonly prefix: Prefix; readonly info: IpcacheEntry }>;
  /** Forgets the connections of addresses that are somebody else's now, or nobody's. */
  readonly purge: (addresses: readonly IpAddress[]) => void;
  /** Told of every change: many at once leave garbage behind. */
  readonly onNews: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

export class ClusterAddresses implements Component {
  readonly name = 'cluster-addresses';
  readonly shared: SharedAddresses;
  readonly remote: RemoteAddresses;
  readonly #deps: ClusterAddressesDeps;
  /** Those of the node itself that are published. */
  #ofNode: readonly IpAddress[] = [];
  /** The one that others send to. */
  #host: IpAddress | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(deps: ClusterAddressesDeps) {
    this.#deps = deps;
    const { store, claims, underlay, identities, ipcache, clock, log } = deps;
    const host = (): IpAddress => this.#ownHost();
    this.shared = new SharedAddresses({ store, host, claims, log, clock });
    this.remote = new RemoteAddresses({
      store,
      host,
      claims,
      identities,
      ipcache: ipcache.as('kvstore'),
      own: this.shared,
      route: (of) => ({ tunnelEndpoint: claims.tunnelEndpoint(of, underlay) ?? of }),
      log,
      clock,
    });
    ipcache.onChange(({ prefix, old, entry }) => {
      const isRemote = old?.tunnelEndpoint !== undefined && prefix.isHost;
      if (isRemote && old.identity !== entry?.identity) deps.purge([prefix.address]);
    });
    this.remote.onChange(deps.onNews);
    deps.endpoints.onChange((event, endpoint) => {
      if (event === 'deleted') for (const address of endpoint.addresses) this.shared.withdraw(address);
      else this.#publish(endpoint);
    });
  }

  /** Needs the node's claim, the endpoints of an earlier agent and the policy maps. Does not wait for the store. */
  async start(): Promise<void> {
    const { endpoints, nodes, kernelEntries } = this.#deps;
    for (const endpoint of endpoints.list()) this.#publish(endpoint);
    const { name } = nodes.local;
    this.#publishNode();
    this.#unsubscribe = nodes.onChange(({ node }) => {
      if (node.name === name) this.#publishNode();
    });
    this.remote.adopt([...kernelEntries()].filter(({ prefix, info }) => isOfContainer(prefix, info)));
    await this.remote.start();
    await this.shared.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.shared.stop();
    await this.remote.stop();
  }

  #publish({ addresses, identity, policySlot }: Endpoint): void {
    if (identity === undefined || policySlot === 0) return; // closed, or not joined yet
    const docker = namesOn(identity.container);
    for (const address of addresses) {
      this.shared.publish(address, { identity: identity.identity, ...(docker && { docker }) });
    }
  }

  #publishNode(): void {
    const { nodes, underlay } = this.#deps;
    const { local } = nodes;
    const before = this.#ofNode;
    this.#ofNode = local.addresses.map(({ ip }) => ip);
    this.#host = tunnelEndpoint(local, underlay);
    for (const address of this.#ofNode) this.shared.publish(address, { identity: RESERVED_IDENTITIES.host });
    for (const address of before) {
      if (!this.#ofNode.some((other) => other.equals(address))) this.shared.withdraw(address);
    }
  }

  #ownHost(): IpAddress {
    const { nodes, underlay } = this.#deps;
    this.#host ??= tunnelEndpoint(nodes.local, underlay);
    if (this.#host !== undefined) return this.#host;
    throw new CiliumError('Precondition', `this node has no IPv${underlay} address for other nodes`);
  }
}

function isOfContainer(prefix: Prefix, { identity, tunnelEndpoint: node }: IpcacheEntry): boolean {
  return prefix.isHost && node !== undefined && identity >= GLOBAL_IDENTITY_MIN && identity <= GLOBAL_IDENTITY_MAX;
}
