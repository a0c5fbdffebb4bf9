// SPDX-License-Identifier: Apache-2.0

/**
 * What paths between two nodes are held against: namespaces, the kernel's own devices and routes, and a wire between
 * them that is made like a lab's.
 */
import { output } from '../../lab/command.ts';
import { ipBatch, namespacePath, nft, type Path } from './paths.ts';

/** The bridge of a lab's wire filters frames, too; here it lets all of them pass. */
const WIRE_RULES = `
  table bridge lab {
    set cut { type ifname . ifname; }
    chain forward { type filter hook forward priority 0; iifname . oifname @cut drop; }
  }
`;

/** Both ends right on the wire. */
export function rawWire(): Promise<Path> {
  return namespacePath('raw wire', ['wa', 'wb', 'ww'], (a, b, wire) => layWire('eth0', [a, b], wire));
}

/** Both ends on a VXLAN device of their own that knows its one peer. */
export function rawVxlan(): Promise<Path> {
  return namespacePath('raw VXLAN device', ['va', 'vb', 'vw'], async (a, b, wire) => {
    await layWire('wire', [a, b], wire);
    await addTunnels('eth0', [a, b]);
  });
}

/** Both ends behind a veth pair to a node that forwards: to the wire, or to a VXLAN device on it. */
export function rawRouted(vxlan: boolean): Promise<Path> {
  const name = vxlan ? 'raw VXLAN device, routed veth pairs' : 'raw wire, routed veth pairs';
  const letter = vxlan ? 'x' : 'r';
  const suffixes = ['a', 'b', 'w', 'm', 'n'].map((end) => `${letter}${end}`);
  return namespacePath(name, suffixes, async (a, b, wire, ...nodes) => {
    await layWire('wire', nodes, wire);
    if (vxlan) await addTunnels('vxlan', nodes);
    else for (const [i, node] of nodes.entries()) await ipBatch(underlay('wire', i + 1), node);
    const out = vxlan ? 'vxlan' : 'wire';
    for (const [i, [end, node]] of [
      [a, nodes[0]!],
      [b, nodes[1]!],
    ].entries()) {
      await ipBatch([`link add eth0 netns ${end!} type veth peer name lxc netns ${node!}`]);
      await forward(node!);
      // The ends believe each other to be on their wire, so the nodes answer for them.
      const [own, peer] = [i + 1, 2 - i];
      await ipBatch(
        [
          ...['link set lxc up', `link set ${out} up`],
          ...[`route add 10.98.0.${own} dev lxc`, `route add 10.98.0.${peer} via 10.97.0.${peer} dev ${out} onlink`],
          ...[`route add fd98::${own} dev lxc`, `route add fd98::${peer} via fd97::${peer} dev ${out} onlink`],
          `neigh add proxy fd98::${peer} dev lxc`,
          ...(vxlan ? [`addr add 10.97.0.${own}/24 dev vxlan`, `addr add fd97::${own}/64 dev vxlan nodad`] : []),
        ],
        node,
      );
      if (vxlan) await ipBatch(['link set eth0 mtu 1450'], end);
    }
  });
}

/** A bridge in the namespace `wire` with a veth pair to device `name` of each of the others. */
async function layWire(name: string, ends: readonly string[], wire: string): Promise<void> {
  await ipBatch(['link add br0 type bridge mcast_snooping 0', 'link set br0 up'], wire);
  await nft({ netns: wire }, WIRE_RULES);
  for (const [i, end] of ends.entries()) {
    await ipBatch([`link add port${i} netns ${wire} type veth peer name ${name} netns ${end}`]);
    await ipBatch([`link set port${i} master br0 up`], wire);
  }
}

function underlay(device: string, number: number): string[] {
  return [
    `link set ${device} up`,
    `addr add 10.97.0.${number}/24 dev ${device}`,
    `addr add fd97::${number}/64 dev ${device} nodad`,
  ];
}

/** VXLAN devices that each know the other, over IPv4 addresses of the devices `wire`. */
async function addTunnels(name: string, ends: readonly string[]): Promise<void> {
  for (const [i, end] of ends.entries()) {
    const [local, remote] = [`10.96.0.${i + 1}`, `10.96.0.${2 - i}`];
    await ipBatch(
      [
        ...[`addr add ${local}/24 dev wire`, 'link set wire up'],
        `link add ${name} type vxlan id 42 local ${local} remote ${remote} dstport 8472`,
      ],
      end,
    );
  }
}

async function forward(namespace: string): Promise<void> {
  const settings = [
    ...['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'],
    ...['net.ipv4.conf.lxc.proxy_arp=1', 'net.ipv6.conf.lxc.proxy_ndp=1', 'net.ipv4.neigh.lxc.proxy_delay=0'],
  ];
  await output(['nsenter', `--net=/run/netns/${namespace}`, 'sysctl', '-qw', ...settings]);
}
