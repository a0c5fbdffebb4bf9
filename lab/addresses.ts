// SPDX-License-Identifier: Apache-2.0

/** The addresses of a lab. Labs don't see each other, so all of them use the same. */

export const MAX_NODES = 9;
/** Sizes of an etcd cluster that survive what an odd number of members can; 0: none. */
export const ETCD_SIZES = [0, 1, 3] as const;
const ETCD_CLIENT_PORT = 2379;

/** An interface's address in both families, with the length of the network on the wire. */
export interface Addresses {
  ipv4: string;
  ipv6: string;
}

export const WIRE_LENGTH = { ipv4: 24, ipv6: 64 } as const;

export function nodeAddresses(number: number): Addresses {
  return { ipv4: `192.168.251.${number}`, ipv6: `fd00:251::${number}` };
}

export function etcdAddresses(number: number): Addresses {
  return { ipv4: `192.168.251.${100 + number}`, ipv6: `fd00:251::${100 + number}` };
}

/** Where clients reach a member, in each family. */
export function etcdUrls(number: number): Addresses {
  const { ipv4, ipv6 } = etcdAddresses(number);
  return { ipv4: `http://${ipv4}:${ETCD_CLIENT_PORT}`, ipv6: `http://[${ipv6}]:${ETCD_CLIENT_PORT}` };
}

/** `outside` on the wire: the nodes' default gateway. */
export const OUTSIDE: Addresses = { ipv4: '192.168.251.254', ipv6: 'fd00:251::fe' };
/** Addresses of `outside` that nodes reach only through their default route: the world beyond the wire. */
export const WORLD: Addresses = { ipv4: '198.51.100.1', ipv6: '2001:db8:251::1' };

/** Ranges from which the agent of a node gives addresses to containers. */
export function containerRanges(number: number): Addresses {
  return { ipv4: `10.${15 + number}.0.0/16`, ipv6: `fd15:${number}::/64` };
}

/** Where containers of a node ask for names, when the agent has other nodes: the last usable address of its IPv4 range. */
export function nameServer(number: number): string {
  return `10.${15 + number}.255.254`;
}
