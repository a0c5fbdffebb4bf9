// SPDX-License-Identifier: Apache-2.0

/** The simulator's half that asks who a peer is. */
import { IpAddress, Prefix } from '../../net/ip.ts';
import type { CidrSetText, EntryText, FqdnText, SelectorText } from './rule-texts.ts';

/** Either an endpoint or reserved identity with labels (`source:key=value`), or an address outside. */
export type SimulatedPeer = { readonly labels: readonly string[] } | { readonly address: string };

/** What selectors may look up besides labels. */
export interface SimulatedWorld {
  /** One address family only: the world is not split. */
  readonly singleStack?: boolean;
  readonly groups?: Readonly<
    Record<string, { readonly labels?: Readonly<Record<string, string>>; readonly cidrs: readonly string[] }>
  >;
  readonly names?: readonly { readonly name: string; readonly ips: readonly string[] }[];
}

/** What is required of peers narrows the selectors of endpoints, nothing else. */
export function peerMatches(
  entry: EntryText,
  peer: SimulatedPeer,
  required: readonly SelectorText[],
  world: SimulatedWorld,
): boolean {
  const endpoints = entry.fromEndpoints ?? entry.toEndpoints;
  const entities = entry.fromEntities ?? entry.toEntities;
  const cidrs = entry.fromCIDR ?? entry.toCIDR;
  const cidrSets = entry.fromCIDRSet ?? entry.toCIDRSet;
  const nodes = entry.fromNodes ?? entry.toNodes;
  const expanded = entry.toServices ?? entry.fromGroups ?? entry.toGroups;
  const names = entry.toFQDNs;
  if ([endpoints, entities, cidrs, cidrSets, nodes, expanded].every((list) => list === undefined) && !names?.length) {
    // No peers: any peer, if ports are named; an entry with nothing matches nothing.
    return (entry.toPorts ?? []).length > 0 || (entry.icmps ?? []).length > 0;
  }
  const labels = 'labels' in peer ? peer.labels : worldLabels(peer.address, world);
  const inside = (text: string): boolean => 'address' in peer && covers(text, peer.address, world);
  const isNode = labels.includes('reserved:remote-node') || labels.includes('reserved:host');
  return (
    (endpoints ?? []).some((selector) => [selector, ...required].every((one) => selectorMatches(one, labels))) ||
    (entities ?? []).some((entity) => entityMatches(entity, labels)) ||
    (cidrs ?? []).some(inside) ||
    (cidrSets ?? []).some(
      (set) => prefixesOf(set, world).some(inside) && !(set.except ?? []).some((except) => inside(except)),
    ) ||
    (nodes ?? []).some((selector) => isNode && selectorMatches(selector, labels)) ||
    (names ?? []).some((item) => 'address' in peer && isNamed(item, peer.address, world))
  );
}

export function selectorMatches(selector: SelectorText, labels: readonly string[]): boolean {
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

function worldLabels(address: string, { singleStack = false }: SimulatedWorld): string[] {
  if (singleStack) return ['reserved:world'];
  return [address.includes(':') ? 'reserved:world-ipv6' : 'reserved:world-ipv4'];
}

/** Where the world is not split, the whole of either family is the world. */
function covers(text: string, address: string, { singleStack = false }: SimulatedWorld): boolean {
  const prefix = Prefix.parse(text);
  return (singleStack && prefix.length === 0) || prefix.contains(IpAddress.parse(address));
}

function prefixesOf({ cidr, cidrGroupRef, cidrGroupSelector }: CidrSetText, world: SimulatedWorld): readonly string[] {
  const groups = world.groups ?? {};
  if (cidr !== undefined) return [cidr];
  if (cidrGroupRef !== undefined) return groups[cidrGroupRef]?.cidrs ?? [];
  const labelsOf = (labels: Readonly<Record<string, string>> = {}): string[] =>
    Object.entries(labels).map(([key, value]) => `cidrgroup:${key}=${value}`);
  return Object.values(groups).flatMap((group) =>
    selectorMatches(cidrGroupSelector ?? {}, labelsOf(group.labels)) ? group.cidrs : [],
  );
}

function isNamed(item: FqdnText, address: string, { names = [] }: SimulatedWorld): boolean {
  return names.some(({ name, ips }) => ips.includes(address) && nameMatches(item, name));
}

/** Names in small letters with a final dot; of patterns only those that random rules use. */
export function nameMatches({ matchName, matchPattern }: FqdnText, name: string): boolean {
  if (matchName !== undefined && `${matchName}.` === name) return true;
  if (matchPattern === undefined) return false;
  if (matchPattern === '*') return true;
  const isDeep = matchPattern.startsWith('**.');
  const rest = (isDeep ? matchPattern.slice(3) : matchPattern).replaceAll('.', '[.]').replaceAll('*', '[-a-z0-9_]*');
  return new RegExp(`^${isDeep ? '([-a-z0-9_]+[.])+' : ''}${rest}[.]$`).test(name);
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
