// SPDX-License-Identifier: Apache-2.0

/**
 * Rules as checked data: what `parseRules` makes and `ruleToJson` prints.
 *
 * A list that is absent and one that is empty differ where the language says so: no `peers` means any peer, an empty
 * list of them none (policy-language 2.2 of the reference).
 */
import type { EndpointSelector } from '../identity/selector.ts';
import type { Label } from '../identity/label.ts';
import type { IpFamily, Prefix } from '../net/ip.ts';
import type { L7Rules, Listener, TlsContext } from './l7/rules.ts';

export const SECTIONS = ['ingress', 'ingressDeny', 'egress', 'egressDeny'] as const;
export type Section = (typeof SECTIONS)[number];
export const DIRECTIONS = ['ingress', 'egress'] as const;
export type Direction = (typeof DIRECTIONS)[number];

export interface Rule {
  /** Which endpoints' policy this is; of kind `node`: the host's own. */
  readonly subject: { readonly kind: 'endpoint' | 'node'; readonly selector: EndpointSelector };
  readonly entries: Readonly<Record<Section, readonly Entry[]>>;
  /** Whether the rule closes its subjects for all that no rule allows; filled in from the entries when not written. */
  readonly enableDefaultDeny: Readonly<Record<Direction, boolean>>;
  readonly labels: readonly Label[];
  readonly description?: string;
  readonly log?: string;
  readonly origin: RuleOrigin;
}

/** Where a rule was written. */
export interface RuleOrigin {
  /** A file's name, or what else the importer calls it. */
  readonly source?: string;
  /** Where the rule begins there, counted from 1. */
  readonly line?: number;
  /** Position in that source's list of rules. */
  readonly index: number;
  /** The source is a file that the agent watches: the rule changes with it and not otherwise. */
  readonly watched?: true;
}

export interface Entry {
  /** Absent: any peer. Empty: none. */
  readonly peers?: readonly Peer[];
  /** Selectors that every peer of the subject has to match besides (fromRequires, toRequires). */
  readonly requires?: readonly EndpointSelector[];
  /** Absent: every protocol and port, ICMP included. Never together with `icmps`. */
  readonly toPorts?: readonly PortRule[];
  readonly icmps?: readonly IcmpField[];
  readonly authentication?: AuthenticationMode;
}

export const AUTHENTICATION_MODES = ['required', 'disabled', 'test-always-fail'] as const;
export type AuthenticationMode = (typeof AUTHENTICATION_MODES)[number];

export const ENTITIES = [
  'all',
  'world',
  'world-ipv4',
  'world-ipv6',
  'cluster',
  'host',
  'remote-node',
  'kube-apiserver',
  'health',
  'init',
  'unmanaged',
  'ingress',
  'none',
] as const;
export type Entity = (typeof ENTITIES)[number];

export type Peer =
  | { readonly kind: 'endpoints' | 'nodes'; readonly selector: EndpointSelector }
  | { readonly kind: 'entities'; readonly entity: Entity }
  | ({ readonly kind: 'cidr' } & WrittenPrefix)
  | CidrSetPeer
  | FqdnPeer
  /** Expanded by Kubernetes or by a cloud's operator; by themselves they select nobody. */
  | { readonly kind: 'services' | 'groups'; readonly json: object };

/** A prefix and how it was written: the bits behind its length may have been set. */
export interface WrittenPrefix {
  readonly prefix: Prefix;
  readonly text: string;
}

/** Exactly one of `prefix`, `groupRef` and `groupSelector` is there. */
export interface CidrSetPeer {
  readonly kind: 'cidrSet';
  readonly prefix?: Prefix;
  readonly groupRef?: string;
  readonly groupSelector?: EndpointSelector;
  readonly text?: string;
  readonly except: readonly WrittenPrefix[];
}

/** A name or a pattern. */
export interface FqdnPeer {
  readonly kind: 'fqdns';
  readonly matchName?: string;
  readonly matchPattern?: string;
}

export const PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'VRRP', 'IGMP', 'ANY'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export interface PortRule {
  /** Empty: the rule matches nothing. */
  readonly ports: readonly PortSpec[];
  readonly l7?: L7Rules;
  readonly serverNames?: readonly string[];
  readonly terminatingTls?: TlsContext;
  readonly originatingTls?: TlsContext;
  readonly listener?: Listener;
}

export interface PortSpec {
  /** A number, 0 for all ports of the protocol, or a name in lower case. */
  readonly port: number | string;
  /** Last port of a range; greater than `port`. */
  readonly endPort?: number;
  readonly protocol: Protocol;
}

export interface IcmpField {
  readonly family: IpFamily;
  readonly type: number;
}

export function directionOf(section: Section): Direction {
  return section === 'ingress' || section === 'ingressDeny' ? 'ingress' : 'egress';
}

export function isDeny(section: Section): boolean {
  return section === 'ingressDeny' || section === 'egressDeny';
}

/** Whether the rule has entries, of either kind, in a direction. */
export function speaksOf(rule: Pick<Rule, 'entries'>, direction: Direction): boolean {
  return SECTIONS.some((section) => directionOf(section) === direction && rule.entries[section].length > 0);
}
