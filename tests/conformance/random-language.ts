// SPDX-License-Identifier: Apache-2.0

/**
 * Random rules of the whole language: besides what random-rules.ts has, port names that endpoints disagree on, ranges of
 * any protocol, CIDR groups, DNS names, nodes, services, groups, the host as a subject, and L7 rules of every kind.
 *
 * Which kind of L7 rules a port has is fixed, so that rules do not contradict one another.
 */
import fc from 'fast-check';
import { cidrSet, entity, icmps, prefix, selectors, toPorts } from './random-rules.ts';
import type { EntryText, L7Text, PortRuleText, RuleText } from './rule-texts.ts';
import type { SimulatedRequest } from './simulated-requests.ts';

export const GROUPS = {
  near: { labels: { tier: 'a' }, cidrs: ['10.1.0.0/16', '2001:db8:1::/48'] },
  far: { labels: { tier: 'b' }, cidrs: ['192.0.2.0/24'] },
  bare: { cidrs: ['10.1.1.1/32', '8.0.0.0/7'] },
} as const;

export const NAMES = [
  { name: 'one.test.', ips: ['10.1.1.1', '192.0.2.1', '2001:db8::1'] },
  { name: 'a.two.test.', ips: ['8.8.8.8'] },
  { name: 'b.a.two.test.', ips: ['10.1.1.2', '8.8.8.8'] },
] as const;

const FQDNS = [
  { matchName: 'one.test' },
  { matchName: 'three.test' },
  { matchPattern: '*' },
  { matchPattern: '*.two.test' },
  { matchPattern: '**.two.test' },
  { matchPattern: '*ne.test' },
];

const list = <T>(item: fc.Arbitrary<T>, maxLength = 2): fc.Arbitrary<T[]> =>
  fc.array(item, { minLength: 1, maxLength });

const groupSet = fc.oneof(
  fc.constantFrom('near', 'far', 'bare', 'nowhere').map((cidrGroupRef) => ({ cidrGroupRef })),
  fc
    .constantFrom({ matchLabels: { tier: 'a' } }, { matchExpressions: [{ key: 'tier', operator: 'Exists' }] }, {})
    .map((cidrGroupSelector) => ({ cidrGroupSelector })),
  fc.constant({ cidrGroupRef: 'near', except: ['10.1.1.0/24'] }),
);

const http: fc.Arbitrary<L7Text> = list(
  fc.constantFrom({ method: 'GET' }, { method: 'PUT', path: '/a' }, { path: '/b' }, {}),
).map((rules) => ({ http: rules }));
const kafka: fc.Arbitrary<L7Text> = list(
  fc.constantFrom({ apiKey: 'produce', topic: 't' }, { apiKey: 'fetch' }, { topic: 'u' }, {}),
).map((rules) => ({ kafka: rules }));
const dns: fc.Arbitrary<L7Text> = list(fc.constantFrom(...FQDNS)).map((rules) => ({ dns: rules }));
const generic: fc.Arbitrary<L7Text> = fc.constantFrom({ l7proto: 'line' }, { l7proto: 'line', l7: [{ cmd: 'x' }] });

const one = (port: string, protocol: string, endPort?: number): PortRuleText => ({
  ports: [{ port, protocol, ...(endPort === undefined ? {} : { endPort }) }],
});

function proxyRules(egress: boolean): fc.Arbitrary<PortRuleText> {
  const everywhere: fc.Arbitrary<PortRuleText>[] = [
    http.map((rules) => ({ ...one('80', 'TCP'), rules })),
    http.map((rules) => ({ ...one('80', 'TCP', 100), rules })),
    http.map((rules) => ({ ...one('web', 'TCP'), rules })),
    kafka.map((rules) => ({ ...one('8', 'TCP'), rules })),
    kafka.map((rules) => ({ ...one('8', 'TCP', 15), rules })),
    generic.map((rules) => ({ ...one('7', 'TCP'), rules })),
    list(fc.constantFrom('a.test', 'b.test')).map((serverNames) => ({ ...one('4', 'TCP'), serverNames })),
    fc.constant({ ...one('3', 'TCP'), rules: { http: [] } }),
  ];
  const onEgress: fc.Arbitrary<PortRuleText>[] = [
    dns.map((rules) => ({ ...one('1', 'ANY'), rules })),
    fc.constantFrom(undefined, 7).map((priority) => ({
      ...one('3', 'TCP', 5),
      listener: { envoyConfig: { name: 'e' }, name: `l${priority}`, ...(priority === undefined ? {} : { priority }) },
    })),
  ];
  return fc.oneof(...everywhere, ...(egress ? onEgress : []));
}

/** `nodes`: L7 rules of the host's policy are refused, so it has none. */
function entries(word: 'from' | 'to', deny: boolean, host: boolean): fc.Arbitrary<EntryText> {
  const peers: fc.Arbitrary<EntryText>[] = [
    fc.constant({}),
    fc.constant({ [`${word}Endpoints`]: [] }),
    list(selectors).map((some) => ({ [`${word}Endpoints`]: some })),
    list(entity).map((some) => ({ [`${word}Entities`]: some })),
    list(fc.constantFrom('health', 'unmanaged', 'ingress', 'world-ipv6')).map((some) => ({
      [`${word}Entities`]: some,
    })),
    list(prefix, 3).map((some) => ({ [`${word}CIDR`]: some })),
    list(fc.oneof(cidrSet, groupSet), 3).map((some) => ({ [`${word}CIDRSet`]: some })),
    list(fc.constantFrom({}, { matchLabels: { kind: 'gw' } })).map((some) => ({ [`${word}Nodes`]: some })),
    fc.constant({ [`${word}Groups`]: [{ aws: { region: 'r' } }] }),
  ];
  if (word === 'to') peers.push(fc.constant({ toServices: [{ k8sService: { serviceName: 's' } }] }));
  if (word === 'to' && !deny)
    peers.push(fc.array(fc.constantFrom(...FQDNS), { maxLength: 2 }).map((toFQDNs) => ({ toFQDNs })));
  const what: fc.Arbitrary<EntryText>[] = [
    fc.constant({}),
    toPorts,
    fc.constantFrom('TCP', 'UDP', 'SCTP', 'ANY').map((protocol) => ({ toPorts: [one('2', protocol, 99)] })),
    icmps,
  ];
  if (!deny && !host) what.push(list(proxyRules(word === 'to')).map((rules) => ({ toPorts: rules })));
  return fc.tuple(fc.oneof(...peers), fc.oneof(...what)).map(([peer, ports]) => ({ ...peer, ...ports }));
}

function rulesFor(host: boolean): fc.Arbitrary<RuleText> {
  const subject = host
    ? fc.constantFrom({}, { matchLabels: { kind: 'gw' } }).map((nodeSelector) => ({ nodeSelector }))
    : selectors.map((endpointSelector) => ({ endpointSelector }));
  return fc
    .tuple(
      subject,
      fc.array(entries('from', false, host), { maxLength: 2 }),
      fc.array(entries('from', true, host), { maxLength: 1 }),
      fc.array(entries('to', false, host), { maxLength: 2 }),
      fc.array(entries('to', true, host), { maxLength: 1 }),
      fc.option(
        fc.record({ ingress: fc.boolean(), egress: fc.boolean() }, { noNullPrototype: true, requiredKeys: [] }),
        { nil: undefined, freq: 3 },
      ),
    )
    .filter(([, ...sections]) => sections.slice(0, 4).some((section) => Array.isArray(section) && section.length > 0))
    .map(([who, ingress, ingressDeny, egress, egressDeny, enableDefaultDeny]) => ({
      ...who,
      ingress,
      ingressDeny,
      egress,
      egressDeny,
      ...(enableDefaultDeny === undefined ? {} : { enableDefaultDeny }),
    }));
}

/** Little but L7 rules, for everybody and for many peers, so that most of the packets they speak of meet some. */
const rulesForProxies: fc.Arbitrary<RuleText> = fc
  .tuple(
    fc.constantFrom({}, {}, { matchLabels: { a: '1' } }),
    list(proxyEntries('from')),
    list(proxyEntries('to')),
    fc.constantFrom({}, {}, {}, { enableDefaultDeny: { ingress: false, egress: false } }),
  )
  .map(([endpointSelector, ingress, egress, rest]) => ({ endpointSelector, ingress, egress, ...rest }));

function proxyEntries(word: 'from' | 'to'): fc.Arbitrary<EntryText> {
  const peers = fc.oneof(
    fc.constant({}),
    fc.constantFrom('all', 'world', 'cluster').map((name) => ({ [`${word}Entities`]: [name] })),
    selectors.map((selector) => ({ [`${word}Endpoints`]: [selector] })),
    list(prefix, 3).map((some) => ({ [`${word}CIDR`]: some })),
  );
  const ports = list(proxyRules(word === 'to'), 4).map((rules) => ({ toPorts: rules }));
  return fc.tuple(peers, ports).map(([peer, rules]) => ({ ...peer, ...rules }));
}

export const wholeRules: fc.Arbitrary<RuleText> = fc.oneof(
  { weight: 7, arbitrary: rulesFor(false) },
  { weight: 1, arbitrary: rulesFor(true) },
);

export const wholeRuleSets: fc.Arbitrary<RuleText[]> = fc.oneof(
  { weight: 2, arbitrary: fc.array(wholeRules, { maxLength: 6, size: 'max' }) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.array(rulesForProxies, { minLength: 1, maxLength: 3 }), fc.array(wholeRules, { maxLength: 1 }))
      .map(([some, others]) => [...some, ...others]),
  },
);

/** Names of an endpoint's ports; endpoints may disagree. */
export const portNames = fc.dictionary(
  fc.constantFrom('web', 'other'),
  fc.record({ port: fc.constantFrom(80, 8080, 4), protocol: fc.constantFrom('TCP', 'UDP') }, { noNullPrototype: true }),
  { maxKeys: 2, noNullPrototype: true },
);

/** One of each kind of proxy, at the edges of what the rules above speak of. */
export const REQUESTS: readonly { readonly port: number; readonly request: SimulatedRequest }[] = [
  ...[80, 90, 8080].flatMap((port) => [
    { port, request: { http: { method: 'GET', path: '/' } } },
    { port, request: { http: { method: 'PUT', path: '/a' } } },
    { port, request: { http: { method: 'DELETE', path: '/b' } } },
  ]),
  { port: 8, request: { kafka: { apiKey: 'produce', topics: ['t'] } } },
  { port: 8, request: { kafka: { apiKey: 'produce', topics: ['v'] } } },
  { port: 9, request: { kafka: { apiKey: 'fetch', topics: ['u'] } } },
  { port: 4, request: { tls: { sni: 'a.test' } } },
  { port: 4, request: { tls: { sni: 'c.test' } } },
  { port: 1, request: { dns: { name: 'one.test.' } } },
  { port: 1, request: { dns: { name: 'b.a.two.test.' } } },
];
