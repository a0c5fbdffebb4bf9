// SPDX-License-Identifier: Apache-2.0

/** Makes packets byte by byte, right by default and wrong where a test says so. */
import { IpAddress, type IpFamily } from '../../../net/ip.ts';
import { MacAddress } from '../../../net/mac.ts';

export const ETH = 14;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, gre: 47, icmp6: 58, sctp: 132 } as const;
export const TCP = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;

/** What follows the IP header. `sum` is that of the pseudo header of this length. */
export interface Transport {
  readonly protocol: number;
  readonly length: number;
  write(target: Buffer, sum: number): void;
}

export interface IpOptions {
  readonly ttl?: number;
  /** IPv4 options or IPv6 extension headers as [type, bytes]; a multiple of 4 (8) bytes. */
  readonly options?: Buffer;
  readonly extensions?: readonly (readonly [number, Buffer])[];
  readonly fragment?: { readonly id: number; readonly offset: number; readonly more: boolean };
  /** Only these bytes of the transport are in the packet; the checksum is that of all. */
  readonly slice?: readonly [number, number];
}

export interface Ends {
  readonly srcMac: string;
  readonly dstMac: string;
  readonly src: string;
  readonly dst: string;
}

/** Ones' complement sum of 16-bit words, not yet inverted. */
export function sum16(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

export function pseudoSum(src: Uint8Array, dst: Uint8Array, protocol: number, length: number): number {
  return sum16(dst, sum16(src, protocol + length));
}

/** What stands in the checksum field: UDP writes a zero as ones. */
function checksum(bytes: Buffer, start: number, udp = false): number {
  const value = ~sum16(bytes, start) & 0xffff;
  return udp && value === 0 ? 0xffff : value;
}

export function tcp(sport: number, dport: number, flags: number, payload: Buffer = Buffer.alloc(0)): Transport {
  return {
    protocol: PROTOCOL.tcp,
    length: 20 + payload.length,
    write(target, sum) {
      target.writeUInt16BE(sport, 0);
      target.writeUInt16BE(dport, 2);
      target.writeUInt32BE(0x01020304, 4);
      target.writeUInt32BE(0x05060708, 8);
      target[12] = 5 << 4;
      target[13] = flags;
      target.writeUInt16BE(0xffff, 14);
      payload.copy(target, 20);
      target.writeUInt16BE(checksum(target, sum), 16);
    },
  };
}

export function udp(sport: number, dport: number, payload: Buffer = Buffer.alloc(8, 0x55)): Transport {
  return {
    protocol: PROTOCOL.udp,
    length: 8 + payload.length,
    write(target, sum) {
      target.writeUInt16BE(sport, 0);
      target.writeUInt16BE(dport, 2);
      target.writeUInt16BE(8 + payload.length, 4);
      payload.copy(target, 8);
      target.writeUInt16BE(checksum(target, sum, true), 6);
    },
  };
}

export function icmp(family: IpFamily, type: number, code: number, rest: Buffer): Transport {
  return {
    protocol: family === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6,
    length: 4 + rest.length,
    write(target, sum) {
      target[0] = type;
      target[1] = code;
      rest.copy(target, 4);
      target.writeUInt16BE(checksum(target, family === 4 ? 0 : sum), 2);
    },
  };
}

export function echo(family: IpFamily, kind: 'request' | 'reply', id: number): Transport {
  const rest = Buffer.alloc(12, 0x61);
  rest.writeUInt16BE(id, 0);
  rest.writeUInt16BE(1, 2);
  const type = family === 4 ? { request: 8, reply: 0 } : { request: 128, reply: 129 };
  return icmp(family, type[kind], 0, rest);
}

export type ErrorKind = 'unreachable' | 'too-big' | 'time-exceeded';

/** Quotes `packet` (a whole frame) as a router would that could not pass it on. */
export function icmpError(family: IpFamily, kind: ErrorKind, packet: Buffer, info = 0): Transport {
  const rest = Buffer.concat([Buffer.alloc(4), packet.subarray(ETH, ETH + (family === 4 ? 28 : 60))]);
  rest.writeUInt32BE(info, 0);
  const types = {
    4: { unreachable: [3, 3], 'too-big': [3, 4], 'time-exceeded': [11, 0] },
    6: { unreachable: [1, 4], 'too-big': [2, 0], 'time-exceeded': [3, 0] },
  } as const;
  const [type, code] = types[family][kind];
  return icmp(family, type, code, rest);
}

export function raw(protocol: number, bytes: Buffer): Transport {
  return { protocol, length: bytes.length, write: (target) => void bytes.copy(target) };
}

export function sctp(sport: number, dport: number): Transport {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16BE(sport, 0);
  bytes.writeUInt16BE(dport, 2);
  return raw(PROTOCOL.sctp, bytes);
}

export function ethernet(dst: string, src: string, type: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(ETH);
  header.set(macBytes(dst), 0);
  header.set(macBytes(src), 6);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, payload]);
}

function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

/** A whole frame; the family is that of the addresses. */
export function packet(ends: Ends, transport: Transport, options: IpOptions = {}): Buffer {
  const src = IpAddress.parse(ends.src);
  const dst = IpAddress.parse(ends.dst);
  const whole = Buffer.alloc(transport.length);
  transport.write(whole, pseudoSum(src.bytes, dst.bytes, transport.protocol, transport.length));
  const body = options.slice === undefined ? whole : whole.subarray(...options.slice);
  const family = src.family;
  const ip =
    family === 4 ? ipv4(src, dst, transport.protocol, body, options) : ipv6(src, dst, transport, body, options);
  return ethernet(ends.dstMac, ends.srcMac, family === 4 ? ETHERTYPE.ipv4 : ETHERTYPE.ipv6, ip);
}

function ipv4(src: IpAddress, dst: IpAddress, protocol: number, body: Buffer, options: IpOptions): Buffer {
  const extra = options.options ?? Buffer.alloc(0);
  const header = Buffer.concat([Buffer.alloc(20), extra]);
  header[0] = 0x40 | (header.length / 4);
  header.writeUInt16BE(header.length + body.length, 2);
  if (options.fragment !== undefined) {
    header.writeUInt16BE(options.fragment.id, 4);
    header.writeUInt16BE((options.fragment.more ? 0x2000 : 0) | (options.fragment.offset / 8), 6);
  }
  header[8] = options.ttl ?? 64;
  header[9] = protocol;
  header.set(src.bytes, 12);
  header.set(dst.bytes, 16);
  header.writeUInt16BE(checksum(header, 0), 10);
  return Buffer.concat([header, body]);
}

function ipv6(src: IpAddress, dst: IpAddress, transport: Transport, body: Buffer, options: IpOptions): Buffer {
  const extensions: (readonly [number, Buffer])[] = [...(options.extensions ?? [])];
  if (options.fragment !== undefined) {
    const fragment = Buffer.alloc(8);
    fragment.writeUInt16BE(options.fragment.offset | (options.fragment.more ? 1 : 0), 2);
    fragment.writeUInt32BE(options.fragment.id, 4);
    extensions.push([44, fragment]);
  }
  const chain = extensions.map(([, bytes], i) => {
    const copy = Buffer.from(bytes);
    copy[0] = extensions[i + 1]?.[0] ?? transport.protocol;
    return copy;
  });
  const payload = Buffer.concat([...chain, body]);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(payload.length, 4);
  header[6] = extensions[0]?.[0] ?? transport.protocol;
  header[7] = options.ttl ?? 64;
  header.set(src.bytes, 8);
  header.set(dst.bytes, 24);
  return Buffer.concat([header, payload]);
}

export interface ArpOptions {
  readonly operation?: number;
  readonly srcMac: string;
  readonly senderMac?: string;
  readonly sender: string;
  readonly target: string;
  readonly hardware?: number;
}

export function arp(options: ArpOptions): Buffer {
  const body = Buffer.alloc(28);
  body.writeUInt16BE(options.hardware ?? 1, 0);
  body.writeUInt16BE(ETHERTYPE.ipv4, 2);
  body[4] = 6;
  body[5] = 4;
  body.writeUInt16BE(options.operation ?? 1, 6);
  body.set(macBytes(options.senderMac ?? options.srcMac), 8);
  body.set(IpAddress.parse(options.sender).bytes, 14);
  body.set(IpAddress.parse(options.target).bytes, 24);
  return ethernet('ff:ff:ff:ff:ff:ff', options.srcMac, ETHERTYPE.arp, body);
}

/** A neighbour solicitation for `target`, with or without the option that names the asker's MAC address. */
export function neighbourSolicit(target: string, mac?: string): Transport {
  const option = mac === undefined ? Buffer.alloc(0) : Buffer.concat([Buffer.from([1, 1]), macBytes(mac)]);
  return icmp(6, 135, 0, Buffer.concat([Buffer.alloc(4), IpAddress.parse(target).bytes, option]));
}

export function macText(bytes: Uint8Array): string {
  return new MacAddress(Uint8Array.from(bytes)).toString();
}
