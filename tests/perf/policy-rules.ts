// SPDX-License-Identifier: Apache-2.0

/** Rules for the policy benchmarks, as many as wanted, all for the containers with the label `role=server`. */
import { WORLD } from '../../lab/addresses.ts';

export const RULE_KINDS = ['ports', 'CIDRs', 'peers'] as const;
export type RuleKind = (typeof RULE_KINDS)[number];

/** What the last rule of a kind allows, for a packet to try: this port, from the client or to the world. */
export const PROBE_PORT = 80;
export const CLIENT_PEER = 'client';

const endpointSelector = { matchLabels: { role: 'server' } };

type RuleMaker = (n: number) => object;

const MAKERS: Readonly<Record<RuleKind, RuleMaker>> = {
  ports: (n) => ({ endpointSelector, ingress: [{ toPorts: [portRule(1000 + n)] }] }),
  CIDRs: (n) => ({ endpointSelector, egress: [{ toCIDR: [`10.${100 + (n >> 8)}.${n & 255}.0/24`] }] }),
  peers: (n) => ({
    endpointSelector,
    ingress: [{ fromEndpoints: [peer(peerName(n))], toPorts: [portRule(PROBE_PORT)] }],
  }),
};

const PROBES: Readonly<Record<RuleKind, object>> = {
  ports: { endpointSelector, ingress: [{ toPorts: [portRule(PROBE_PORT)] }] },
  CIDRs: { endpointSelector, egress: [{ toCIDR: [`${WORLD.ipv4}/32`] }] },
  peers: { endpointSelector, ingress: [{ fromEndpoints: [peer(CLIENT_PEER)], toPorts: [portRule(PROBE_PORT)] }] },
};

/** Nobody may reach the servers, and they nobody. */
export const BASE_RULE = {
  endpointSelector,
  ingress: [{ fromEndpoints: [peer('nobody')] }],
  egress: [{ toEndpoints: [peer('nobody')] }],
  labels: ['bench=base'],
};

/** One more rule, unlike all others. */
export const ON_TOP_PORT = 53;
export const ON_TOP_RULE = {
  endpointSelector,
  ingress: [{ toPorts: [portRule(ON_TOP_PORT)] }],
  labels: ['bench=one'],
};

/** Distinct rules; the last is the one that a packet tries. */
export function rulesOf(kind: RuleKind, count: number): object[] {
  const rules = Array.from({ length: count - 1 }, (_, n) => MAKERS[kind](n));
  return [...rules, PROBES[kind]].map((rule) => ({ ...rule, labels: [`bench=${kind}`] }));
}

/** The label of the n-th peer, as one of the rules names it. */
export function peerName(n: number): string {
  return `p${n}`;
}

function peer(name: string): object {
  return { matchLabels: { peer: name } };
}

function portRule(port: number): object {
  return { ports: [{ port: String(port), protocol: 'TCP' }] };
}
