// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_vxlan: the one device of all tunnels to other nodes. What comes in there belongs to cil_from_overlay alone, so the
 * device is never up without it. Exists only while tunnels are on.
 */
import { randomBytes } from 'node:crypto';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { IpFamily } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import type { Logger } from '../../runtime/logger.ts';
import { attachedProgramId, type BpfProgram, TC_INGRESS } from '../ffi/bpf-program.ts';
import type { Link } from '../netlink/link.ts';
import type { Links } from '../netlink/links.ts';
import { VXLAN_KIND } from '../netlink/vxlan.ts';

export const TUNNEL_DEVICE = 'cilium_vxlan';

/** Cilium's port, which is Linux's old one and not that of the RFC. */
export const DEFAULT_TUNNEL_PORT = 8472;

/** Bytes that a tunnel adds to a packet, by the family between the nodes: Ethernet, VXLAN, UDP, outer IP header. */
export const TUNNEL_OVERHEAD = { 4: 50, 6: 70 } as const satisfies Record<IpFamily, number>;

export interface TunnelOptions {
  /** UDP port, the same on all nodes. @default DEFAULT_TUNNEL_PORT */
  readonly port?: number;
  /** MTU of the network between the nodes. */
  readonly mtu: number;
}

type DeviceLinks = Pick<Links, 'getLink' | 'addVxlan' | 'change' | 'deleteLink'>;

/** Makes the device, or takes over the one that is there if it is what is wanted; without a program it is down. */
export async function ensureTunnelDevice(links: DeviceLinks, options: TunnelOptions, log: Logger): Promise<Link> {
  const port = options.port ?? DEFAULT_TUNNEL_PORT;
  const mtu = options.mtu - TUNNEL_OVERHEAD[4];
  const present = links.getLink(TUNNEL_DEVICE);
  if (present !== undefined && !isWanted(present, port)) {
    log.warn('Replace device, its settings differ', { interface: TUNNEL_DEVICE });
    await links.deleteLink(TUNNEL_DEVICE);
  }
  if (links.getLink(TUNNEL_DEVICE) === undefined) {
    links.addVxlan({ name: TUNNEL_DEVICE, port, mac: MacAddress.fromRandom(randomBytes(6)), mtu });
  }
  const link = links.getLink(TUNNEL_DEVICE);
  if (link === undefined) throw new CiliumError('NotFound', `device ${TUNNEL_DEVICE} vanished while it was set up`);
  const change = { noArp: true, mtu, generateAddresses: false };
  links.change(
    link.ifindex,
    attachedProgramId(link.ifindex, TC_INGRESS) === undefined ? { ...change, up: false } : change,
  );
  return link;
}

/** From here on the tunnel takes packets. */
export function openTunnel(links: DeviceLinks, ifindex: number, program: BpfProgram): void {
  program.attach(ifindex, TC_INGRESS);
  links.change(ifindex, { up: true });
}

/** False when it was not there. */
export function removeTunnelDevice(links: DeviceLinks): Promise<boolean> {
  const isOurs = links.getLink(TUNNEL_DEVICE)?.kind === VXLAN_KIND;
  return isOurs ? links.deleteLink(TUNNEL_DEVICE) : Promise.resolve(false);
}

function isWanted({ kind, vxlan }: Link, port: number): boolean {
  if (kind !== VXLAN_KIND) {
    const message = `device ${TUNNEL_DEVICE} is not ours; delete it: ip link delete ${TUNNEL_DEVICE}`;
    throw new CiliumError('Precondition', message, { name: TUNNEL_DEVICE, kind });
  }
  return vxlan !== undefined && vxlan.external && !vxlan.learning && vxlan.port === port;
}
