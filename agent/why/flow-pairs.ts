// SPDX-License-Identifier: Apache-2.0

/**
 * Flows seen, from end to end. A flow between two endpoints of this node is seen twice, where it leaves and where it
 * arrives; here it is one, and endpoints of one identity are one end.
 */
import type { SeenFlow } from './seen-flows.ts';

/** Whoever has an identity; outside with an address. */
export interface FlowEndpoint {
  readonly identity: number;
  readonly address: string | undefined;
}

export interface FlowPair {
  readonly from: FlowEndpoint;
  readonly to: FlowEndpoint;
  /** IPPROTO number. */
  readonly protocol: number;
  /** Of the receiver; the type for ICMP. */
  readonly port: number;
  /** How often a packet of it was asked about: new connections and packets that were refused. */
  readonly count: number;
  /** Milliseconds since the epoch. */
  readonly firstSeen: number;
  readonly lastSeen: number;
}

interface Sides {
  readonly pair: Omit<FlowPair, 'count' | 'firstSeen' | 'lastSeen'>;
  readonly counts: { ingress: number; egress: number };
  firstSeen: number;
  lastSeen: number;
}

/** `identityOf` an endpoint; flows of endpoints without one are left out. */
export function flowPairs(flows: Iterable<SeenFlow>, identityOf: (endpoint: number) => number | undefined): FlowPair[] {
  const found = new Map<string, Sides>();
  for (const flow of flows) {
    const identity = identityOf(flow.endpoint);
    if (identity === undefined) continue;
    const subject = { identity, address: undefined };
    const peer = { identity: flow.peer, address: flow.address };
    const [from, to] = flow.direction === 'egress' ? [subject, peer] : [peer, subject];
    const key = `${nameOf(from)} ${nameOf(to)} ${flow.protocol} ${flow.port}`;
    let sides = found.get(key);
    if (sides === undefined) {
      const pair = { from, to, protocol: flow.protocol, port: flow.port };
      sides = { pair, counts: { ingress: 0, egress: 0 }, firstSeen: flow.firstSeen, lastSeen: flow.lastSeen };
      found.set(key, sides);
    }
    sides.counts[flow.direction] += flow.allowed + flow.denied;
    sides.firstSeen = Math.min(sides.firstSeen, flow.firstSeen);
    sides.lastSeen = Math.max(sides.lastSeen, flow.lastSeen);
  }
  return Array.from(found.values(), ({ pair, counts, firstSeen, lastSeen }) => ({
    ...pair,
    count: Math.max(counts.ingress, counts.egress),
    firstSeen,
    lastSeen,
  }));
}

/** The identity of a peer outside may have changed meanwhile: its address is what lasts. */
function nameOf({ identity, address }: FlowEndpoint): string {
  return address ?? String(identity);
}
