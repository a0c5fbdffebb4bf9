// SPDX-License-Identifier: Apache-2.0

/**
 * Docker networks as the host sees them: a route to each range through cilium_host, and the gateway's address there.
 *
 * Routes have global scope: Docker takes link-scope routes for ranges in use and would ask for another pool for ever.
 * A network made with --internal gets neither, because the host is outside for it.
 */
import type { Links } from '../datapath/netlink/links.ts';
import type { IpAddress, Prefix } from '../net/ip.ts';
import { networkPools, type NetworkHooks, type NetworkRecord } from '../driver/types.ts';

/** Adding what is there and deleting what is not are no errors. */
export type HostLinks = Pick<
  Links,
  'addAddress' | 'deleteAddress' | 'listAddresses' | 'addRoute' | 'deleteRoute' | 'listRoutes'
>;

export interface HostRoutesDeps {
  /** To be had once the datapath has started, as is the index of cilium_host. */
  readonly links: () => HostLinks;
  readonly hostIfindex: () => number;
  /** The node has other addresses than before. */
  readonly onAddressesChanged: () => void;
  /** What else belongs on cilium_host: the ways to other nodes. */
  readonly kept?: { wantsRoute(prefix: Prefix): boolean; isRouter(address: IpAddress): boolean } | undefined;
}

export class HostRoutes implements NetworkHooks {
  readonly #deps: HostRoutesDeps;

  constructor(deps: HostRoutesDeps) {
    this.#deps = deps;
  }

  created(network: NetworkRecord): Promise<void> {
    if (!network.internal) {
      const links = this.#deps.links();
      const ifindex = this.#deps.hostIfindex();
      for (const { pool, gateway } of networkPools(network)) {
        links.addAddress(ifindex, gateway);
        links.addRoute({ prefix: pool, ifindex, source: gateway });
      }
      this.#deps.onAddressesChanged();
    }
    return Promise.resolve();
  }

  deleted(network: NetworkRecord): Promise<void> {
    if (!network.internal) {
      const links = this.#deps.links();
      const ifindex = this.#deps.hostIfindex();
      for (const { pool, gateway } of networkPools(network)) {
        links.deleteRoute({ prefix: pool, ifindex });
        links.deleteAddress(ifindex, gateway);
      }
      this.#deps.onAddressesChanged();
    }
    return Promise.resolve();
  }

  /** After a start: takes away what networks that are gone left on cilium_host. */
  collect(networks: readonly NetworkRecord[]): void {
    const { kept } = this.#deps;
    const links = this.#deps.links();
    const ifindex = this.#deps.hostIfindex();
    const pools = networks.filter((network) => !network.internal).flatMap(networkPools);
    const prefixes = new Set(pools.map(({ pool }) => pool.toString()));
    const gateways = new Set(pools.map(({ gateway }) => gateway.toString()));
    for (const route of links.listRoutes()) {
      if (route.ifindex !== ifindex || prefixes.has(route.prefix.toString())) continue;
      if (kept?.wantsRoute(route.prefix) !== true) links.deleteRoute(route);
    }
    for (const { address, prefixLength } of links.listAddresses(ifindex)) {
      if (gateways.has(address.toString()) || kept?.isRouter(address) === true) continue;
      links.deleteAddress(ifindex, address, prefixLength);
    }
  }
}
