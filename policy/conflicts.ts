// SPDX-License-Identifier: Apache-2.0

/**
 * Rules that contradict one another for one subject: for the same selector and port two kinds of L7 rules, two TLS
 * contexts, two listeners or two authentication modes (policy-language 9.6).
 */
import { isDeny, type Rule } from './rule.ts';
import { filtersOf, type FilterSpec } from './filter.ts';
import { l4Parts, type L4Key } from './map-entry.ts';
import type { PeerContext } from './peer-selectors.ts';

/** Rules without any of these members contradict nobody. */
export function mayConflict(rule: Rule): boolean {
  return [...rule.entries.ingress, ...rule.entries.egress].some(
    ({ authentication, toPorts = [] }) =>
      authentication !== undefined || toPorts.some((port) => Object.keys(port).length > 1),
  );
}

/** One sentence for each contradiction; `rules` are all those of the subject. */
export function findConflicts(rules: readonly Rule[], context: PeerContext): string[] {
  const filters = new Map<string, FilterSpec[]>();
  for (const spec of rules.flatMap((rule) => filtersOf(rule, context))) {
    if (isDeny(spec.section)) continue;
    for (const place of placesOf(spec)) filters.set(place, [...(filters.get(place) ?? []), spec]);
  }
  return [...filters].flatMap(([place, specs]) => conflictsAmong(specs).map((what) => `${what} for ${place}`));
}

function placesOf({ section, peers, l4, namedPorts }: FilterSpec): string[] {
  const selectors = peers === undefined ? ['any peer'] : peers.map(String);
  const ports = [...l4.map(formatL4), ...namedPorts.map(({ name }) => `port ${name}`)];
  return selectors.flatMap((selector) => ports.map((port) => `${section} of ${selector} on ${port}`));
}

function formatL4(key: L4Key): string {
  const { protocol, port, bits } = l4Parts(key);
  return bits === 0 ? 'all ports' : `port ${port}/${bits} of protocol ${protocol}`;
}

function conflictsAmong(specs: readonly FilterSpec[]): string[] {
  const found: string[] = [];
  const distinct = (what: string, values: readonly (string | undefined)[]): void => {
    const different = [...new Set(values.filter((value) => value !== undefined))];
    if (different.length > 1) found.push(`conflicting ${what} (${different.join(', ')})`);
  };
  const rules = specs.flatMap(({ portRule }) => portRule ?? []);
  distinct(
    'L7 parsers',
    specs.map(({ redirect }) =>
      redirect === undefined || redirect.parser === 'tls' || redirect.parser === 'listener'
        ? undefined
        : `${redirect.parser} ${redirect.name}`.trim(),
    ),
  );
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
    specs.map(({ authentication }) => authentication),
  );
  for (const priority of new Set(rules.map(({ listener }) => listener?.priority))) {
    const equal = rules.filter(({ listener }) => listener?.priority === priority);
    distinct(
      'listeners of equal priority',
      equal.map(({ listener }) => listener && JSON.stringify(listener)),
    );
  }
  const names = rules.some(({ serverNames }) => serverNames !== undefined);
  const l7 = rules.some((rule) => rule.l7 !== undefined);
  if (names && l7 && !rules.some(({ terminatingTls }) => terminatingTls !== undefined)) {
    found.push('server names beside L7 rules without terminating TLS');
  }
  return found;
}
