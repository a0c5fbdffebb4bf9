// SPDX-License-Identifier: Apache-2.0

/** What a proxy would say to the request of a check, by the rules that the engine says hit the packet. */
import { re2 } from '../../runtime/re2.ts';
import type { Explanation, Reason } from '../../policy/explanation.ts';
import { dnsRuleMatches } from '../../policy/l7/dns.ts';
import { HttpMatcher, type HttpRequest } from '../../policy/l7/http.ts';
import { kafkaAllowed } from '../../policy/l7/kafka.ts';
import { KAFKA_API_KEYS, type L7Rules } from '../../policy/l7/rules.ts';
import { serverNameMatches } from '../../policy/l7/server-name.ts';
import type { PortRule } from '../../policy/rule.ts';
import type { Check } from './case.ts';

type Question = Omit<Check, 'verdict'>;

export function hasRequest(check: Question): boolean {
  return [check.http, check.kafka, check.dns, check.tls].some((request) => request !== undefined);
}

/** A request passes if anything that allows the packet lets it through. */
export function requestAllowed(check: Question, { reasons, allowedBySetting }: Explanation): boolean {
  if (allowedBySetting) return true;
  const passed = reasons.filter(({ deny, portRule }) => !deny && passesTls(check, portRule));
  if (passed.some(({ redirect, portRule }) => redirect === undefined || !asksForMore(check, portRule))) return true;
  // Topics are allowed by all rules together.
  if (check.kafka !== undefined)
    return kafkaAllowed(
      rulesOf(passed, 'kafka').flatMap(({ rules }) => rules),
      kafkaRequest(check.kafka),
    );
  const { dns, http } = check;
  if (dns !== undefined) {
    return rulesOf(passed, 'dns').some(({ rules }) => rules.some((rule) => dnsRuleMatches(rule, dns.name)));
  }
  return http !== undefined && httpMatchers(passed).some((matcher) => matcher.matches(httpRequest(http)));
}

/**
 * False when server names are asked for and the name given is none of them. A request of another kind without a word
 * on TLS has no name, unless the proxy opens the connection to look at requests: then the name was right before.
 */
function passesTls({ tls }: Question, portRule: PortRule | undefined): boolean {
  const names = portRule?.serverNames;
  if (names === undefined) return true;
  if (tls === undefined) return portRule?.l7 !== undefined;
  const { sni = null } = tls;
  return sni !== null && names.some((name) => serverNameMatches(name, sni));
}

/** Whether requests themselves have to be looked at; of a ClientHello there is no more to see once it is decrypted. */
function asksForMore({ http, kafka, dns }: Question, portRule: PortRule | undefined): boolean {
  if (portRule?.l7 === undefined) return false;
  // A parser without rules lets everything of its protocol through.
  if (portRule.l7.kind === 'generic' && portRule.l7.rules.length === 0) return false;
  const onlyTls = http === undefined && kafka === undefined && dns === undefined;
  return !(onlyTls && portRule.terminatingTls !== undefined);
}

/** Headers as the server gets them, by name in lower case, behind the proxies of all sides. */
export function forwardedHeaders(
  http: NonNullable<Check['http']>,
  explanations: readonly Explanation[],
): ReadonlyMap<string, readonly string[]> {
  let request = httpRequest(http);
  for (const matcher of explanations.flatMap(({ reasons }) => httpMatchers(reasons))) {
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
    headers: new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), [value].flat()])),
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
