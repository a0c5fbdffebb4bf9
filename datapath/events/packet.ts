// SPDX-License-Identifier: Apache-2.0

/**
 * Reads the headers of a captured packet, as far as they were captured, and says them in a few words.
 *
 * Input is whatever a container sent: nothing here throws, a header that is cut short ends the reading.
 */
import { IpAddress } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import { icmpTypeName } from './icmp.ts';

const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;

export const IP_PROTOCOL = { icmp: 1, igmp: 2, tcp: 6, udp: 17, icmpv6: 58, vrrp: 112, sctp: 132 } as const;

/** IPv6 headers that may stand before the transport's, and the most that we follow. */
const EXTENSION_HEADERS: ReadonlySet<number> = new Set([0, 43, 44, 60]);
const FRAGMENT_HEADER = 44;
const MAX_EXTENSION_HEADERS = 8;

const TCP_FLAG_NAMES = [
  [0x02, 'SYN'],
  [0x10, 'ACK'],
  [0x04, 'RST'],
  [0x01, 'FIN'],
] as const;

export interface Packet {
  readonly ethernet: { readonly source: MacAddress; readonly destination: MacAddress; readonly type: number };
  readonly ip?: {
    readonly version: 4 | 6;
    readonly source: IpAddress;
    readonly destination: IpAddress;
    readonly protocol: number;
    readonly ttl: number;
    /** A fragment that is not the first: it has no transport header. */
    readonly laterFragment: boolean;
  };
  readonly tcp?: { readonly sourcePort: number; readonly destinationPort: number; readonly flags: number };
  /** UDP or SCTP. */
  readonly ports?: { readonly sourcePort: number; readonly destinationPort: number };
  readonly icmp?: { readonly type: number; readonly code: number };
}

/** Undefined when there is not even an Ethernet header. */
export function dissectPacket(bytes: Uint8Array): Packet | undefined {
  if (bytes.length < ETHERNET_BYTES) return undefined;
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ethernet = {
    destination: new MacAddress(Uint8Array.from(data.subarray(0, 6))),
    source: new MacAddress(Uint8Array.from(data.subarray(6, 12))),
    type: data.readUInt16BE(12),
  };
  const found = dissectIp(data, ethernet.type);
  if (found === undefined) return { ethernet };
  const { ip, transport } = found;
  if (ip.laterFragment) return { ethernet, ip };
  return { ethernet, ip, ...dissectTransport(data.subarray(transport), ip.protocol) };
}

/** The packet in the words of the monitor: "10.1.1.2:33772 -> 10.1.1.3:80 tcp SYN". */
export function summarizePacket(bytes: Uint8Array): string {
  const packet = dissectPacket(bytes);
  if (packet === undefined) return '[unknown]';
  const { ethernet, ip, tcp, ports, icmp } = packet;
  if (ip === undefined) {
    const name = ethernet.type === ETHERTYPE_ARP ? 'ARP' : `0x${ethernet.type.toString(16).padStart(4, '0')}`;
    return `${ethernet.source.toString()} -> ${ethernet.destination.toString()} ${name}`;
  }
  if (tcp !== undefined) return `${between(ip, tcp)} tcp ${tcpFlagNames(tcp.flags)}`;
  if (ports !== undefined) return `${between(ip, ports)} ${ip.protocol === IP_PROTOCOL.sctp ? 'sctp' : 'udp'}`;
  const ends = `${ip.source.toString()} -> ${ip.destination.toString()}`;
  if (icmp !== undefined) return `${ends} icmp ${icmpTypeName(ip.version, icmp.type, icmp.code)}`;
  return ends;
}

/** "SYN, ACK"; the flags that say nothing of the connection's state are left out. */
export function tcpFlagNames(flags: number): string {
  return TCP_FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0)
    .map(([, name]) => name)
    .join(', ');
}

type Ip = NonNullable<Packet['ip']>;

function dissectIp(data: Buffer, type: number): { ip: Ip; transport: number } | undefined {
  if (type === ETHERTYPE_IPV4) return dissectIpv4(data);
  return type === ETHERTYPE_IPV6 ? dissectIpv6(data) : undefined;
}

function dissectIpv4(data: Buffer): { ip: Ip; transport: number } | undefined {
  const at = ETHERNET_BYTES;
  if (data.length < at + 20) return undefined;
  const ip: Ip = {
    version: 4,
    source: new IpAddress(Uint8Array.from(data.subarray(at + 12, at + 16))),
    destination: new IpAddress(Uint8Array.from(data.subarray(at + 16, at + 20))),
    protocol: data[at + 9]!,
    ttl: data[at + 8]!,
    laterFragment: (data.readUInt16BE(at + 6) & 0x1fff) !== 0,
  };
  return { ip, transport: at + Math.max(20, (data[at]! & 0xf) * 4) };
}

function dissectIpv6(data: Buffer): { ip: Ip; transport: number } | undefined {
  const at = ETHERNET_BYTES;
  if (data.length < at + 40) return undefined;
  let protocol = data[at + 6]!;
  let transport = at + 40;
  let laterFragment = false;
  for (let i = 0; i < MAX_EXTENSION_HEADERS && EXTENSION_HEADERS.has(protocol); i++) {
    if (data.length < transport + 8) break;
    const isFragment = protocol === FRAGMENT_HEADER;
    if (isFragment && data.readUInt16BE(transport + 2) >> 3 !== 0) laterFragment = true;
    protocol = data[transport]!;
    transport += isFragment ? 8 : (data[transport + 1]! + 1) * 8;
  }
  const ip: Ip = {
    version: 6,
    source: new IpAddress(Uint8Array.from(data.subarray(at + 8, at + 24))),
    destination: new IpAddress(Uint8Array.from(data.subarray(at + 24, at + 40))),
    protocol,
    ttl: data[at + 7]!,
    laterFragment,
  };
  return { ip, transport };
}

function dissectTransport(header: Buffer, protocol: number): Pick<Packet, 'tcp' | 'ports' | 'icmp'> {
  switch (protocol) {
    case IP_PROTOCOL.tcp:
      return header.length < 14 ? {} : { tcp: { ...readPorts(header), flags: header[13]! } };
    case IP_PROTOCOL.udp:
    case IP_PROTOCOL.sctp:
      return header.length < 4 ? {} : { ports: readPorts(header) };
    case IP_PROTOCOL.icmp:
    case IP_PROTOCOL.icmpv6:
      return header.length < 2 ? {} : { icmp: { type: header[0]!, code: header[1]! } };
    default:
      return {};
  }
}

function readPorts(header: Buffer): { sourcePort: number; destinationPort: number } {
  return { sourcePort: header.readUInt16BE(0), destinationPort: header.readUInt16BE(2) };
}

function between(ip: Ip, ports: { readonly sourcePort: number; readonly destinationPort: number }): string {
  const end = (address: IpAddress, port: number): string =>
    address.family === 4 ? `${address.toString()}:${port}` : `[${address.toString()}]:${port}`;
  return `${end(ip.source, ports.sourcePort)} -> ${end(ip.destination, ports.destinationPort)}`;
}
