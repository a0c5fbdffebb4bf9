// SPDX-License-Identifier: Apache-2.0

/** What the kernel finds in a policy map for a packet: the same two look-ups, over a list. For tests and explanations. */
import { l4Covers, l4Key, type PolicyEntry } from './map-entry.ts';

/** The first packet of a flow; `port` is the receiver's, or the type of an ICMP message. */
export interface PolicyPacket {
  /** Of the peer. */
  readonly identity: number;
  readonly egress: boolean;
  readonly protocol: number;
  readonly port: number;
}

/** The entry that decides; undefined: none, so the packet is dropped. */
export function lookupEntry(entries: Iterable<PolicyEntry>, packet: PolicyPacket): PolicyEntry | undefined {
  const wanted = l4Key(packet.protocol, packet.port);
  let own: PolicyEntry | undefined;
  let any: PolicyEntry | undefined;
  for (const entry of entries) {
    if (entry.egress !== packet.egress || !l4Covers(l4Key(entry.protocol, entry.port, entry.bits), wanted)) continue;
    if (entry.identity === packet.identity && entry.bits >= (own?.bits ?? 0)) own = entry;
    if (entry.identity === 0 && entry.bits >= (any?.bits ?? 0)) any = entry;
  }
  if (own === undefined || any === undefined) return own ?? any;
  if (own.precedence !== any.precedence) return own.precedence > any.precedence ? own : any;
  return any.bits > own.bits ? any : own;
}
