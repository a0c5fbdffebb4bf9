// SPDX-License-Identifier: Apache-2.0

/** What the compiled programs make of the packet of a conformance check, with the policy map that the engine gives. */
import assert from 'node:assert/strict';
import type { IpFamily } from '../../../net/ip.ts';
import { IP_PROTOCOL, type PolicyEntry } from '../../../policy/map-entry.ts';
import type { PolicyPacket } from '../../../policy/lookup.ts';
import type { Side } from '../../conformance/engine.ts';
import type { PacketJudge } from '../../conformance/runner.ts';
import { dropReasons, verdicts } from './assert.ts';
import { Bed, ends, prefixOf, type Result, WORLD } from './bed.ts';
import { icmp, packet, sctp, tcp, TCP, type Transport, udp } from './packet.ts';

const PROXY_MISSING = -dropReasons().get('DROP_PROXY_LOOKUP_FAILED')!;

/** Endpoint B of the bed has the policy; endpoint A or the outside is the peer. */
export function kernelJudge(bed: Bed): PacketJudge {
  let loaded: readonly PolicyEntry[] | undefined;
  return (side, entries) => {
    if (isIcmpError(side.packet) || isLinkBusiness(side.packet) || isImpossible(side)) return undefined;
    bed.flush();
    if (loaded !== entries) bed.policy(bed.b, entries);
    loaded = entries;
    return judge(bed, side);
  };
}

/** The kernel judges an error with the flow that it is about, and drops one about no flow whatever the policy says. */
function isIcmpError({ protocol, port }: PolicyPacket): boolean {
  if (protocol === IP_PROTOCOL.ICMP) return [3, 4, 5, 11, 12].includes(port);
  return protocol === IP_PROTOCOL.ICMPv6 && port < 128;
}

/** Neighbour discovery and multicast listeners never leave the link: the kernel deals with them before any policy. */
function isLinkBusiness({ protocol, port }: PolicyPacket): boolean {
  return protocol === IP_PROTOCOL.ICMPv6 && ((port >= 130 && port <= 137) || port === 143);
}

/** ICMP of one family to an address of the other. */
function isImpossible({ packet: { protocol }, peerAddress }: Side): boolean {
  const other = peerAddress?.family === 6 ? IP_PROTOCOL.ICMP : IP_PROTOCOL.ICMPv6;
  return peerAddress !== undefined && protocol === other;
}

function judge(bed: Bed, { subject, packet: sent, peerAddress }: Side): 'allowed' | 'denied' | 'redirect' {
  const { a, b } = bed;
  const family: IpFamily = peerAddress?.family ?? (sent.protocol === IP_PROTOCOL.ICMPv6 ? 6 : 4);
  bed.setEndpoint(b, { identity: subject });
  const outside = peerAddress !== undefined;
  if (outside) bed.ipcache.update(prefixOf(WORLD[family]), { identity: sent.identity });
  else bed.setEndpoint(a, { identity: sent.identity });
  const peer = outside ? WORLD : a;
  const [from, to] = sent.egress ? [b, peer] : [peer, b];
  const frame = packet(ends(from, to, family), transportOf(sent, family));
  const result = sent.egress ? bed.send(b, frame) : outside ? bed.fromOutside(frame) : bed.send(a, frame);
  return verdictOf(result, sent);
}

function verdictOf(result: Result, { egress, identity }: PolicyPacket): 'allowed' | 'denied' | 'redirect' {
  const event = verdicts(result).find((verdict) => verdict.egress === egress);
  assert.ok(event, `no verdict, but action ${result.action}, drop ${result.dropReason}`);
  assert.equal(event.remoteIdentity, identity);
  if (event.verdict === PROXY_MISSING) return 'redirect';
  return event.verdict < 0 ? 'denied' : 'allowed';
}

function transportOf({ protocol, port }: PolicyPacket, family: IpFamily): Transport {
  const sport = 33_000;
  switch (protocol) {
    case IP_PROTOCOL.TCP:
      return tcp(sport, port, TCP.syn);
    case IP_PROTOCOL.UDP:
      return udp(sport, port);
    case IP_PROTOCOL.SCTP:
      return sctp(sport, port);
    default:
      return icmp(family, port, 0, Buffer.alloc(16, 1));
  }
}
