// SPDX-License-Identifier: Apache-2.0

/** Ways to make a right rule wrong. Each says where it did so. */
import fc from 'fast-check';
import type { RuleText } from '../conformance/rule-texts.ts';

export type Mutation = (rule: RuleText) => { readonly document: unknown; readonly path: readonly (string | number)[] };

/** An entry with one thing wrong, and where in the entry it is. */
type WrongEntry = readonly [entry: Record<string, unknown>, ...path: (string | number)[]];

const tcp = { port: '80', protocol: 'TCP' };
const bad = (values: readonly unknown[]): fc.Arbitrary<unknown> => fc.constantFrom(...values);
const NO_TEXT = [1, true, null, {}, []];

const ports = bad([
  '',
  '-1',
  '65536',
  '80-90',
  'a--b',
  'a_b',
  '-a',
  '08',
  ' 80',
  'sixteencharslong',
  '1.5',
  ...NO_TEXT,
]);
const protocols = bad(['ICMP', 'HTTP', 'TCP ', '6', 'VRRP', ...NO_TEXT.slice(0, 2)]);
const cidrs = bad([
  '',
  'x',
  '10.0.0.0/33',
  '::/129',
  '10.0.0/8',
  '010.0.0.0/8',
  '10.0.0.0/08',
  '1::2::3',
  '10.0.0.0/-1',
  ...NO_TEXT,
]);
const keys = fc.constantFrom('', 'a b', 'a/b/c', 'A.b/c', 'k8s:', 'a-', 'é', 'k'.repeat(60));
const values = bad(['-x', 'x y', 'v'.repeat(64), 'x/y', '*', ...NO_TEXT]);
const expressions = bad([
  { key: 'a', operator: 'in', values: ['x'] },
  { key: 'a', operator: 'In' },
  { key: 'a', operator: 'In', values: [] },
  { key: 'a', operator: 'Exists', values: ['x'] },
  { operator: 'Exists' },
  { key: 'a b', operator: 'Exists' },
  'a',
  null,
]);
const sets = bad([
  {},
  { cidr: '10.0.0.1' },
  { cidr: '10.0.0.0/8', cidrGroupRef: 'g' },
  { except: ['10.0.0.0/8'] },
  { cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] },
  { cidr: '10.0.0.0/8', except: ['::/0'] },
  { cidrGroupSelector: { matchLabels: { 'k8s:a': 'b' } } },
  '10.0.0.0/8',
]);
const fqdns = bad([
  { matchName: '*.test' },
  { matchName: 'a b' },
  { matchPattern: 'a|b' },
  { matchName: 'a', matchPattern: 'b' },
  'a',
]);
const icmpFields = bad([
  { type: 256 },
  { type: -1 },
  { type: 'Ping' },
  { family: 'ipv4', type: 8 },
  { family: 'IPv6', type: 'Photuris' },
  {},
  8,
]);
const l7 = bad([
  { http: [{ path: '(' }] },
  { http: [{ method: '*' }] },
  { http: [{ headerMatches: [{ value: 'x' }] }] },
  { http: [{ headerMatches: [{ name: 'X', mismatch: 'DROP' }] }] },
  { kafka: [{ role: 'admin' }] },
  { kafka: [{ role: 'produce', apiKey: 'fetch' }] },
  { kafka: [{ apiVersion: '40000' }] },
  { kafka: [{ topic: 'a b' }] },
  { l7: [{ a: 'b' }] },
  { l7proto: 'p', l7: [{ '': 'x' }] },
  { http: [{}], kafka: [{}] },
  { dns: [{ matchName: 'a/b' }] },
  [],
]);

const wrongEntries: fc.Arbitrary<WrongEntry> = fc.oneof(
  ports.map((port): WrongEntry => [
    { toPorts: [{ ports: [tcp, { port, protocol: 'TCP' }] }] },
    'toPorts',
    0,
    'ports',
    1,
  ]),
  protocols.map((protocol): WrongEntry => [
    { toPorts: [{ ports: [{ port: '80', protocol }] }] },
    'toPorts',
    0,
    'ports',
    0,
  ]),
  cidrs.map((cidr): WrongEntry => [{ toCIDR: ['10.0.0.0/8', cidr] }, 'toCIDR', 1]),
  sets.map((set): WrongEntry => [{ toCIDRSet: [{ cidr: '10.0.0.0/8' }, set] }, 'toCIDRSet', 1]),
  keys.map((key): WrongEntry => [
    { toEndpoints: [{ matchLabels: { [key]: 'x' } }] },
    'toEndpoints',
    0,
    'matchLabels',
    key,
  ]),
  values.map((value): WrongEntry => [
    { toEndpoints: [{ matchLabels: { a: value } }] },
    'toEndpoints',
    0,
    'matchLabels',
    'a',
  ]),
  expressions.map((one): WrongEntry => [
    { toEndpoints: [{ matchExpressions: [one] }] },
    'toEndpoints',
    0,
    'matchExpressions',
    0,
  ]),
  fqdns.map((fqdn): WrongEntry => [{ toFQDNs: [fqdn] }, 'toFQDNs', 0]),
  icmpFields.map((field): WrongEntry => [{ icmps: [{ fields: [{ type: 8 }, field] }] }, 'icmps', 0, 'fields', 1]),
  l7.map((rules): WrongEntry => [{ toPorts: [{ ports: [tcp], rules }] }, 'toPorts', 0, 'rules']),
  fc.constantFrom('World', 'internet', '').map((name): WrongEntry => [{ toEntities: ['host', name] }, 'toEntities', 1]),
  fc.constantFrom<WrongEntry>(
    [{ toEndpoints: [{}], toCIDR: ['10.0.0.0/8'] }],
    [{ toFQDNs: [{ matchName: 'a' }], toEntities: ['host'] }],
    [{ icmps: [{ fields: [{ type: 8 }] }], toPorts: [{ ports: [tcp] }] }, 'icmps'],
    [{ toPorts: [{ ports: Array.from({ length: 41 }, () => tcp) }] }, 'toPorts', 0, 'ports'],
    [{ icmps: [{ fields: Array.from({ length: 41 }, () => ({ type: 8 })) }] }, 'icmps', 0, 'fields'],
    [{ toPorts: [{ ports: [{ port: '80' }], rules: { http: [{}] } }] }, 'toPorts', 0, 'rules'],
    [{ toPorts: [{ ports: [{ port: '0', protocol: 'TCP' }], rules: { http: [{}] } }] }, 'toPorts', 0, 'rules'],
    [
      { toPorts: [{ ports: [{ port: '53', endPort: 60 }], rules: { dns: [{ matchPattern: '*' }] } }] },
      'toPorts',
      0,
      'rules',
    ],
    [{ toPorts: [{ ports: [tcp], serverNames: [''] }] }, 'toPorts', 0, 'serverNames', 0],
    [{ toPorts: [{ ports: [tcp], serverNames: ['a'], rules: { http: [{}] } }] }, 'toPorts', 0, 'serverNames'],
    [
      { toPorts: [{ ports: [tcp], listener: { envoyConfig: { name: 'e' }, name: 'l' }, rules: { http: [{}] } }] },
      'toPorts',
      0,
      'listener',
    ],
    [{ unknown: 1 }, 'unknown'],
    [{ toPort: [] }, 'toPort'],
  ),
);

const inEntry: fc.Arbitrary<Mutation> = wrongEntries.map(([entry, ...path]): Mutation => {
  return (rule) => {
    const { egress = [], endpointSelector = {} } = rule;
    const document = { ...without(rule, 'nodeSelector'), endpointSelector, egress: [...egress, entry] };
    return { document, path: ['egress', egress.length, ...path] };
  };
});

function without(rule: RuleText, ...names: readonly string[]): object {
  return Object.fromEntries(Object.entries(rule).filter(([name]) => !names.includes(name)));
}

const inRule: fc.Arbitrary<Mutation> = fc.constantFrom<Mutation>(
  (rule) => ({ document: without(rule, 'endpointSelector', 'nodeSelector'), path: [] }),
  (rule) => ({ document: { ...rule, endpointSelector: {}, nodeSelector: {} }, path: [] }),
  (rule) => ({ document: { ...rule, ingress: [], ingressDeny: [], egress: [], egressDeny: [] }, path: [] }),
  (rule) => ({ document: { ...rule, ingres: [] }, path: ['ingres'] }),
  (rule) => ({ document: { ...rule, ingress: {} }, path: ['ingress'] }),
  (rule) => ({ document: { ...rule, enableDefaultDeny: { ingress: 1 } }, path: ['enableDefaultDeny', 'ingress'] }),
  (rule) => ({ document: { ...rule, labels: [{ value: 'x' }] }, path: ['labels', 0] }),
  (rule) => ({ document: { ...rule, description: 1 }, path: ['description'] }),
  (rule) => ({ document: { ...rule, log: { value: 'x'.repeat(33) } }, path: ['log', 'value'] }),
);

export const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 4, arbitrary: inEntry },
  { weight: 1, arbitrary: inRule },
);
