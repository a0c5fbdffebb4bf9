// SPDX-License-Identifier: Apache-2.0

/** Rules taken apart into filters: one direction, one set of peers, a list of ports, one verdict. */
import { EndpointSelector } from '../identity/selector.ts';
import {
  IP_PROTOCOL,
  L4_ANY,
  l4Key,
  l4Protocol,
  l4Range,
  PRECEDENCE_ALLOW,
  PRECEDENCE_DENY,
  redirectPrecedence,
  type L4Key,
} from './map-entry.ts';
import { redirectOf, type Redirect } from './l7/redirect.ts';
import { peerSelectors, type PeerContext } from './peer-selectors.ts';
import {
  DIRECTIONS,
  directionOf,
  isDeny,
  SECTIONS,
  type AuthenticationMode,
  type Direction,
  type Entry,
  type PortRule,
  type PortSpec,
  type Protocol,
  type Rule,
  type Section,
} from './rule.ts';

export interface FilterSpec {
  readonly section: Section;
  /** Which entry of the section. */
  readonly entry: number;
  readonly egress: boolean;
  readonly precedence: number;
  /** Undefined: plain. */
  readonly redirect: Redirect | undefined;
  readonly portRule: PortRule | undefined;
  readonly authentication: AuthenticationMode | undefined;
  /** Undefined: any peer. */
  readonly peers: readonly EndpointSelector[] | undefined;
  readonly l4: readonly L4Key[];
  readonly namedPorts: readonly NamedPort[];
}

/** A port that each subject (ingress) or the whole node (egress) resolves in its own way. */
export interface NamedPort {
  readonly name: string;
  readonly protocols: readonly number[];
}

const PROTOCOL_NUMBERS: Readonly<Record<Protocol, readonly number[]>> = {
  TCP: [IP_PROTOCOL.TCP],
  UDP: [IP_PROTOCOL.UDP],
  SCTP: [IP_PROTOCOL.SCTP],
  VRRP: [IP_PROTOCOL.VRRP],
  IGMP: [IP_PROTOCOL.IGMP],
  ANY: [IP_PROTOCOL.TCP, IP_PROTOCOL.UDP, IP_PROTOCOL.SCTP],
};

/** What every peer of a subject has to match besides being selected, by direction. */
export interface Requirements {
  readonly key: string;
  readonly ingress: EndpointSelector;
  readonly egress: EndpointSelector;
}

export const NO_REQUIREMENTS: Requirements = {
  key: '',
  ingress: EndpointSelector.WILDCARD,
  egress: EndpointSelector.WILDCARD,
};

/** The requirements of all rules that select a subject. */
export function requirementsOf(rules: Iterable<Rule>): Requirements {
  const required: Record<Direction, Map<string, EndpointSelector>> = { ingress: new Map(), egress: new Map() };
  for (const rule of rules) {
    for (const direction of DIRECTIONS) {
      const selectors = rule.entries[direction].flatMap(({ requires = [] }) => requires);
      for (const selector of selectors) required[direction].set(selector.toString(), selector);
    }
  }
  if (required.ingress.size === 0 && required.egress.size === 0) return NO_REQUIREMENTS;
  const all = (direction: Direction): EndpointSelector =>
    new EndpointSelector([...required[direction].values()].flatMap(({ requirements }) => requirements));
  const [ingress, egress] = [all('ingress'), all('egress')];
  return { key: `ingress ${ingress.toString()} egress ${egress.toString()}`, ingress, egress };
}

/** What a rule says to a subject with these requirements, without the entries that match nothing. */
export function filtersOf(rule: Rule, context: PeerContext, requirements = NO_REQUIREMENTS): FilterSpec[] {
  const filters: FilterSpec[] = [];
  for (const section of SECTIONS) {
    const egress = directionOf(section) === 'egress';
    for (const [index, entry] of rule.entries[section].entries()) {
      const peers = peersOf(
        entry,
        context,
        isDeny(section) ? EndpointSelector.WILDCARD : requirements[directionOf(section)],
      );
      if (peers?.length === 0) continue;
      for (const { l4, namedPorts, portRule } of portsOf(entry)) {
        if (l4.length === 0 && namedPorts.length === 0) continue;
        const redirect = portRule === undefined ? undefined : redirectOf(portRule);
        const allow = redirect === undefined ? PRECEDENCE_ALLOW : redirectPrecedence(redirect.priority);
        const precedence = isDeny(section) ? PRECEDENCE_DENY : allow;
        const { authentication } = entry;
        filters.push({
          section,
          entry: index,
          egress,
          precedence,
          redirect,
          portRule,
          authentication,
          peers,
          l4,
          namedPorts,
        });
      }
    }
  }
  return filters;
}

/**
 * Undefined: any peer; empty: none. One wildcard among the selectors makes all the others idle. What is required narrows
 * the selectors of endpoints only.
 */
function peersOf(entry: Entry, context: PeerContext, required: EndpointSelector): EndpointSelector[] | undefined {
  const selectors = entry.peers?.flatMap((peer) => {
    const own = peerSelectors(peer, context);
    return peer.kind === 'endpoints' && !required.isWildcard ? own.map((selector) => selector.and(required)) : own;
  });
  return selectors?.some((selector) => selector.isWildcard) === true ? undefined : selectors;
}

type FilterPorts = Pick<FilterSpec, 'l4' | 'namedPorts' | 'portRule'>;

function portsOf(entry: Entry): FilterPorts[] {
  if (entry.icmps !== undefined) {
    const l4 = entry.icmps.map(({ family, type }) => l4Key(family === 4 ? IP_PROTOCOL.ICMP : IP_PROTOCOL.ICMPv6, type));
    return [{ l4: [...new Set(l4)], namedPorts: [], portRule: undefined }];
  }
  if (entry.toPorts !== undefined) return entry.toPorts.map(portRulePorts);
  // Neither peers nor ports: the entry allows (or denies) nothing.
  return entry.peers === undefined ? [] : [{ l4: [L4_ANY], namedPorts: [], portRule: undefined }];
}

function portRulePorts(portRule: PortRule): FilterPorts {
  return {
    l4: [...new Set(portRule.ports.flatMap(numberedPorts))],
    namedPorts: portRule.ports.flatMap(({ port, protocol }) =>
      typeof port === 'string' ? [{ name: port, protocols: PROTOCOL_NUMBERS[protocol] }] : [],
    ),
    portRule,
  };
}

function numberedPorts({ port, endPort, protocol }: PortSpec): L4Key[] {
  if (typeof port === 'string') return [];
  return PROTOCOL_NUMBERS[protocol].flatMap((number) => {
    if (endPort !== undefined) return l4Range(number, port, endPort);
    return port === 0 ? [l4Protocol(number)] : [l4Key(number, port)];
  });
}
