// SPDX-License-Identifier: Apache-2.0

/**
 * A node as the others know it, and its form in the key-value store: Cilium's, so that its tools can read it.
 *
 * Go's net.IPNet is written as {"IP": text, "Mask": base64 of the mask's bytes}. Members that are not for us are left
 * alone when read and written as Cilium writes them when there is nothing to say.
 */
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import { describeIssues } from '../runtime/state-file.ts';

export const NODES_PREFIX = 'cilium/state/nodes/v1/';

/** `InternalIP`: where other nodes reach it. `CiliumInternalIP`: its router, the address of cilium_host. */
export type NodeAddressType =
  'InternalIP' | 'ExternalIP' | 'CiliumInternalIP' | 'Hostname' | 'InternalDNS' | 'ExternalDNS';

export interface NodeAddress {
  readonly type: NodeAddressType;
  readonly ip: IpAddress;
}

/** How a node sends to the others; has to be the same on all. */
export interface NodeRouting {
  readonly mode: 'tunnel' | 'native';
  /** UDP; of no meaning in native mode. */
  readonly tunnelPort: number;
  /** Family of the addresses between which tunnels are. */
  readonly underlay: IpFamily;
}

export interface ClusterNode {
  readonly name: string;
  readonly cluster: string;
  readonly addresses: readonly NodeAddress[];
  /** Where its containers get addresses from. */
  readonly ipv4AllocCidr: Prefix | undefined;
  readonly ipv6AllocCidr: Prefix | undefined;
  /** Ranges of its networks that lie elsewhere, because they were made with --subnet. */
  readonly ipv4SecondaryAllocCidrs: readonly Prefix[];
  readonly ipv6SecondaryAllocCidrs: readonly Prefix[];
  readonly ipv4HealthIp: IpAddress | undefined;
  readonly ipv6HealthIp: IpAddress | undefined;
  /** Another one after each boot; empty when it is not known. */
  readonly bootId: string;
  /** Absent when the node does not tell, as other agents than ours. */
  readonly routing?: NodeRouting | undefined;
}

const FAMILIES: readonly IpFamily[] = [4, 6];
const SHORTEST_RANGE = { 4: 8, 6: 32 } as const satisfies Record<IpFamily, number>;
/** No node is reached at these: unspecified, loopback, link-local, multicast and reserved ones. */
const NO_NODE = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/127', 'fe80::/10', 'ff00::/8'].map(
  (text) => Prefix.parse(text),
);
/** Nodes of one cluster number; we know of no others. */
const CLUSTER_ID = 0;
/** What a node is to itself; the others take it for `remote-node`. */
const NODE_IDENTITY = 1;

/** Whether others may find a node at such an address. */
export function isNodeAddress(ip: IpAddress): boolean {
  return !NO_NODE.some((range) => range.contains(ip));
}

export function nodeKey(cluster: string, name: string): string {
  return `${NODES_PREFIX}${cluster}/${name}`;
}

/** All ranges of a node, the main ones first. */
export function nodeRanges(node: ClusterNode): Prefix[] {
  const main = [node.ipv4AllocCidr, node.ipv6AllocCidr].filter((range) => range !== undefined);
  return [...main, ...node.ipv4SecondaryAllocCidrs, ...node.ipv6SecondaryAllocCidrs];
}

/** Its addresses of one type. */
export function addressesOf(node: ClusterNode, type: NodeAddressType): IpAddress[] {
  return node.addresses.filter((address) => address.type === type).map(({ ip }) => ip);
}

/** Where tunnels to it end; undefined when it has no address of that family. */
export function tunnelEndpoint(node: ClusterNode, family: IpFamily): IpAddress | undefined {
  return addressesOf(node, 'InternalIP').find((ip) => ip.family === family);
}

/** Its address on cilium_host. */
export function router(node: ClusterNode, family: IpFamily): IpAddress | undefined {
  return addressesOf(node, 'CiliumInternalIP').find((ip) => ip.family === family);
}

/** The last address of a range that a device can have: where a node's router is. */
export function lastUsable(range: Prefix): IpAddress {
  return range.family === 4 && range.address.bits - range.length > 1 ? range.last.add(-1n) : range.last;
}

export function encodeNode(node: ClusterNode): string {
  const text = (address: IpAddress | undefined): string => address?.toString() ?? '';
  const range = (prefix: Prefix | undefined) => (prefix === undefined ? null : encodeRange(prefix));
  const ranges = (prefixes: readonly Prefix[]) => (prefixes.length === 0 ? null : prefixes.map(encodeRange));
  return JSON.stringify({
    Name: node.name,
    Cluster: node.cluster,
    IPAddresses: node.addresses.map(({ type, ip }) => ({ Type: type, IP: ip.toString() })),
    IPv4AllocCIDR: range(node.ipv4AllocCidr),
    IPv4SecondaryAllocCIDRs: ranges(node.ipv4SecondaryAllocCidrs),
    IPv6AllocCIDR: range(node.ipv6AllocCidr),
    IPv6SecondaryAllocCIDRs: ranges(node.ipv6SecondaryAllocCidrs),
    IPv4HealthIP: text(node.ipv4HealthIp),
    IPv6HealthIP: text(node.ipv6HealthIp),
    IPv4IngressIP: '',
    IPv6IngressIP: '',
    ClusterID: CLUSTER_ID,
    Source: 'local',
    EncryptionKey: 0,
    Labels: null,
    Annotations: null,
    NodeIdentity: NODE_IDENTITY,
    WireguardPubKey: '',
    BootID: node.bootId,
    ...(node.routing && { Docker: encodeRouting(node.routing) }),
  });
}

const Address = z.string().transform((text, context): IpAddress => {
  if (IpAddress.isValid(text)) return IpAddress.parse(text);
  context.addIssue({ code: 'custom', message: `expected an IP address, found "${text}"` });
  return z.NEVER;
});
const OptionalAddress = z
  .union([z.literal('').transform(() => undefined), Address])
  .optional()
  .transform((address) => address);
const Range = z.object({ IP: Address, Mask: z.string() }).transform(({ IP, Mask }, context): Prefix => {
  const length = maskLength(Buffer.from(Mask, 'base64'));
  if (length !== undefined && length.bytes * 8 === IP.bits) return new Prefix(IP, length.ones);
  context.addIssue({ code: 'custom', message: `"${Mask}" is no mask for ${IP.toString()}` });
  return z.NEVER;
});
const RangeOfFamily = (family: IpFamily) =>
  Range.refine((range) => range.family === family, `expected an IPv${family} range`).refine(
    ({ length }) => length >= SHORTEST_RANGE[family],
    `expected a range of /${SHORTEST_RANGE[family]} or longer: a node that had a larger one would have what is the world's`,
  );
const optionalRange = (family: IpFamily) =>
  RangeOfFamily(family)
    .nullish()
    .transform((range) => range ?? undefined);
const rangeList = (family: IpFamily) =>
  z
    .array(RangeOfFamily(family))
    .nullish()
    .transform((ranges) => ranges ?? []);
const NodeAddressTypes = z.enum([
  'InternalIP',
  'ExternalIP',
  'CiliumInternalIP',
  'Hostname',
  'InternalDNS',
  'ExternalDNS',
]);
/** 1.1 wrote the type of an address under another name. */
const NodeAddressEntry = z
  .object({ Type: NodeAddressTypes.optional(), AddressType: NodeAddressTypes.optional(), IP: z.string() })
  .transform(({ Type, AddressType, IP }) => ({ type: Type ?? AddressType ?? 'InternalIP', text: IP }));

/** A member of our own, which others pass over. What it cannot say here, it does not say: a node is no worse for that. */
const Routing = z
  .object({
    RoutingMode: z.enum(['tunnel', 'native']),
    TunnelPort: z.int().min(1).max(65_535),
    Underlay: z.enum(['ipv4', 'ipv6']),
  })
  .transform(({ RoutingMode, TunnelPort, Underlay }): NodeRouting => {
    return { mode: RoutingMode, tunnelPort: TunnelPort, underlay: Underlay === 'ipv4' ? 4 : 6 };
  });

const NodeValue = z
  .object({
    Name: z.string(),
    Cluster: z.string(),
    IPAddresses: z.array(NodeAddressEntry).nullish(),
    IPv4AllocCIDR: optionalRange(4),
    IPv6AllocCIDR: optionalRange(6),
    IPv4SecondaryAllocCIDRs: rangeList(4),
    IPv6SecondaryAllocCIDRs: rangeList(6),
    IPv4HealthIP: OptionalAddress,
    IPv6HealthIP: OptionalAddress,
    BootID: z.string().optional(),
    Docker: Routing.optional().catch(undefined),
  })
  .transform((value): ClusterNode => {
    return {
      name: value.Name,
      cluster: value.Cluster,
      // Names of hosts are of no use here.
      addresses: (value.IPAddresses ?? [])
        .filter(({ text }) => IpAddress.isValid(text))
        .map(({ type, text }) => ({ type, ip: IpAddress.parse(text) }))
        .filter(({ ip }) => isNodeAddress(ip)),
      ipv4AllocCidr: value.IPv4AllocCIDR,
      ipv6AllocCidr: value.IPv6AllocCIDR,
      ipv4SecondaryAllocCidrs: value.IPv4SecondaryAllocCIDRs,
      ipv6SecondaryAllocCidrs: value.IPv6SecondaryAllocCIDRs,
      ipv4HealthIp: value.IPv4HealthIP,
      ipv6HealthIp: value.IPv6HealthIP,
      bootId: value.BootID ?? '',
      routing: value.Docker,
    };
  });

/** Throws `InvalidArgument`, naming key and fields, for what is no node or belongs to another key. */
export function decodeNode(key: string, text: string): ClusterNode {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `${key}: expected the JSON of a node`, {}, cause);
  }
  const result = NodeValue.safeParse(value);
  if (!result.success) throw new CiliumError('InvalidArgument', `${key}: ${describeIssues(result.error.issues)}`);
  const node = result.data;
  const expected = nodeKey(node.cluster, node.name);
  if (key !== expected) throw new CiliumError('InvalidArgument', `${key}: its value belongs to ${expected}`);
  return node;
}

/** True when others would see no difference. */
export function sameNode(a: ClusterNode, b: ClusterNode): boolean {
  return encodeNode(a) === encodeNode(b);
}

function encodeRouting({ mode, tunnelPort, underlay }: NodeRouting): z.input<typeof Routing> {
  return { RoutingMode: mode, TunnelPort: tunnelPort, Underlay: `ipv${underlay}` };
}

function encodeRange(prefix: Prefix): { IP: string; Mask: string } {
  const mask = Buffer.alloc(prefix.address.bits / 8);
  for (let bit = 0; bit < prefix.length; bit++) mask[bit >> 3]! |= 0x80 >> (bit & 7);
  return { IP: prefix.address.toString(), Mask: mask.toString('base64') };
}

/** Undefined unless it is ones, then zeros. */
function maskLength(mask: Buffer): { bytes: number; ones: number } | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1*0*$/.test(bits) ? { bytes: mask.length, ones: bits.replaceAll('0', '').length } : undefined;
}

/** One value for each address family. */
export type ByFamily<T> = Readonly<Record<IpFamily, T>>;

export function byFamily<T>(make: (family: IpFamily) => T): ByFamily<T> {
  const [four, six] = FAMILIES.map(make) as [T, T];
  return { 4: four, 6: six };
}
