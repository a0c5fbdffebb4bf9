// SPDX-License-Identifier: Apache-2.0

/** What the agent reads off the machine it runs on. */
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Links } from '../datapath/netlink/links.ts';
import { ROUTE_PROTOCOL } from '../datapath/netlink/route.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import type { TakenRange } from '../ipam/ranges.ts';
import { IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import { isNodeAddress } from '../node/node.ts';

const ETHERNET_MTU = 1500;
const NS_PER_S = 1_000_000_000n;

/** The smallest MTU of the devices that IPv4 default routes use; Ethernet's when there is none. */
export function defaultMtu(): number {
  const mtus = defaultDevices().map(deviceMtu);
  return Math.min(...mtus, ...(mtus.length === 0 ? [ETHERNET_MTU] : []));
}

/** The address by which other nodes know this one: on a device with a default route, else on any. */
export function nodeAddress(family: IpFamily = 4): string | undefined {
  const all = networkInterfaces();
  const others = Object.keys(all).filter((name) => !isOurDevice(name) && !/^(docker|br-|veth)/.test(name));
  const addresses = [...defaultDevices(), ...defaultDevices6(), ...others].flatMap((name) => all[name] ?? []);
  const found = addresses.find((one) => {
    return one.family === `IPv${family}` && !one.internal && (one.family === 'IPv4' || one.scopeid === 0);
  });
  return found?.address;
}

/** Where it is asked for: the addresses of the node's devices. */
export type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

/** Throws `Precondition` for an address given by `option` that none of the node's own devices has. */
export function checkNodeAddress(
  address: IpAddress,
  option: string,
  interfaces: Interfaces = networkInterfaces(),
): void {
  const own = Object.entries(interfaces)
    .filter(([device]) => !isOurDevice(device))
    .flatMap(([, list]) => list ?? [])
    .map((one) => ({ ...one, ip: IpAddress.parse(one.address) }))
    .filter(({ ip }) => ip.family === address.family && isNodeAddress(ip));
  if (own.some(({ ip }) => ip.equals(address))) return;
  const has =
    own.length === 0 ? `no IPv${address.family} address that others reach` : own.map(({ ip }) => ip).join(', ');
  const fault = isNodeAddress(address) ? 'which is on no device of this node' : 'where no other node reaches this one';
  throw new CiliumError('Precondition', `${option}: found ${address.toString()}, ${fault}; it has ${has}`);
}

/** The MTU of the device that has this address; of the devices with a default route when none has. */
export function addressMtu(address: IpAddress | undefined): number {
  const text = address?.toString();
  const [device] =
    Object.entries(networkInterfaces()).find(([, list]) => list?.some((one) => one.address === text)) ?? [];
  return device === undefined ? defaultMtu() : deviceMtu(device);
}

/** Another one after each boot. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Those that IPv4 default routes use. */
function defaultDevices(): string[] {
  const routes = readFileSync('/proc/net/route', 'utf8').split('\n').slice(1);
  return routes.map((line) => line.split('\t')).flatMap(([device = '', to]) => (to === '00000000' ? [device] : []));
}

/** Those that IPv6 default routes use; the kernel's own "unreachable" one is on lo. */
function defaultDevices6(): string[] {
  if (!existsSync('/proc/net/ipv6_route')) return [];
  const routes = readFileSync('/proc/net/ipv6_route', 'utf8').split('\n');
  return routes
    .map((line) => line.trim().split(/\s+/))
    .filter(([to = '', length]) => /^0{32}$/.test(to) && length === '00')
    .map((fields) => fields.at(-1) ?? 'lo')
    .filter((device) => device !== 'lo');
}

function deviceMtu(device: string): number {
  return Number(readFileSync(`/sys/class/net/${device}/mtu`, 'utf8'));
}

/** Milliseconds of CLOCK_MONOTONIC (since boot, without suspend): the clock of the kernel's programs. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Seconds of the same clock, which conntrack lifetimes are counted in. */
export function monotonicSeconds(): number {
  return Number(process.hrtime.bigint() / NS_PER_S);
}

/** The folder of the compiled BPF objects: beside a clone's or an installation's code. */
export function objectFolder(): string {
  for (const up of ['..', '../..']) {
    const folder = join(fileURLToPath(new URL(up, import.meta.url)), 'bpf-src/build');
    if (existsSync(join(folder, 'bpf_lxc.o'))) return folder;
  }
  throw new CiliumError('Precondition', 'the compiled BPF programs are missing; build them with "make build"');
}

/** Ranges that no pool may overlap: what the node's routes lead to, other than through our devices, and its name servers. */
export function* takenRanges(links: Pick<Links, 'listRoutes' | 'list'>): Generator<TakenRange> {
  const names = new Map(links.list().map(({ ifindex, name }) => [ifindex, name]));
  for (const { prefix, ifindex, protocol } of links.listRoutes()) {
    const device = names.get(ifindex) ?? '';
    if (prefix.length === 0 || protocol === ROUTE_PROTOCOL || isOurDevice(device) || isScoped(prefix)) continue;
    yield { prefix, by: `the route through ${device}` };
  }
  for (const server of nameServers()) yield { prefix: Prefix.of(server), by: 'a name server in /etc/resolv.conf' };
}

function isOurDevice(name: string): boolean {
  return /^(cilium_|lxc|tmp)/.test(name);
}

/** Ranges of which every link has one of its own. */
function isScoped(prefix: Prefix): boolean {
  return ['fe80::/10', 'ff00::/8', '127.0.0.0/8'].some((scoped) => Prefix.parse(scoped).contains(prefix));
}

function nameServers(): IpAddress[] {
  if (!existsSync('/etc/resolv.conf')) return [];
  const lines = readFileSync('/etc/resolv.conf', 'utf8').split('\n');
  const texts = lines.map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? '');
  return texts.filter((text) => IpAddress.isValid(text)).map((text) => IpAddress.parse(text));
}
