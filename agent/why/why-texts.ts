// SPDX-License-Identifier: Apache-2.0

/** Parts of rules and reasons in the words that trace and explain share. */
import type { LabelSet } from '../../identity/label-set.ts';
import { formatLabel } from '../../identity/label.ts';
import { IP_PROTOCOL } from '../../policy/map-entry.ts';
import { peerToJson } from '../../policy/rule-json.ts';
import type { IcmpField, Peer, PortRule, PortSpec, Rule } from '../../policy/rule.ts';
import type { AllowingSetting } from '../../policy/why/judge.ts';
import type { PortChange } from '../../policy/why/port-sweep.ts';
import type { SelectorStep } from '../../policy/why/steps.ts';

const SETTINGS: Readonly<Record<AllowingSetting, string>> = {
  'enforcement-never': 'policy enforcement is off (mode never)',
  'host-not-enforced': 'policy does not act on the host itself',
  'not-an-endpoint': 'it is no endpoint of this node, so no policy stands before it',
  'no-policy': 'no rule speaks of this direction, so it is open',
  'no-default-deny': 'the rules for this direction leave it open (enableDefaultDeny is false in all of them)',
  'allow-localhost': 'the host may always reach its endpoints (--allow-localhost=always)',
};

const PEER_WORDS: Readonly<Record<Peer['kind'], string>> = {
  endpoints: 'endpoints',
  nodes: 'nodes',
  entities: 'entity',
  cidr: 'CIDR',
  cidrSet: 'CIDR set',
  fqdns: 'DNS name',
  services: 'service',
  groups: 'group',
};

const LAST_PORT = 0xffff;
const LAST_ICMP_TYPE = 0xff;

/** Packets of one protocol; undefined: of all but some. */
export type PacketRange = Pick<PortChange, 'protocol' | 'exceptProtocols' | 'firstPort' | 'lastPort'>;

const PROTOCOL_NAMES = new Map<number, string>(Object.entries(IP_PROTOCOL).map(([name, number]) => [number, name]));

/** Why something passes that no rule allows, as the end of a sentence. */
export function settingText(setting: AllowingSetting): string {
  return SETTINGS[setting];
}

export function labelsText(labels: LabelSet): string {
  return `[${labels.toTexts().join(', ')}]`;
}

/** `{"matchLabels":{"any:id":"app1"}} (web.json:12, labels unspec:name=web)` */
export function ruleText(rule: Rule): string {
  const labels = rule.labels.map(formatLabel).join(' ');
  const facts = [originText(rule), labels === '' ? undefined : `labels ${labels}`].filter((fact) => fact !== undefined);
  return `${JSON.stringify(rule.subject.selector)}${facts.length === 0 ? '' : ` (${facts.join(', ')})`}`;
}

/** `web.json:12`, undefined for a rule that came without a file. */
export function originText({ origin: { source, line } }: Rule): string | undefined {
  if (source === undefined) return undefined;
  return line === undefined ? source : `${source}:${line}`;
}

/** `endpoints {"matchLabels":{"any:id":"app2"}}`, `entity world`, `CIDR 10.0.0.0/8` */
export function peerText(peer: Peer): string {
  const value = peerToJson(peer);
  return `${PEER_WORDS[peer.kind]} ${typeof value === 'string' ? value : JSON.stringify(value)}`;
}

/** `80/TCP`, `8000-8080/UDP`, `http/ANY`, `all/TCP` */
export function portSpecText({ port, endPort, protocol }: PortSpec): string {
  const ports = endPort === undefined ? (port === 0 ? 'all' : String(port)) : `${port}-${endPort}`;
  return `${ports}/${protocol}`;
}

/** Of an entry's toPorts and icmps: `80/TCP, 443/TCP`. */
export function portsText(toPorts: readonly PortRule[], icmps: readonly IcmpField[]): string {
  const ports = toPorts.flatMap((rule) => rule.ports).map(portSpecText);
  return [...ports, ...icmps.map(({ family, type }) => `ICMPv${family} type ${type}`)].join(', ');
}

/** `80/TCP`, `ICMP type 8`, `GRE` as `protocol 47` */
export function packetText({ protocol, port }: { readonly protocol: number; readonly port: number }): string {
  const name = PROTOCOL_NAMES.get(protocol);
  if (protocol === IP_PROTOCOL.ICMP || protocol === IP_PROTOCOL.ICMPv6) return `${name} type ${port}`;
  return name === undefined ? `protocol ${protocol}` : `${port}/${name}`;
}

/** `80/TCP`, `8000-8080/TCP`, `TCP`, `ICMP type 8`, `everything but TCP, UDP` */
export function packetsText({ protocol, exceptProtocols, firstPort, lastPort }: PacketRange): string {
  const name = (number: number): string => PROTOCOL_NAMES.get(number) ?? `protocol ${number}`;
  if (protocol === undefined) {
    return exceptProtocols.length === 0 ? 'everything' : `everything but ${exceptProtocols.map(name).join(', ')}`;
  }
  if (firstPort === 0 && lastPort === LAST_PORT) return name(protocol);
  if (firstPort === lastPort) return packetText({ protocol, port: firstPort });
  const isIcmp = protocol === IP_PROTOCOL.ICMP || protocol === IP_PROTOCOL.ICMPv6;
  if (isIcmp) return `${name(protocol)} types ${firstPort}-${lastPort === LAST_PORT ? LAST_ICMP_TYPE : lastPort}`;
  return `${firstPort}-${lastPort}/${name(protocol)}`;
}

/** What labels lack for a selector: `any:id=app2, any:tier Exists` */
export function missingText({ missing }: SelectorStep): string {
  return missing
    .map(({ source, key, operator, values }) => {
      if (operator === 'Equals') return `${source}:${key}=${values[0] ?? ''}`;
      return `${source}:${key} ${operator}${values.length > 0 ? ` (${values.join(' ')})` : ''}`;
    })
    .join(', ');
}
