// SPDX-License-Identifier: Apache-2.0

/** The ways from a client to a server on one machine that are compared with each other. */
import { readFile } from 'node:fs/promises';
import { output } from '../../lab/command.ts';
import type { LabNode } from '../../lab/node.ts';
import { type Addresses, addressesOf, pidOf } from '../support/containers.ts';
import { namespaceFile, type Place } from '../traffic/traffic.ts';

export interface Path {
  readonly name: string;
  readonly client: Place;
  readonly server: Place;
  /** Of the server. */
  readonly addresses: Addresses;
  /** Takes away what the path was made of. */
  remove(): Promise<void>;
}

/** What the others are held against: a veth pair between two namespaces and nothing else. */
export function bareVeth(): Promise<Path> {
  return namespacePath('bare veth pair', ['a', 'b'], (a, b) =>
    ipBatch([`link add eth0 netns ${a} type veth peer name eth0 netns ${b}`]),
  );
}

/**
 * Docker puts NAT rules for its name server into the namespace of every container on a user-defined network, whatever
 * its driver. They make the kernel track every IPv4 connection there, on any path.
 */
const DNS_RULES = `
  add table ip nat
  add chain ip nat OUTPUT { type nat hook output priority -100; }
  add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }
  add rule ip nat OUTPUT ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:5353
  add rule ip nat POSTROUTING ip saddr 127.0.0.11 udp sport 5353 snat to :53
`;

/** The bare veth pair, IPv4 only, with what Docker puts into containers at both ends. */
export async function bareVethWithDnsRules(): Promise<Path> {
  const path = await namespacePath("bare veth pair, Docker's DNS rules", ['da', 'db'], async (a, b) => {
    await ipBatch([`link add eth0 netns ${a} type veth peer name eth0 netns ${b}`]);
    for (const namespace of [a, b]) await nft({ netns: namespace }, DNS_RULES);
  });
  return { ...path, addresses: { ipv4: path.addresses.ipv4 } };
}

/** Takes Docker's DNS rules out of both containers of a path, to see what the rest costs. IPv4 only. */
export async function withoutDnsRules(path: Path): Promise<Path> {
  for (const place of [path.client, path.server]) await nft(place, 'delete table ip nat');
  return { ...path, addresses: { ipv4: path.addresses.ipv4 } };
}

export async function nft(place: Place, commands: string): Promise<void> {
  await output(['nsenter', `--net=${namespaceFile(place)}`, 'nft', '-f', '-'], { input: commands });
}

/** A Linux bridge in a namespace of its own, without netfilter. */
export function bareBridge(): Promise<Path> {
  return namespacePath('bare bridge', ['ba', 'bb', 'br'], async (a, b, bridge) => {
    await ipBatch([
      `link add eth0 netns ${a} type veth peer name left netns ${bridge}`,
      `link add eth0 netns ${b} type veth peer name right netns ${bridge}`,
    ]);
    const ports = ['left', 'right'].map((port) => `link set dev ${port} master br0 up`);
    await ipBatch(['link add br0 type bridge mcast_snooping 0', 'link set br0 up', ...ports], bridge);
  });
}

/** Namespaces of our own, the first two with an eth0 each that `wire` has put there. */
export async function namespacePath(
  name: string,
  suffixes: readonly string[],
  wire: (a: string, b: string, ...others: string[]) => Promise<void>,
): Promise<Path> {
  const all = suffixes.map((suffix) => `perf-${suffix}-${process.pid}`);
  const [a, b, ...others] = all as [string, string, ...string[]];
  const remove = () => ipBatch(all.map((namespace) => `netns del ${namespace}`));
  await ipBatch(all.map((namespace) => `netns add ${namespace}`));
  try {
    await wire(a, b, ...others);
    await ipBatch(hostCommands(1), a);
    await ipBatch(hostCommands(2), b);
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    name,
    client: { netns: a },
    server: { netns: b },
    addresses: { ipv4: '10.98.0.2', ipv6: 'fd98::2' },
    remove,
  };
}

function hostCommands(host: number): string[] {
  const addresses = [`addr add 10.98.0.${host}/24 dev eth0`, `addr add fd98::${host}/64 dev eth0 nodad`];
  return ['link set lo up', 'link set eth0 up', ...addresses];
}

export async function ipBatch(commands: readonly string[], namespace?: string): Promise<void> {
  await output(['ip', ...(namespace === undefined ? [] : ['-n', namespace]), '-batch', '-'], {
    input: `${commands.join('\n')}\n`,
  });
}

export interface ContainerPathOptions {
  readonly network: string;
  /** Both ends need one on a cilium network: a container without labels may do nothing. */
  readonly clientLabel?: string;
  readonly serverLabel?: string;
}

/** Two containers on one Docker network. */
export function containerPath(node: LabNode, name: string, options: ContainerPathOptions): Promise<Path> {
  return nodesPath([node, node], name, options);
}

/** A container of the first node that talks to one of the second, on networks of the same name. */
export async function nodesPath(
  [clientNode, serverNode]: readonly [LabNode, LabNode],
  name: string,
  options: ContainerPathOptions,
): Promise<Path> {
  const { network, clientLabel = 'id=plain', serverLabel = 'id=plain' } = options;
  const start = (node: LabNode, label: string) =>
    node.docker(['run', '-d', '--network', network, '-l', label, 'busybox', 'sleep', '2147483647']);
  const server = await start(serverNode, serverLabel);
  const client = await start(clientNode, clientLabel);
  const serverPid = await pidOf(serverNode, server);
  return {
    name,
    client: { pid: await pidOf(clientNode, client) },
    server: { pid: serverPid },
    addresses: await addressesOf(serverNode, server),
    remove: async () => {
      await serverNode.docker(['rm', '-f', server]);
      await clientNode.docker(['rm', '-f', client]);
    },
  };
}

/** Facts of the machine that a reader needs to judge the figures. */
export async function machineFacts(): Promise<{ cpu: string; cpus: number; kernel: string; memoryGb: number }> {
  const cpuinfo = await readFile('/proc/cpuinfo', 'utf8');
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  return {
    cpu: /^model name\s*: (.*)$/m.exec(cpuinfo)?.[1] ?? process.arch,
    cpus: cpuinfo.match(/^processor\s*:/gm)?.length ?? 0,
    kernel: (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim(),
    memoryGb: Math.round(Number(/^MemTotal:\s*(\d+)/m.exec(meminfo)?.[1] ?? 0) / 2 ** 20),
  };
}
