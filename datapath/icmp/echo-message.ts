// SPDX-License-Identifier: Apache-2.0

/** ICMP and ICMPv6 echo messages as bytes (RFC 792, RFC 4443 section 4). The checksum of ICMPv6 is the kernel's to fill in. */
import type { IpFamily } from '../../net/ip.ts';

/** A question is told from all others by these random bytes, which the answer repeats. */
export const TOKEN_BYTES = 8;

const REQUEST_TYPE: Readonly<Record<IpFamily, number>> = { 4: 8, 6: 128 };
export const REPLY_TYPE: Readonly<Record<IpFamily, number>> = { 4: 0, 6: 129 };
const HEADER_BYTES = 8;

/** An echo request that carries the token. */
export function encodeEchoRequest(family: IpFamily, sequence: number, token: Uint8Array): Buffer {
  const message = Buffer.alloc(HEADER_BYTES + TOKEN_BYTES);
  message[0] = REQUEST_TYPE[family];
  message.writeUInt16BE(sequence & 0xffff, 6);
  message.set(token, HEADER_BYTES);
  if (family === 4) message.writeUInt16BE(internetChecksum(message), 2);
  return message;
}

/** The token of an echo reply, from what a raw socket receives: IPv4 comes with its header; undefined for all else. */
export function decodeEchoReply(family: IpFamily, packet: Buffer): Buffer | undefined {
  const begin = family === 4 ? ((packet[0] ?? 0) & 0xf) * 4 : 0;
  const message = packet.subarray(begin);
  if (message.length < HEADER_BYTES + TOKEN_BYTES || message[0] !== REPLY_TYPE[family] || message[1] !== 0) {
    return undefined;
  }
  return message.subarray(HEADER_BYTES, HEADER_BYTES + TOKEN_BYTES);
}

/** RFC 1071, of an even number of bytes. */
function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
