// SPDX-License-Identifier: Apache-2.0

/** Where a container of a lab node is on the network, for tests that send traffic from outside of it. */
import { output } from '../../lab/command.ts';
import type { LabNode } from '../../lab/node.ts';

export interface Addresses {
  readonly ipv4: string;
  readonly ipv6?: string;
}

export async function pidOf(node: LabNode, container: string): Promise<number> {
  return Number(await node.docker(['inspect', '-f', '{{.State.Pid}}', container]));
}

/** A container's addresses as its own namespace has them: with our driver Docker may not know the IPv6 one. */
export async function addressesOf(node: LabNode, container: string): Promise<Addresses> {
  const pid = await pidOf(node, container);
  const listed = await output(['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', '-j', 'addr', 'show', 'scope', 'global']);
  const links = JSON.parse(listed) as { addr_info: { family: string; local: string }[] }[];
  const find = (family: string) =>
    links.flatMap((link) => link.addr_info).find((info) => info.family === family)?.local;
  const [ipv4, ipv6] = [find('inet'), find('inet6')];
  if (ipv4 === undefined) throw new Error(`container ${container} has no IPv4 address`);
  return { ipv4, ...(ipv6 !== undefined && { ipv6 }) };
}
