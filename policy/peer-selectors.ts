// SPDX-License-Identifier: Apache-2.0

/** What each kind of peer selects, as selectors over labels. */
import { formatCidrKey } from '../identity/cidr-label.ts';
import { LABEL_SOURCE } from '../identity/label.ts';
import { worldName, type Families } from '../identity/numeric-identity.ts';
import { EndpointSelector, type Requirement } from '../identity/selector.ts';
import type { Prefix } from '../net/ip.ts';
import { SECTIONS, type Entity, type Peer, type Rule, type WrittenPrefix } from './rule.ts';

/** What selectors depend on besides the rule. */
export interface PeerContext {
  readonly families: Families;
  /** Value of the label `k8s:io.cilium.k8s.policy.cluster` by which the entity `cluster` knows its own. */
  readonly clusterName: string;
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
      return peer.prefix === undefined ? [] : [prefixSelector(peer.prefix, peer.except, context)];
    case 'fqdns':
      return [EndpointSelector.ofLabel(LABEL_SOURCE.fqdn, peer.matchName ?? peer.matchPattern ?? '')];
    case 'services':
    case 'groups':
      return [];
  }
}

/** All prefixes that a rule mentions; each gets an identity, since a packet has that of its longest prefix. */
export function* prefixesOf(rule: Rule): Generator<Prefix> {
  for (const section of SECTIONS) {
    for (const { peers = [] } of rule.entries[section]) {
      for (const peer of peers) {
        if (peer.kind !== 'cidr' && peer.kind !== 'cidrSet') continue;
        if (peer.prefix !== undefined && peer.prefix.length > 0) yield peer.prefix;
        if (peer.kind === 'cidrSet') for (const { prefix } of peer.except) if (prefix.length > 0) yield prefix;
      }
    }
  }
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
        EndpointSelector.ofLabel(LABEL_SOURCE.k8s, 'io.cilium.k8s.policy.cluster', context.clusterName),
      ];
    default:
      return [reserved(entity)];
  }
}

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
