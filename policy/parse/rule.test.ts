// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { re2 } from '../../runtime/re2.ts';
import { WHOLE_LANGUAGE, type Language } from '../language.ts';
import { formatProblem, PolicyValidationError } from '../validation-error.ts';
import { parseRules } from './rule.ts';

function problemsOf(value: unknown, language?: Language): string[] {
  try {
    parseRules(value, { regex: re2, ...(language === undefined ? {} : { language }) });
    return [];
  } catch (error) {
    if (error instanceof PolicyValidationError) return error.problems.map(formatProblem);
    throw error;
  }
}

const web = { endpointSelector: { matchLabels: { app: 'web' } } };

test('a rule is read with its defaults filled in', () => {
  const [rule] = parseRules([{ ...web, ingress: [{}], labels: ['unit=shop'] }], { source: 'shop.json' });
  assert.equal(rule?.subject.selector.toString(), 'any:app=web');
  assert.deepEqual(rule.enableDefaultDeny, { ingress: true, egress: false });
  assert.deepEqual(rule.labels, [{ source: 'unspec', key: 'unit', value: 'shop' }]);
  assert.deepEqual(rule.origin, { source: 'shop.json', index: 0 });
});

test('all faults of a document are reported at once, each with its place', () => {
  const rules = [
    { ...web, ingress: [{ toPorts: [{ ports: [{ port: '70000', protocol: 'TPC' }] }] }] },
    { ingress: [{ fromEntities: ['internet'], fromCIDR: ['10.0.0.0/33'] }] },
  ];
  const problems = problemsOf(rules);
  assert.deepEqual(
    problems.map((problem) => problem.split(': ')[0]),
    [
      'rules[0].ingress[0].toPorts[0].ports[0].protocol',
      'rules[0].ingress[0].toPorts[0].ports[0].port',
      'rules[1]',
      'rules[1].ingress[0].fromEntities[0]',
      'rules[1].ingress[0].fromCIDR[0]',
      'rules[1].ingress[0]',
    ],
  );
  assert.match(problems[1]!, /expected a port: a number from 0 to 65535 as a text.*found "70000"$/);
});

test('unknown fields are refused wherever they stand', () => {
  assert.deepEqual(
    problemsOf([{ ...web, ingres: [{}], ingress: [{ fromendpoints: [] }] }]).map((p) => p.split(';')[0]),
    ['rules[0].ingress[0].fromendpoints: unknown field', 'rules[0].ingres: unknown field'],
  );
  assert.match(problemsOf([{ ...web, ingress: [{ fromendpoints: [] }] }])[0]!, /did you mean fromEndpoints\?$/);
});

test('what is not enforced is refused with the name of the field', () => {
  const rule = {
    ...web,
    ingress: [{ toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ method: 'GET' }] } }] }],
    egress: [{ toFQDNs: [{ matchName: 'a.example' }] }, { toServices: [{ k8sService: { serviceName: 'a' } }] }],
  };
  const places = problemsOf([rule]).map((problem) => problem.split(': ')[0]);
  assert.deepEqual(places, [
    'rules[0].ingress[0].toPorts[0].rules',
    'rules[0].egress[0].toFQDNs',
    'rules[0].egress[1].toServices',
  ]);
  assert.throws(() => parseRules([rule]), { code: 'Unsupported' });
});

test('what is refused here says what to do instead', () => {
  const port = { ports: [{ port: '80', protocol: 'TCP' }] };
  const cases: [object, RegExp][] = [
    [{ fromNodes: [{}] }, /fromNodes: .*name them as entities/],
    [{ fromGroups: [{}] }, /fromGroups: .*write its prefixes/],
    [{ toPorts: [{ ...port, rules: { kafka: [{}] } }] }, /rules: this needs a proxy.*--l7-rules=drop/],
    [{ toPorts: [{ ...port, serverNames: ['a.example'] }] }, /serverNames: this needs a proxy/],
    [{ authentication: { mode: 'required' } }, /authentication\.mode: nothing here authenticates peers/],
    [{ toPorts: [{ ports: [{ port: '0', protocol: 'VRRP' }] }] }, /protocol: VRRP needs extended IP protocols/],
  ];
  for (const [entry, problem] of cases) {
    const problems = problemsOf([{ ...web, ingress: [entry] }]);
    assert.equal(problems.length, 1, problems.join());
    assert.match(problems[0]!, problem);
  }
  const egress = [{ toServices: [{ k8sService: { serviceName: 'a' } }] }, { toFQDNs: [{ matchName: 'a.example' }] }];
  const both = problemsOf([{ ...web, egress }]);
  assert.match(both[0]!, /toServices: .*write the endpoints \(toEndpoints\) or the prefixes/);
  assert.match(both[1]!, /toFQDNs: .*write the prefixes/);
  assert.match(problemsOf([{ nodeSelector: {}, ingress: [{}] }])[0]!, /nodeSelector: .*with the host as a peer/);
});

test('authentication that is disabled asks for nothing', () => {
  const entry = { fromEndpoints: [{}], authentication: { mode: 'disabled' } };
  assert.deepEqual(problemsOf([{ ...web, ingress: [entry] }]), []);
});

test('requirements of Cilium 1.1 are taken in unless a language leaves them out', () => {
  const rule = { ...web, ingress: [{ fromRequires: [{ matchLabels: { env: 'prod' } }] }] };
  assert.deepEqual(problemsOf([rule]), []);
  assert.match(problemsOf([rule], WHOLE_LANGUAGE)[0]!, /^rules\[0\]\.ingress\[0\]\.fromRequires: requirements ended/);
});

test('a list of peers that is empty is not an absent one', () => {
  const [rule] = parseRules([{ ...web, ingress: [{ fromEndpoints: [] }, {}] }]);
  assert.deepEqual(rule?.entries.ingress, [{ peers: [] }, {}]);
});

test('toFQDNs as an empty list is like an absent one', () => {
  const [rule] = parseRules([{ ...web, egress: [{ toFQDNs: [] }] }]);
  assert.deepEqual(rule?.entries.egress, [{}]);
});

test('ports are numbers, octal numbers after a zero, or names', () => {
  const ports = [{ port: '80' }, { port: '010', protocol: 'tcp' }, { port: 'HTTP' }, { port: '5', endPort: 5 }];
  const [rule] = parseRules([{ ...web, ingress: [{ toPorts: [{ ports }] }] }], { language: WHOLE_LANGUAGE });
  assert.deepEqual(rule?.entries.ingress[0]?.toPorts?.[0]?.ports, [
    { port: 80, protocol: 'ANY' },
    { port: 8, protocol: 'TCP' },
    { port: 'http', protocol: 'ANY' },
    { port: 5, protocol: 'ANY' },
  ]);
});

test('an exception may be wider than its prefix but must begin inside it', () => {
  const entry = (except: string): unknown[] => [
    { ...web, egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/16', except: [except] }] }] },
  ];
  assert.deepEqual(problemsOf(entry('10.0.0.0/8')), []);
  assert.equal(problemsOf(entry('10.1.0.0/24')).length, 1);
});

test('addresses with leading zeros are refused', () => {
  assert.equal(problemsOf([{ ...web, egress: [{ toCIDR: ['010.0.0.1', '10.0.0.0/08'] }] }]).length, 2);
});

test('a document that is no list of objects is refused', () => {
  assert.deepEqual(problemsOf({}), ['rules: expected a list, found an object']);
  assert.deepEqual(problemsOf([null, 'x']), [
    'rules[0]: expected an object, found null',
    'rules[1]: expected an object, found "x"',
  ]);
});
