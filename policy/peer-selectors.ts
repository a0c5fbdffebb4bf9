// SPDX-License-Identifier: Apache-2.0

/** What each kind of peer selects, as selectors over labels. */
import { formatCidrKey } from '../identity/cidr-label.ts';
import type { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE, type Label } from '../identity/label.ts';
import { worldName, type Families } from '../identity/numeric-identity.ts';
import { ANY_KEY, EndpointSelector, type Requirement } from '../identity/selector.ts';
import type { Prefix } from '../net/ip.ts';
import {
  SECTIONS,
  type CidrSetPeer,
  type Entity,
  type FqdnPeer,
  type Peer,
  type Rule,
  type WrittenPrefix,
} from './rule.ts';

/** Names the cluster of an endpoint, where Kubernetes gives it one. */
export const CLUSTER_KEY = 'io.cilium.k8s.policy.cluster';

/** What selectors depend on besides the rule. */
export interface PeerContext {
  readonly families: Families;
  /** By it the entity `cluster` knows endpoints of Kubernetes as its own. */
  readonly clusterName: string;
  /** CIDR groups by name. */
  readonly groups: ReadonlyMap<string, CidrGroup>;
}

export interface CidrGroup {
  /** Labels of source `cidrgroup`. */
  readonly labels: LabelSet;
  readonly prefixes: readonly Prefix[];
}

/** Selectors of which one must match. */
export function peerSelectors(peer: Peer, context: PeerContext): EndpointSelector[] {
  switch (peer.kind) {
    case 'endpoints':
      return [peer.selector];
    case 'nodes':
      return [peer.selector.and(reserved('remote-node')), peer.selector.and(reserved('host'))];
    case 'entities':
      return entitySelectors(peer.entity, context);
    case 'cidr':
      return [prefixSelector(peer.prefix, [], context)];
    case 'cidrSet':
      return prefixesOfSet(peer, context.groups).map((prefix) => prefixSelector(prefix, peer.except, context));
    case 'fqdns':
      return [EndpointSelector.ofLabel(LABEL_SOURCE.fqdn, fqdnLabel(peer).key)];
    case 'services':
    case 'groups':
      return [];
  }
}

/** The label that an address has which was learned for a name of this toFQDNs item. */
export function fqdnLabel({ matchName, matchPattern }: FqdnPeer): Label {
  return { source: LABEL_SOURCE.fqdn, key: matchName ?? matchPattern ?? '', value: '' };
}

/** All prefixes that a rule mentions; each gets an identity, since a packet has that of its longest prefix. */
export function prefixesOf(rule: Rule, groups: PeerContext['groups']): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const peer of peersOf(rule)) {
    if (peer.kind === 'cidr') prefixes.push(peer.prefix);
    else if (peer.kind === 'cidrSet')
      prefixes.push(...prefixesOfSet(peer, groups), ...peer.except.map(({ prefix }) => prefix));
  }
  return prefixes.filter((prefix) => prefix.length > 0);
}

/** Whether a change of CIDR groups may change what the rule selects. */
export function usesGroups(rule: Rule): boolean {
  return peersOf(rule).some((peer) => peer.kind === 'cidrSet' && peer.prefix === undefined);
}

export function peersOf(rule: Rule): Peer[] {
  const all: Peer[] = [];
  for (const section of SECTIONS) {
    for (const { peers } of rule.entries[section]) if (peers !== undefined) for (const peer of peers) all.push(peer);
  }
  return all;
}

/** A group that does not exist has no prefixes. */
function prefixesOfSet(peer: CidrSetPeer, groups: PeerContext['groups']): readonly Prefix[] {
  if (peer.prefix !== undefined) return [peer.prefix];
  if (peer.groupRef !== undefined) return groups.get(peer.groupRef)?.prefixes ?? [];
  const { groupSelector } = peer;
  return [...groups.values()].flatMap(({ labels, prefixes }) =>
    groupSelector?.matches(labels) === true ? prefixes : [],
  );
}

function entitySelectors(entity: Entity, context: PeerContext): EndpointSelector[] {
  switch (entity) {
    case 'all':
      return [EndpointSelector.WILDCARD];
    case 'world':
      return ['world', 'world-ipv4', 'world-ipv6'].map(reserved);
    case 'cluster':
      return [
        ...['host', 'remote-node', 'init', 'ingress', 'health', 'unmanaged', 'kube-apiserver'].map(reserved),
        EndpointSelector.ofLabel(LABEL_SOURCE.k8s, CLUSTER_KEY, context.clusterName),
        CONTAINERS,
      ];
    default:
      return [reserved(entity)];
  }
}

/** Docker's endpoints belong to the cluster too, and have no label that says so; one that names a cluster is believed. */
const CONTAINERS = new EndpointSelector([
  { source: LABEL_SOURCE.container, key: ANY_KEY, operator: 'Exists', values: [] },
  { source: LABEL_SOURCE.k8s, key: CLUSTER_KEY, operator: 'DoesNotExist', values: [] },
]);

function reserved(name: string): EndpointSelector {
  return EndpointSelector.ofLabel(LABEL_SOURCE.reserved, name);
}

/** A whole family is its world label; everything outside has one, and nothing else does. */
function prefixSelector(prefix: Prefix, except: readonly WrittenPrefix[], { families }: PeerContext): EndpointSelector {
  const inside = requirement(prefix, families, 'Exists');
  return new EndpointSelector([
    inside,
    ...except.map(({ prefix: outer }) => requirement(outer, families, 'DoesNotExist')),
  ]);
}

function requirement(prefix: Prefix, families: Families, operator: 'Exists' | 'DoesNotExist'): Requirement {
  if (prefix.length > 0) return { source: LABEL_SOURCE.cidr, key: formatCidrKey(prefix), operator, values: [] };
  return { source: LABEL_SOURCE.reserved, key: worldName(prefix.family, families), operator, values: [] };
}
