// SPDX-License-Identifier: Apache-2.0

/**
 * The node's own addresses, as the kernel programs know them: a host record in cilium_lxc and identity host in ipcache.
 * Followed as interfaces come and go; an address of a container is never taken for the node's.
 */
import { HOST_ENDPOINT, type EndpointMap } from '../datapath/maps/endpoint-map.ts';
import type { Links } from '../datapath/netlink/links.ts';
import { RESERVED_IDENTITIES } from '../identity/numeric-identity.ts';
import { Prefix, type IpAddress } from '../net/ip.ts';

const LOOPBACK4 = Prefix.parse('127.0.0.0/8');
const LOOPBACK6 = Prefix.parse('::1/128');
const LINK_LOCAL6 = Prefix.parse('fe80::/10');

export interface NodeAddressesDeps {
  readonly links: Pick<Links, 'listAddresses'>;
  readonly endpoints: Pick<EndpointMap, 'update' | 'delete' | 'get' | 'entries'>;
  readonly ipcache: { upsert(prefix: Prefix, entry: { identity: number }): void; delete(prefix: Prefix): void };
}

export class NodeAddresses {
  readonly #deps: NodeAddressesDeps;
  readonly #known = new Map<string, IpAddress>();

  constructor(deps: NodeAddressesDeps) {
    this.#deps = deps;
  }

  list(): IpAddress[] {
    return [...this.#known.values()].sort((a, b) => a.compare(b));
  }

  /** Takes over the records that an earlier agent wrote, then looks at the interfaces. */
  start(): void {
    for (const { address, info } of this.#deps.endpoints.entries()) {
      if (info.host) this.#known.set(address.toString(), address);
    }
    this.refresh();
  }

  /** Looks at the interfaces again and writes what changed. */
  refresh(): void {
    const { links, endpoints, ipcache } = this.#deps;
    const present = new Map<string, IpAddress>();
    for (const { address } of links.listAddresses()) if (isReachable(address)) present.set(address.toString(), address);
    for (const [key, address] of present) {
      const record = endpoints.get(address);
      if (record !== undefined && !record.host) continue;
      if (record === undefined) endpoints.update(address, HOST_ENDPOINT);
      ipcache.upsert(Prefix.of(address), { identity: RESERVED_IDENTITIES.host });
      this.#known.set(key, address);
    }
    for (const [key, address] of this.#known) {
      if (present.has(key)) continue;
      this.#known.delete(key);
      if (endpoints.get(address)?.host === true) endpoints.delete(address);
      ipcache.delete(Prefix.of(address));
    }
  }
}

function isReachable(address: IpAddress): boolean {
  return !LOOPBACK4.contains(address) && !LOOPBACK6.contains(address) && !LINK_LOCAL6.contains(address);
}
