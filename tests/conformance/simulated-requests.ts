// SPDX-License-Identifier: Apache-2.0

/** The simulator's half that asks what is in a request. Expressions of random rules are plain texts. */
import type { PortRuleText } from './rule-texts.ts';
import { nameMatches } from './simulated-peers.ts';

export type SimulatedRequest =
  | { readonly http: { readonly method: string; readonly path: string } }
  | { readonly kafka: { readonly apiKey: string; readonly topics: readonly string[] } }
  | { readonly dns: { readonly name: string } }
  | { readonly tls: { readonly sni: string } };

/** Of a request with one topic at most: so it does not matter which rules cover which topics. */
export function requestMatches({ rules = {}, serverNames = [] }: PortRuleText, request: SimulatedRequest): boolean {
  if (serverNames.length > 0) return 'tls' in request && serverNames.includes(request.tls.sni);
  const asks = [rules.http, rules.kafka, rules.dns, rules.l7].some((list = []) => list.length > 0);
  if (!asks) return true;
  if ('http' in request) {
    const { method, path } = request.http;
    return (rules.http ?? []).some((rule) => (rule.method ?? method) === method && (rule.path ?? path) === path);
  }
  if ('kafka' in request) {
    const { apiKey, topics } = request.kafka;
    return (rules.kafka ?? []).some(
      (rule) =>
        (rule.apiKey ?? apiKey) === apiKey && topics.every((topic) => rule.topic === undefined || rule.topic === topic),
    );
  }
  return 'dns' in request && (rules.dns ?? []).some((rule) => nameMatches(rule, request.dns.name));
}
