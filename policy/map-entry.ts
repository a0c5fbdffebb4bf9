// SPDX-License-Identifier: Apache-2.0

/**
 * Keys and values of policy maps, as the kernel looks them up: per peer identity and direction a longest-prefix trie
 * over protocol and port. Inside this room protocol, port and length travel as one number (L4Key).
 */
import { portRangeToBlocks } from '../net/port-range.ts';

export interface PolicyKey {
  /** Of the peer; 0: any. */
  readonly identity: number;
  readonly egress: boolean;
  /** IPPROTO number; 0: any. */
  readonly protocol: number;
  readonly port: number;
  /** How much of protocol and port counts: 0 nothing, 8 the protocol, 8 + k the k high bits of the port too. */
  readonly bits: number;
}

export interface PolicyValue {
  readonly deny: boolean;
  /** Where the flow is redirected to; 0: nowhere. */
  readonly proxyPort: number;
  /** Between the entries of an identity and of "any" the higher wins. */
  readonly precedence: number;
  /** Which rules the entry comes from. */
  readonly cookie: number;
}

export type PolicyEntry = PolicyKey & PolicyValue;

/** All rules of this language have the same priority, so the upper 24 bits are all ones. */
const PRECEDENCE_BASE = 0xffff_ff00;
export const PRECEDENCE_ALLOW = PRECEDENCE_BASE + 1;
export const PRECEDENCE_DENY = PRECEDENCE_BASE + 255;

/** Of a redirect; of two listeners the one with the lower priority (1..126) wins. */
export function redirectPrecedence(priority: number): number {
  return PRECEDENCE_BASE + 255 - priority;
}

export const IP_PROTOCOL = { ICMP: 1, IGMP: 2, TCP: 6, UDP: 17, ICMPv6: 58, VRRP: 112, SCTP: 132 } as const;

/** protocol (8 bits), port (16), length (5). */
export type L4Key = number & { readonly brand: 'L4Key' };

const LENGTH_BITS = 5;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;
export const L4_PROTOCOL_BITS = 8;
export const L4_FULL_BITS = 24;

/** Every protocol and port. */
export const L4_ANY = 0 as L4Key;

export function l4Key(protocol: number, port = 0, bits = L4_FULL_BITS): L4Key {
  return ((((protocol << 16) | port) << LENGTH_BITS) | bits) as L4Key;
}

/** All ports of a protocol. */
export function l4Protocol(protocol: number): L4Key {
  return l4Key(protocol, 0, L4_PROTOCOL_BITS);
}

export function l4Range(protocol: number, first: number, last: number): L4Key[] {
  return portRangeToBlocks(first, last).map(({ port, bits }) => l4Key(protocol, port, L4_PROTOCOL_BITS + bits));
}

export function l4Parts(key: L4Key): { protocol: number; port: number; bits: number } {
  return { protocol: key >>> 21, port: (key >>> LENGTH_BITS) & 0xffff, bits: l4Bits(key) };
}

export function l4Bits(key: L4Key): number {
  return key & LENGTH_MASK;
}

/** True when every packet that matches `inner` matches `outer`. */
export function l4Covers(outer: L4Key, inner: L4Key): boolean {
  return l4Bits(outer) <= l4Bits(inner) && l4Cut(inner, l4Bits(outer)) === outer;
}

/** The key's first `bits` bits (at most as many as it has). */
export function l4Cut(key: L4Key, bits: number): L4Key {
  const dropped = L4_FULL_BITS - bits;
  return (((((key >>> LENGTH_BITS) >>> dropped) << dropped) << LENGTH_BITS) | bits) as L4Key;
}
