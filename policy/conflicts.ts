// SPDX-License-Identifier: Apache-2.0

/**
 * Rules that contradict one another for one subject: for the same selector and port two kinds of L7 rules, two TLS
 * contexts, two listeners or two authentication modes (policy-language 9.6).
 *
 * The same port means written the same way: a range and a port inside it are two filters, and each has its own parser.
 */
import { isDeny, type Rule } from './rule.ts';
import { filtersOf, type FilterSpec } from './filter.ts';
import type { Listener } from './l7/rules.ts';
import { l4Parts, type L4Key } from './map-entry.ts';
import type { PeerContext } from './peer-selectors.ts';

/** Rules without any of these members contradict nobody. */
export function mayConflict(rule: Rule): boolean {
  return [...rule.entries.ingress, ...rule.entries.egress].some(
    ({ authentication, toPorts = [] }) =>
      authentication !== undefined || toPorts.some((port) => Object.keys(port).length > 1),
  );
}

/** A filter and what its rule says about where listeners are. */
type Part = FilterSpec & { readonly namespace: string };

/** One sentence for each contradiction; `rules` are all those of the subject. */
export function findConflicts(rules: readonly Rule[], context: PeerContext): string[] {
  const parts = new Map<string, Part[]>();
  const found: string[] = [];
  for (const rule of rules) {
    const namespace = namespaceOf(rule);
    for (const spec of filtersOf(rule, context)) {
      if (isDeny(spec.section)) continue;
      const listener = spec.portRule?.listener;
      if (listener?.envoyConfig.kind === 'CiliumEnvoyConfig' && namespace === '')
        found.push(`listener ${listener.name}: a CiliumEnvoyConfig has a namespace, and the rule has none`);
      const part: Part = { ...spec, namespace };
      for (const place of placesOf(spec)) parts.set(place, [...(parts.get(place) ?? []), part]);
    }
  }
  return [
    ...found,
    ...[...parts].flatMap(([place, some]) => conflictsAmong(some).map((what) => `${what} for ${place}`)),
  ];
}

/** Of the policy that the rule comes from; empty for one of the whole cluster or of no cluster at all. */
function namespaceOf(rule: Rule): string {
  return rule.labels.find(({ key }) => key === 'io.cilium.k8s.policy.namespace')?.value ?? '';
}

function placesOf({ section, peers, l4, portRule }: FilterSpec): string[] {
  const selectors = peers === undefined ? ['any peer'] : peers.map(String);
  const ports = portRule === undefined ? l4.map(formatL4) : portRule.ports.flatMap(formatPorts);
  return [...new Set(selectors)].flatMap((selector) =>
    [...new Set(ports)].map((port) => `${section} of ${selector} on ${port}`),
  );
}

function formatPorts({ port, endPort, protocol }: NonNullable<FilterSpec['portRule']>['ports'][number]): string[] {
  const range = endPort === undefined ? String(port) : `${port}-${endPort}`;
  return (protocol === 'ANY' ? ['TCP', 'UDP', 'SCTP'] : [protocol]).map((name) => `port ${range}/${name}`);
}

function formatL4(key: L4Key): string {
  const { protocol, port, bits } = l4Parts(key);
  return bits === 0 ? 'all ports' : `type ${port} of protocol ${protocol}`;
}

function conflictsAmong(parts: readonly Part[]): string[] {
  const found: string[] = [];
  const distinct = (what: string, values: readonly (string | undefined)[]): void => {
    const different = [...new Set(values.filter((value) => value !== undefined))];
    if (different.length > 1) found.push(`conflicting ${what} (${different.join(', ')})`);
  };
  const rules = parts.flatMap(({ portRule }) => portRule ?? []);
  distinct('L7 parsers', parsersOf(parts));
  distinct(
    'terminating TLS contexts',
    rules.map(({ terminatingTls }) => terminatingTls && JSON.stringify(terminatingTls)),
  );
  distinct(
    'originating TLS contexts',
    rules.map(({ originatingTls }) => originatingTls && JSON.stringify(originatingTls)),
  );
  distinct(
    'authentication modes',
    parts.map(({ authentication }) => authentication),
  );
  const listeners = parts.flatMap(({ portRule, namespace }) =>
    portRule?.listener === undefined ? [] : [{ listener: portRule.listener, namespace }],
  );
  for (const equal of Map.groupBy(listeners, ({ listener }) => listener.priority).values())
    distinct('listeners of equal priority', equal.map(qualifiedName));
  const names = rules.some(({ serverNames }) => serverNames !== undefined);
  const l7 = rules.some((rule) => rule.l7 !== undefined);
  if (names && l7 && !rules.some(({ terminatingTls }) => terminatingTls !== undefined)) {
    found.push('server names beside L7 rules without terminating TLS');
  }
  return found;
}

/** What must be one: a TLS context alone goes along with every parser but those of DNS and of listeners. */
function parsersOf(parts: readonly Part[]): string[] {
  const redirects = parts.flatMap(({ redirect }) => redirect ?? []);
  const strict = redirects.some(({ parser }) => parser === 'dns' || parser === 'listener');
  return redirects
    .filter(({ parser }) => strict || parser !== 'tls')
    .map(({ parser, name }) => (parser === 'generic' ? `generic ${name}` : parser));
}

function qualifiedName({ listener, namespace }: { listener: Listener; namespace: string }): string {
  const { kind, name } = listener.envoyConfig;
  return `${kind === 'CiliumClusterwideEnvoyConfig' ? '' : namespace}/${name}/${listener.name}`;
}
