// SPDX-License-Identifier: Apache-2.0

/** What a proxy would say to the request of a check, by the rules that the engine says hit the packet. */
import { re2 } from '../../runtime/re2.ts';
import type { Explanation, Reason } from '../../policy/explanation.ts';
import { dnsRuleMatches } from '../../policy/l7/dns.ts';
import { HttpMatcher, type HttpRequest } from '../../policy/l7/http.ts';
import { kafkaAllowed } from '../../policy/l7/kafka.ts';
import { KAFKA_API_KEYS, type L7Rules } from '../../policy/l7/rules.ts';
import { serverNameMatches } from '../../policy/l7/server-name.ts';
import type { Check } from './case.ts';

export function hasRequest(check: Omit<Check, 'verdict'>): boolean {
  return [check.http, check.kafka, check.dns, check.tls].some((request) => request !== undefined);
}

/** A request passes if anything that allows the packet lets it through. */
export function requestAllowed(check: Omit<Check, 'verdict'>, { reasons, allowedBySetting }: Explanation): boolean {
  const allows = reasons.filter(({ deny }) => !deny);
  if (allowedBySetting || allows.some(({ redirect }) => redirect === undefined)) return true;
  if (check.tls !== undefined) {
    const { sni } = check.tls;
    return allows.some(({ portRule }) =>
      portRule?.serverNames?.some((name) => sni !== null && serverNameMatches(name, sni)),
    );
  }
  // Topics are allowed by all rules together.
  if (check.kafka !== undefined)
    return kafkaAllowed(
      rulesOf(allows, 'kafka').flatMap(({ rules }) => rules),
      kafkaRequest(check.kafka),
    );
  const { dns, http } = check;
  if (dns !== undefined) {
    return rulesOf(allows, 'dns').some(({ rules }) => rules.some((rule) => dnsRuleMatches(rule, dns.name)));
  }
  return http !== undefined && httpMatchers(allows).some((matcher) => matcher.matches(httpRequest(http)));
}

/** Headers as the server gets them, by name in lower case. */
export function forwardedHeaders(
  http: NonNullable<Check['http']>,
  { reasons }: Explanation,
): ReadonlyMap<string, readonly string[]> {
  let request = httpRequest(http);
  for (const matcher of httpMatchers(reasons)) {
    if (matcher.matches(request)) request = { ...request, headers: matcher.headersAfter(request) };
  }
  return request.headers;
}

function httpMatchers(reasons: readonly Reason[]): HttpMatcher[] {
  return rulesOf(reasons, 'http').flatMap(({ rules }) => rules.map((rule) => new HttpMatcher(rule, re2)));
}

function rulesOf<K extends L7Rules['kind']>(reasons: readonly Reason[], kind: K): Extract<L7Rules, { kind: K }>[] {
  return reasons.flatMap(({ portRule }) => {
    const l7 = portRule?.l7;
    return l7?.kind === kind ? [l7 as Extract<L7Rules, { kind: K }>] : [];
  });
}

function httpRequest({ method = '', path = '', host = '', headers = {} }: NonNullable<Check['http']>): HttpRequest {
  return {
    method,
    path,
    host,
    headers: new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), [value]])),
  };
}

function kafkaRequest({
  apiKey,
  apiVersion = 0,
  clientID = '',
  topics = [],
}: NonNullable<Check['kafka']>): Parameters<typeof kafkaAllowed>[1] {
  const number =
    typeof apiKey === 'number' ? apiKey : KAFKA_API_KEYS.findIndex((name) => name === apiKey.toLowerCase());
  return { apiKey: number, apiVersion, clientId: clientID, topics };
}
