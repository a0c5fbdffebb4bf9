// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_host and its peer cilium_net: the way between the node's own stack and the containers.
 *
 * The node's container ranges are routed to cilium_host; what goes out there comes in at cilium_net, where cil_from_host
 * takes it. What containers send to the node is handed to the stack as if it came in at cilium_host, so a reverse-path
 * check of any strictness (rp_filter 0, 1, 2, of `all` as well) finds the route it looks for.
 */
import { randomBytes } from 'node:crypto';
import { CiliumError } from '../../errors/cilium-error.ts';
import { MacAddress } from '../../net/mac.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { Links } from '../netlink/links.ts';
import type { Link } from '../netlink/link.ts';
import { writeSysctl } from './sysctl.ts';

export const HOST_DEVICE = 'cilium_host';
export const HOST_PEER_DEVICE = 'cilium_net';

export interface HostDevice {
  readonly ifindex: number;
  readonly peerIfindex: number;
  readonly mac: MacAddress;
}

/**
 * Settings of both devices: no address of their own making, no router's advice, no check of the path back. Forwarding is
 * what the programs' route look-ups, which ask on behalf of cilium_host, need; the other devices' is left alone.
 */
const SETTINGS: readonly (readonly [string, string])[] = [
  ['ipv4/conf/%s/rp_filter', '0'],
  ['ipv4/conf/%s/send_redirects', '0'],
  ['ipv4/conf/%s/forwarding', '1'],
  ['ipv6/conf/%s/accept_ra', '0'],
  ['ipv6/conf/%s/disable_ipv6', '0'],
  ['ipv6/conf/%s/forwarding', '1'],
];

/** Makes the pair, or takes over the one that is there. */
export function ensureHostDevice(links: Links, mtu: number, log: Logger): HostDevice {
  if (links.getLink(HOST_DEVICE) === undefined && links.getLink(HOST_PEER_DEVICE) === undefined) {
    const mac = (): MacAddress => MacAddress.fromRandom(randomBytes(6));
    links.addPlainVeth({ name: HOST_DEVICE, mac: mac(), mtu }, { name: HOST_PEER_DEVICE, mac: mac(), mtu });
  }
  const host = requireVeth(links.getLink(HOST_DEVICE), HOST_DEVICE);
  const peer = requireVeth(links.getLink(HOST_PEER_DEVICE), HOST_PEER_DEVICE);
  for (const { name, ifindex } of [host, peer]) {
    links.change(ifindex, { noArp: true, mtu, generateAddresses: false });
    for (const [path, value] of SETTINGS) {
      const setting = `net/${path.replace('%s', name)}`;
      if (writeSysctl(setting, value)) log.info('Set kernel parameter', { parameter: setting, value });
    }
    links.change(ifindex, { up: true });
  }
  return { ifindex: host.ifindex, peerIfindex: peer.ifindex, mac: host.mac };
}

function requireVeth(link: Link | undefined, name: string): Link & { readonly mac: MacAddress } {
  if (link?.kind === 'veth' && link.mac !== undefined) return { ...link, mac: link.mac };
  throw new CiliumError('Precondition', `device ${name} is not ours; delete it: ip link delete ${name}`, { name });
}
