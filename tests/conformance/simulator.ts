// SPDX-License-Identifier: Apache-2.0

/**
 * The policy language, slow and obvious: one packet is judged by walking through all rules as they were written. Shares
 * no code with the engine but addresses; the engine is compared with it on random rules.
 */
import { IpAddress, Prefix } from '../../net/ip.ts';

export interface SelectorText {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface PortText {
  readonly port: string;
  readonly endPort?: number;
  readonly protocol?: string;
}

export interface EntryText {
  readonly fromEndpoints?: readonly SelectorText[];
  readonly toEndpoints?: readonly SelectorText[];
  readonly fromRequires?: readonly SelectorText[];
  readonly toRequires?: readonly SelectorText[];
  readonly fromEntities?: readonly string[];
  readonly toEntities?: readonly string[];
  readonly fromCIDR?: readonly string[];
  readonly toCIDR?: readonly string[];
  readonly fromCIDRSet?: readonly { readonly cidr: string; readonly except?: readonly string[] }[];
  readonly toCIDRSet?: readonly { readonly cidr: string; readonly except?: readonly string[] }[];
  readonly toPorts?: readonly { readonly ports?: readonly PortText[] }[];
  readonly icmps?: readonly { readonly fields: readonly { readonly type: number; readonly family?: string }[] }[];
}

export interface RuleText {
  readonly endpointSelector: SelectorText;
  readonly ingress?: readonly EntryText[];
  readonly ingressDeny?: readonly EntryText[];
  readonly egress?: readonly EntryText[];
  readonly egressDeny?: readonly EntryText[];
  readonly enableDefaultDeny?: { readonly ingress?: boolean; readonly egress?: boolean };
  readonly labels?: readonly string[];
}

/** Either an endpoint or reserved identity with labels (`source:key=value`), or an address outside. */
export type SimulatedPeer = { readonly labels: readonly string[] } | { readonly address: string };

export interface SimulatedPacket {
  readonly proto: 'TCP' | 'UDP' | 'SCTP' | 'ICMP' | 'ICMPv6';
  /** Of the receiver, or the type of an ICMP message. */
  readonly port: number;
}

export interface Simulation {
  readonly rules: readonly RuleText[];
  readonly enforcement: 'default' | 'always' | 'never';
  readonly allowLocalhost?: boolean;
  /** Numbers of port names, already resolved for the subject and direction. */
  readonly namedPorts?: (name: string) => readonly { readonly port: number; readonly protocol: string }[];
}

export function simulate(
  { rules, enforcement, allowLocalhost = false, namedPorts = () => [] }: Simulation,
  subjectLabels: readonly string[],
  direction: 'ingress' | 'egress',
  peer: SimulatedPeer,
  packet: SimulatedPacket,
): 'allowed' | 'denied' {
  if (enforcement === 'never') return 'allowed';
  const selecting = rules.filter((rule) => selectorMatches(rule.endpointSelector, subjectLabels));
  const speaking = selecting.filter((rule) => [...allows(rule, direction), ...denies(rule, direction)].length > 0);
  const always = enforcement === 'always' || subjectLabels.includes('reserved:init');
  if (speaking.length === 0 && !always) return 'allowed';

  const required = speaking.flatMap((rule) =>
    allows(rule, direction).flatMap((entry) => entry.fromRequires ?? entry.toRequires ?? []),
  );
  const hits = (entry: EntryText, narrowing: readonly SelectorText[]): boolean =>
    peerMatches(entry, peer, narrowing) && portMatches(entry, packet, namedPorts);
  if (speaking.some((rule) => denies(rule, direction).some((entry) => hits(entry, [])))) return 'denied';
  if (speaking.some((rule) => allows(rule, direction).some((entry) => hits(entry, required)))) return 'allowed';
  if (allowLocalhost && direction === 'ingress' && 'labels' in peer && peer.labels.includes('reserved:host'))
    return 'allowed';
  const closing = always || speaking.some((rule) => rule.enableDefaultDeny?.[direction] ?? true);
  return closing ? 'denied' : 'allowed';
}

function allows(rule: RuleText, direction: 'ingress' | 'egress'): readonly EntryText[] {
  return (direction === 'ingress' ? rule.ingress : rule.egress) ?? [];
}

function denies(rule: RuleText, direction: 'ingress' | 'egress'): readonly EntryText[] {
  return (direction === 'ingress' ? rule.ingressDeny : rule.egressDeny) ?? [];
}

/** What is required of peers narrows the selectors of endpoints, nothing else. */
function peerMatches(entry: EntryText, peer: SimulatedPeer, required: readonly SelectorText[]): boolean {
  const endpoints = entry.fromEndpoints ?? entry.toEndpoints;
  const entities = entry.fromEntities ?? entry.toEntities;
  const cidrs = entry.fromCIDR ?? entry.toCIDR;
  const cidrSets = entry.fromCIDRSet ?? entry.toCIDRSet;
  if (endpoints === undefined && entities === undefined && cidrs === undefined && cidrSets === undefined) {
    // No peers: any peer, if ports are named; an entry with nothing matches nothing.
    return (entry.toPorts ?? []).length > 0 || (entry.icmps ?? []).length > 0;
  }
  const labels = 'labels' in peer ? peer.labels : worldLabels(peer.address);
  const inside = (prefix: string): boolean =>
    'address' in peer && Prefix.parse(prefix).contains(IpAddress.parse(peer.address));
  return (
    (endpoints ?? []).some((selector) => [selector, ...required].every((one) => selectorMatches(one, labels))) ||
    (entities ?? []).some((entity) => entityMatches(entity, labels)) ||
    (cidrs ?? []).some(inside) ||
    (cidrSets ?? []).some(({ cidr, except = [] }) => inside(cidr) && !except.some(inside))
  );
}

function worldLabels(address: string): string[] {
  return [address.includes(':') ? 'reserved:world-ipv6' : 'reserved:world-ipv4'];
}

function entityMatches(entity: string, labels: readonly string[]): boolean {
  const reserved = (name: string): boolean => labels.includes(`reserved:${name}`);
  if (entity === 'all') return true;
  if (entity === 'world') return ['world', 'world-ipv4', 'world-ipv6'].some(reserved);
  if (entity === 'cluster') {
    const own = ['host', 'remote-node', 'init', 'ingress', 'health', 'unmanaged', 'kube-apiserver'].some(reserved);
    const named = labels.find((label) => label.startsWith('k8s:io.cilium.k8s.policy.cluster='));
    if (named !== undefined) return own || named.endsWith('=default');
    return own || labels.some((label) => label.startsWith('container:'));
  }
  return reserved(entity);
}

function portMatches(
  entry: EntryText,
  packet: SimulatedPacket,
  namedPorts: NonNullable<Simulation['namedPorts']>,
): boolean {
  if ((entry.icmps ?? []).length > 0) {
    return entry.icmps!.some(({ fields }) =>
      fields.some(
        ({ type, family }) => type === packet.port && packet.proto === (family === 'IPv6' ? 'ICMPv6' : 'ICMP'),
      ),
    );
  }
  if ((entry.toPorts ?? []).length === 0) return true;
  return entry.toPorts!.some(({ ports = [] }) => ports.some((port) => onePortMatches(port, packet, namedPorts)));
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

function selectorMatches(selector: SelectorText, labels: readonly string[]): boolean {
  const valueOf = (key: string): string | undefined => {
    const [source, name] = key.includes(':') ? key.split(':') : ['any', key];
    const found = labels
      .map(split)
      .filter((label) => label.key === name && (source === 'any' || source === label.source));
    // Of several sources the first in order counts.
    return found.sort((a, b) => (a.source < b.source ? -1 : 1))[0]?.value;
  };
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => valueOf(key) === value) &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = valueOf(key);
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      if (operator === 'In') return value !== undefined && values.includes(value);
      return value === undefined || !values.includes(value);
    })
  );
}

function split(label: string): { source: string; key: string; value: string } {
  const [, source = '', key = '', value = ''] = /^([^:]*):([^=]*)=?(.*)$/.exec(label) ?? [];
  return { source, key, value };
}
