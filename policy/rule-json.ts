// SPDX-License-Identifier: Apache-2.0

/** Rules printed as `policy get` shows them and `policy import` reads them again. */
import type { EndpointSelector, SelectorJson } from '../identity/selector.ts';
import type { L7Rules } from './l7/rules.ts';
import {
  directionOf,
  SECTIONS,
  type Direction,
  type Entry,
  type Peer,
  type PortRule,
  type PortSpec,
  type Rule,
} from './rule.ts';

/** Members of an entry by kind of peer, after "from" or "to". */
const PEER_MEMBERS: Readonly<Record<Peer['kind'], string>> = {
  endpoints: 'Endpoints',
  nodes: 'Nodes',
  entities: 'Entities',
  cidr: 'CIDR',
  cidrSet: 'CIDRSet',
  fqdns: 'FQDNs',
  services: 'Services',
  groups: 'Groups',
};

/** Reads back to an equal rule. */
export function ruleToJson(rule: Rule): object {
  const sections = SECTIONS.filter((section) => rule.entries[section].length > 0).map((section) => [
    section,
    rule.entries[section].map((entry) => entryToJson(entry, directionOf(section))),
  ]);
  return {
    [rule.subject.kind === 'node' ? 'nodeSelector' : 'endpointSelector']: rule.subject.selector,
    ...(Object.fromEntries(sections) as object),
    ...(rule.labels.length > 0
      ? { labels: rule.labels.map(({ key, value, source }) => ({ key, value, source })) }
      : {}),
    ...(rule.description === undefined ? {} : { description: rule.description }),
    ...(rule.log === undefined ? {} : { log: { value: rule.log } }),
    enableDefaultDeny: rule.enableDefaultDeny,
  };
}

function entryToJson(entry: Entry, direction: Direction): object {
  const word = direction === 'ingress' ? 'from' : 'to';
  return {
    ...(entry.peers === undefined ? {} : peersToJson(entry.peers, word)),
    ...(entry.requires === undefined ? {} : { [`${word}Requires`]: entry.requires }),
    ...(entry.toPorts === undefined ? {} : { toPorts: entry.toPorts.map(portRuleToJson) }),
    ...(entry.icmps === undefined
      ? {}
      : { icmps: [{ fields: entry.icmps.map(({ family, type }) => ({ family: `IPv${family}`, type })) }] }),
    ...(entry.authentication === undefined ? {} : { authentication: { mode: entry.authentication } }),
  };
}

/** All peers of an entry are of one kind; an empty list selects nobody whatever it is called. */
function peersToJson(peers: readonly Peer[], word: string): object {
  const kind = peers[0]?.kind ?? 'endpoints';
  return { [word + PEER_MEMBERS[kind]]: peers.map(peerToJson) };
}

/** As the rule's member for its kind has it. */
export function peerToJson(peer: Peer): object | string {
  switch (peer.kind) {
    case 'endpoints':
    case 'nodes':
      return peer.selector;
    case 'entities':
      return peer.entity;
    case 'cidr':
      return peer.text;
    case 'cidrSet':
      return {
        ...(peer.text === undefined ? {} : { cidr: peer.text }),
        ...(peer.groupRef === undefined ? {} : { cidrGroupRef: peer.groupRef }),
        ...(peer.groupSelector === undefined ? {} : { cidrGroupSelector: withoutSources(peer.groupSelector) }),
        ...(peer.except.length > 0 ? { except: peer.except.map(({ text }) => text) } : {}),
      };
    case 'fqdns':
      return peer.matchName === undefined ? { matchPattern: peer.matchPattern } : { matchName: peer.matchName };
    case 'services':
    case 'groups':
      return peer.json;
  }
}

function portRuleToJson({ ports, l7, serverNames, terminatingTls, originatingTls, listener }: PortRule): object {
  return {
    ports: ports.map(portToJson),
    ...(terminatingTls === undefined ? {} : { terminatingTLS: terminatingTls }),
    ...(originatingTls === undefined ? {} : { originatingTLS: originatingTls }),
    ...(serverNames === undefined ? {} : { serverNames }),
    ...(listener === undefined ? {} : { listener }),
    ...(l7 === undefined ? {} : { rules: l7ToJson(l7) }),
  };
}

function l7ToJson(l7: L7Rules): object {
  switch (l7.kind) {
    case 'http':
      return { http: l7.rules };
    case 'kafka':
      return {
        kafka: l7.rules.map(({ apiVersion, ...rule }) => ({
          ...rule,
          ...(apiVersion === undefined ? {} : { apiVersion: String(apiVersion) }),
        })),
      };
    case 'dns':
      return { dns: l7.rules };
    case 'generic':
      return { l7proto: l7.protocol, ...(l7.rules.length > 0 ? { l7: l7.rules } : {}) };
  }
}

function portToJson({ port, endPort, protocol }: PortSpec): object {
  return { port: String(port), ...(endPort === undefined ? {} : { endPort }), protocol };
}

/** Labels of CIDR groups have one source, and their selectors none. */
function withoutSources(selector: EndpointSelector): SelectorJson {
  const { matchLabels = {}, matchExpressions = [] } = selector.toJSON();
  const bare = (key: string): string => key.slice(key.indexOf(':') + 1);
  return {
    matchLabels: Object.fromEntries(Object.entries(matchLabels).map(([key, value]) => [bare(key), value])),
    matchExpressions: matchExpressions.map((expression) => ({ ...expression, key: bare(expression.key) })),
  };
}
