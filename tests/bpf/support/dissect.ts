// SPDX-License-Identifier: Apache-2.0

/** Reads a frame that a program has made or changed, and checks every checksum in it. */
import { IpAddress, type IpFamily } from '../../../net/ip.ts';
import { ETH, ETHERTYPE, macText, PROTOCOL, pseudoSum, sum16 } from './packet.ts';

export interface Dissected {
  readonly srcMac: string;
  readonly dstMac: string;
  readonly family: IpFamily;
  readonly src: string;
  readonly dst: string;
  readonly ttl: number;
  readonly protocol: number;
  /** TCP, UDP. */
  readonly sport: number;
  readonly dport: number;
  /** ICMP. */
  readonly type: number;
  readonly code: number;
  /** Second word of the ICMP header: identifier and sequence, or MTU. */
  readonly info: number;
  readonly id: number;
  /** What follows the first 8 bytes of the transport header. */
  readonly rest: Buffer;
  /** Of the network and the transport header. */
  readonly checksumsRight: boolean;
}

export function dissect(frame: Buffer): Dissected {
  const family = frame.readUInt16BE(12) === ETHERTYPE.ipv4 ? 4 : 6;
  const ip = frame.subarray(ETH);
  const headerLength = family === 4 ? (ip[0]! & 15) * 4 : 40;
  const end = family === 4 ? ip.readUInt16BE(2) : 40 + ip.readUInt16BE(4);
  const src = family === 4 ? ip.subarray(12, 16) : ip.subarray(8, 24);
  const dst = family === 4 ? ip.subarray(16, 20) : ip.subarray(24, 40);
  const protocol = family === 4 ? ip[9]! : ip[6]!;
  const l4 = ip.subarray(headerLength, end);
  const pseudo = protocol === PROTOCOL.icmp ? 0 : pseudoSum(src, dst, protocol, l4.length);
  const networkRight = family === 6 || sum16(ip.subarray(0, headerLength)) === 0xffff;
  return {
    dstMac: macText(frame.subarray(0, 6)),
    srcMac: macText(frame.subarray(6, 12)),
    family,
    src: addressText(src),
    dst: addressText(dst),
    ttl: family === 4 ? ip[8]! : ip[7]!,
    protocol,
    sport: l4.readUInt16BE(0),
    dport: l4.readUInt16BE(2),
    type: l4[0]!,
    code: l4[1]!,
    info: l4.readUInt32BE(4),
    id: l4.readUInt16BE(4),
    rest: l4.subarray(8),
    checksumsRight: networkRight && sum16(l4, pseudo) === 0xffff,
  };
}

export function addressText(bytes: Uint8Array): string {
  return new IpAddress(Uint8Array.from(bytes)).toString();
}
