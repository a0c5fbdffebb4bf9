// SPDX-License-Identifier: Apache-2.0

/**
 * Random rules, endpoints and packets over a small vocabulary, so that selectors overlap, prefixes nest and port ranges
 * collide in most samples.
 */
import fc from 'fast-check';
import { Prefix } from '../../net/ip.ts';
import type { EntryText, PortText, RuleText, SelectorText, SimulatedPacket } from './simulator.ts';

const key = fc.constantFrom('a', 'b', 'any:a', 'container:b', 'k8s:a');
const value = fc.constantFrom('1', '2', '');

const expression = fc.oneof(
  fc.record(
    {
      key,
      operator: fc.constantFrom('In', 'NotIn'),
      values: fc.uniqueArray(value, { minLength: 1, maxLength: 2 }),
    },
    { noNullPrototype: true },
  ),
  fc.record({ key, operator: fc.constantFrom('Exists', 'DoesNotExist') }, { noNullPrototype: true }),
);

export const selectors: fc.Arbitrary<SelectorText> = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(key, value).map(([k, v]) => ({ matchLabels: { [k]: v } })) },
  { weight: 1, arbitrary: fc.constant({}) },
  {
    weight: 2,
    arbitrary: fc.array(expression, { minLength: 1, maxLength: 2 }).map((matchExpressions) => ({ matchExpressions })),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('reserved:init', 'reserved:world-ipv4', 'reserved:host')
      .map((k) => ({ matchLabels: { [k]: '' } })),
  },
);

/** Prefixes that nest, of both families. */
const PREFIXES = [
  '10.0.0.0/8',
  '10.1.0.0/16',
  '10.1.1.0/24',
  '10.1.1.1/32',
  '10.0.0.0/15',
  '0.0.0.0/0',
  '192.0.2.0/24',
  '2001:db8::/32',
  '2001:db8:1::/48',
  '::/0',
];
/** Addresses in and between them. */
export const ADDRESSES = [
  '10.0.0.1',
  '10.1.0.1',
  '10.1.1.1',
  '10.1.1.2',
  '10.2.0.1',
  '192.0.2.1',
  '8.8.8.8',
  '2001:db8::1',
  '2001:db8:1::1',
  '2001:4860::1',
];

export const prefix = fc.constantFrom(...PREFIXES);
export const cidrSet = fc.tuple(prefix, fc.array(prefix, { maxLength: 2 })).map(([cidr, excepts]) => {
  const except = excepts.filter((inner) => Prefix.parse(cidr).contains(Prefix.parse(inner).address));
  return except.length > 0 ? { cidr, except } : { cidr };
});

export const entity = fc.constantFrom(
  'all',
  'world',
  'world-ipv4',
  'host',
  'remote-node',
  'cluster',
  'none',
  'init',
  'kube-apiserver',
);

const ports: fc.Arbitrary<PortText> = fc
  .record(
    {
      port: fc.constantFrom('0', '1', '2', '3', '4', '7', '8', '80', 'web'),
      endPort: fc.option(fc.constantFrom(0, 3, 5, 8, 15, 100, 65_535), { nil: undefined, freq: 3 }),
      protocol: fc.option(fc.constantFrom('TCP', 'UDP', 'ANY'), { nil: undefined }),
    },
    { noNullPrototype: true },
  )
  .map(({ port, endPort, protocol }) => ({
    port,
    ...(endPort === undefined ? {} : { endPort }),
    ...(protocol === undefined ? {} : { protocol }),
  }));

export const toPorts = fc
  .array(
    fc.array(ports, { maxLength: 3 }).map((list) => ({ ports: list })),
    { minLength: 1, maxLength: 2 },
  )
  .map((list) => ({ toPorts: list }));

export const icmps = fc
  .array(
    fc.record({ type: fc.constantFrom(0, 8, 128), family: fc.constantFrom('IPv4', 'IPv6') }, { noNullPrototype: true }),
    {
      minLength: 1,
      maxLength: 2,
    },
  )
  .map((fields) => ({ icmps: [{ fields }] }));

function entries(word: 'from' | 'to', deny: boolean): fc.Arbitrary<EntryText> {
  const peers = fc.oneof(
    { weight: 2, arbitrary: fc.constant({}) },
    { weight: 4, arbitrary: fc.array(selectors, { maxLength: 2 }).map((list) => ({ [`${word}Endpoints`]: list })) },
    {
      weight: 2,
      arbitrary: fc.array(entity, { minLength: 1, maxLength: 2 }).map((list) => ({ [`${word}Entities`]: list })),
    },
    {
      weight: 2,
      arbitrary: fc.array(prefix, { minLength: 1, maxLength: 2 }).map((list) => ({ [`${word}CIDR`]: list })),
    },
    {
      weight: 2,
      arbitrary: fc.array(cidrSet, { minLength: 1, maxLength: 2 }).map((list) => ({ [`${word}CIDRSet`]: list })),
    },
  );
  const what = fc.oneof(
    { weight: 2, arbitrary: fc.constant({}) },
    { weight: 4, arbitrary: toPorts },
    { weight: 1, arbitrary: icmps },
  );
  const requires = fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: selectors });
  return fc.tuple(peers, what, requires).map(([a, b, required]) => ({
    ...a,
    ...b,
    ...(required === undefined || deny ? {} : { [`${word}Requires`]: [required] }),
  }));
}

export const rules: fc.Arbitrary<RuleText> = fc
  .tuple(
    selectors,
    fc.array(entries('from', false), { maxLength: 2 }),
    fc.array(entries('from', true), { maxLength: 1 }),
    fc.array(entries('to', false), { maxLength: 2 }),
    fc.array(entries('to', true), { maxLength: 1 }),
    fc.option(fc.record({ ingress: fc.boolean(), egress: fc.boolean() }, { noNullPrototype: true, requiredKeys: [] }), {
      nil: undefined,
      freq: 3,
    }),
  )
  .filter(([, ...sections]) => sections.slice(0, 4).some((section) => Array.isArray(section) && section.length > 0))
  .map(([endpointSelector, ingress, ingressDeny, egress, egressDeny, enableDefaultDeny]) => ({
    endpointSelector,
    ingress,
    ingressDeny,
    egress,
    egressDeny,
    ...(enableDefaultDeny === undefined ? {} : { enableDefaultDeny }),
  }));

/** Labels of an endpoint. */
export const endpointLabels: fc.Arbitrary<string[]> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.uniqueArray(
      fc.constantFrom(
        'container:a=1',
        'container:a=2',
        'container:b=1',
        'container:b',
        'k8s:a=1',
        'k8s:c=1',
        'k8s:io.cilium.k8s.policy.cluster=default',
        'k8s:io.cilium.k8s.policy.cluster=other',
      ),
      { minLength: 1, maxLength: 3, selector: (label) => label.split('=')[0]! },
    ),
  },
  { weight: 1, arbitrary: fc.constant<string[]>(['reserved:init']) },
);

/** Packets at the edges of what the rules above speak of. */
export const PACKETS: readonly SimulatedPacket[] = [
  ...[0, 1, 3, 4, 5, 8, 9, 15, 16, 80, 100, 101, 8080, 65_535].map((port) => ({ proto: 'TCP' as const, port })),
  ...[1, 4, 80, 8080].map((port) => ({ proto: 'UDP' as const, port })),
  { proto: 'SCTP', port: 4 },
  { proto: 'ICMP', port: 0 },
  { proto: 'ICMP', port: 8 },
  { proto: 'ICMPv6', port: 128 },
];

export const enforcements = fc.constantFrom<'default' | 'always' | 'never'>(
  'default',
  'default',
  'default',
  'always',
  'never',
);
