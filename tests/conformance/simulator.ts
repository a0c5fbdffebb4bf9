// SPDX-License-Identifier: Apache-2.0

/**
 * The policy language, slow and obvious: one packet is judged by walking through all rules as they were written. Shares
 * no code with the engine but addresses; the engine is compared with it on random rules.
 */
import type { EntryText, PortRuleText, PortText, RuleText } from './rule-texts.ts';
import { peerMatches, selectorMatches, type SimulatedPeer, type SimulatedWorld } from './simulated-peers.ts';
import { requestMatches, type SimulatedRequest } from './simulated-requests.ts';

export type { EntryText, PortText, RuleText, SelectorText } from './rule-texts.ts';
export type { SimulatedPeer } from './simulated-peers.ts';

export interface SimulatedPacket {
  readonly proto: 'TCP' | 'UDP' | 'SCTP' | 'ICMP' | 'ICMPv6';
  /** Of the receiver, or the type of an ICMP message. */
  readonly port: number;
}

export interface Simulation extends SimulatedWorld {
  readonly rules: readonly RuleText[];
  readonly enforcement: 'default' | 'always' | 'never';
  readonly allowLocalhost?: boolean;
  readonly hostFirewall?: boolean;
  /** Numbers of port names, already resolved for the subject and direction. */
  readonly namedPorts?: (name: string) => readonly { readonly port: number; readonly protocol: string }[];
}

type Direction = 'ingress' | 'egress';

/** What all rules together say about one packet. */
interface Findings {
  readonly denied: boolean;
  /** Port rules of the entries that allow; undefined for an entry without ports. */
  readonly allows: readonly (PortRuleText | undefined)[];
  /** Allowed with no rule's help. */
  readonly open: boolean;
}

export function simulate(
  simulation: Simulation,
  subjectLabels: readonly string[],
  direction: Direction,
  peer: SimulatedPeer,
  packet: SimulatedPacket,
): 'allowed' | 'denied' | 'redirect' {
  const { denied, allows, open } = findingsOf(simulation, subjectLabels, direction, peer, packet);
  if (denied) return 'denied';
  if (allows.some((rule) => rule !== undefined && needsProxy(rule))) return 'redirect';
  return open || allows.length > 0 ? 'allowed' : 'denied';
}

/** Whether the proxy lets a request through; of a packet that is redirected. */
export function simulateRequest(
  simulation: Simulation,
  subjectLabels: readonly string[],
  direction: Direction,
  peer: SimulatedPeer,
  packet: SimulatedPacket,
  request: SimulatedRequest,
): boolean {
  const { allows, open } = findingsOf(simulation, subjectLabels, direction, peer, packet);
  return open || allows.some((rule) => rule === undefined || !needsProxy(rule) || requestMatches(rule, request));
}

function findingsOf(
  simulation: Simulation,
  subjectLabels: readonly string[],
  direction: Direction,
  peer: SimulatedPeer,
  packet: SimulatedPacket,
): Findings {
  const { rules, enforcement, allowLocalhost = false, hostFirewall = false, namedPorts = () => [] } = simulation;
  const isHost = subjectLabels.includes('reserved:host');
  if (enforcement === 'never' || (isHost && !hostFirewall)) return { denied: false, allows: [], open: true };
  const selecting = rules.filter(({ endpointSelector, nodeSelector }) => {
    const selector = isHost ? nodeSelector : endpointSelector;
    return selector !== undefined && selectorMatches(selector, subjectLabels);
  });
  const speaking = selecting.filter((rule) => [...allowsOf(rule, direction), ...deniesOf(rule, direction)].length > 0);
  const always = enforcement === 'always' || subjectLabels.includes('reserved:init');
  if (speaking.length === 0 && !always) return { denied: false, allows: [], open: true };

  const required = speaking.flatMap((rule) =>
    allowsOf(rule, direction).flatMap((entry) => entry.fromRequires ?? entry.toRequires ?? []),
  );
  const denied = speaking.some((rule) =>
    deniesOf(rule, direction).some(
      (entry) => peerMatches(entry, peer, [], simulation) && portsThatMatch(entry, packet, namedPorts).length > 0,
    ),
  );
  const allows = speaking
    .flatMap((rule) => allowsOf(rule, direction))
    .filter((entry) => peerMatches(entry, peer, required, simulation))
    .flatMap((entry) => portsThatMatch(entry, packet, namedPorts));
  const isLocalhost = 'labels' in peer && peer.labels.includes('reserved:host');
  const closing = always || speaking.some((rule) => rule.enableDefaultDeny?.[direction] ?? true);
  return { denied, allows, open: !closing || (allowLocalhost && direction === 'ingress' && isLocalhost) };
}

function allowsOf(rule: RuleText, direction: Direction): readonly EntryText[] {
  return (direction === 'ingress' ? rule.ingress : rule.egress) ?? [];
}

function deniesOf(rule: RuleText, direction: Direction): readonly EntryText[] {
  return (direction === 'ingress' ? rule.ingressDeny : rule.egressDeny) ?? [];
}

function needsProxy({ rules = {}, serverNames = [], listener }: PortRuleText): boolean {
  const lists = [rules.http, rules.kafka, rules.dns].some((list = []) => list.length > 0);
  return lists || rules.l7proto !== undefined || serverNames.length > 0 || listener !== undefined;
}

/** The port rules that the packet matches; an entry without ports matches once with none. */
function portsThatMatch(
  entry: EntryText,
  packet: SimulatedPacket,
  namedPorts: NonNullable<Simulation['namedPorts']>,
): (PortRuleText | undefined)[] {
  if ((entry.icmps ?? []).length > 0) {
    const protocol = (family?: string): string => (family === 'IPv6' ? 'ICMPv6' : 'ICMP');
    const fields = entry.icmps!.flatMap((item) => item.fields);
    const found = fields.some(({ type, family }) => type === packet.port && packet.proto === protocol(family));
    return found ? [undefined] : [];
  }
  if ((entry.toPorts ?? []).length === 0) return [undefined];
  return entry.toPorts!.filter(({ ports = [] }) => ports.some((port) => onePortMatches(port, packet, namedPorts)));
}

function onePortMatches(
  { port, endPort, protocol = 'ANY' }: PortText,
  packet: SimulatedPacket,
  namedPorts: NonNullable<Simulation['namedPorts']>,
): boolean {
  if (packet.proto.startsWith('ICMP')) return false;
  if (protocol !== 'ANY' && protocol !== packet.proto) return false;
  const first = Number(port);
  if (Number.isNaN(first)) {
    return namedPorts(port).some((named) => named.protocol === packet.proto && named.port === packet.port);
  }
  const last = endPort === undefined || endPort <= first ? first : endPort;
  if (first === 0 && last === 0) return true;
  return packet.port >= first && packet.port <= last;
}
