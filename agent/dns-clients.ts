// SPDX-License-Identifier: Apache-2.0

/**
 * Who of this node may ask its DNS server besides our own containers: the node itself, containers that share its network,
 * and those on bridges of it. Everybody else on the wire is a stranger to whom the node is no resolver.
 */
import { Prefix, type IpAddress, IpAddress as Address } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';

/** New bridges and addresses count after this. */
const REMEMBER_MS = 1_000;

export interface DnsClientsDeps {
  readonly links: {
    list(): readonly { readonly ifindex: number; readonly kind?: string | undefined }[];
    listAddresses(): readonly {
      readonly ifindex: number;
      readonly address: IpAddress;
      readonly prefixLength: number;
    }[];
  };
  /** By which other nodes reach this one: the devices that have them lead outside. */
  readonly nodeAddresses: () => readonly IpAddress[];
  readonly clock: Pick<Clock, 'monotonic'>;
}

export class DnsClients {
  readonly #deps: DnsClientsDeps;
  #own = new Set<string>();
  #inside: Prefix[] = [];
  #readAt = -Infinity;

  constructor(deps: DnsClientsDeps) {
    this.#deps = deps;
  }

  /** Whether the address is one of the node or of a container on one of its bridges. */
  has(address: string): boolean {
    const now = this.#deps.clock.monotonic();
    if (now - this.#readAt >= REMEMBER_MS) {
      this.#readAt = now;
      this.#read();
    }
    if (this.#own.has(address)) return true;
    if (!Address.isValid(address)) return false;
    const asked = Address.parse(address);
    return this.#inside.some((prefix) => prefix.contains(asked));
  }

  #read(): void {
    const { links, nodeAddresses } = this.#deps;
    const addresses = links.listAddresses();
    const bridges = new Set(links.list().flatMap(({ ifindex, kind }) => (kind === 'bridge' ? [ifindex] : [])));
    const outside = new Set(nodeAddresses().map(String));
    for (const { ifindex, address } of addresses) if (outside.has(address.toString())) bridges.delete(ifindex);
    this.#own = new Set(addresses.map(({ address }) => address.toString()));
    this.#inside = addresses
      .filter(({ ifindex }) => bridges.has(ifindex))
      .map(({ address, prefixLength }) => new Prefix(address, prefixLength));
  }
}
