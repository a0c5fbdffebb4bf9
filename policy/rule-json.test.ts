// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { WHOLE_LANGUAGE } from './language.ts';
import { parseRules } from './parse/rule.ts';
import { ruleToJson } from './rule-json.ts';
import { re2 } from '../runtime/re2.ts';

function print(rule: unknown): unknown {
  const [parsed] = parseRules([rule], { language: { ...WHOLE_LANGUAGE, requires: true, nodes: true }, regex: re2 });
  return JSON.parse(JSON.stringify(ruleToJson(parsed!)));
}

test('a rule is printed in the form of policy get', () => {
  const rule = {
    endpointSelector: { matchLabels: { id: 'app2' } },
    ingress: [
      { fromEndpoints: [{ matchLabels: { id: 'app1' } }], toPorts: [{ ports: [{ port: '80', protocol: 'tcp' }] }] },
    ],
    labels: [{ key: 'name', value: 'l3-rule' }],
  };
  assert.deepEqual(print(rule), {
    endpointSelector: { matchLabels: { 'any:id': 'app2' } },
    ingress: [
      {
        fromEndpoints: [{ matchLabels: { 'any:id': 'app1' } }],
        toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
      },
    ],
    labels: [{ key: 'name', value: 'l3-rule', source: '' }],
    enableDefaultDeny: { ingress: true, egress: false },
  });
});

test('what is printed reads back to the same', () => {
  const rules = [
    { endpointSelector: {}, ingress: [{}, { fromEndpoints: [] }], enableDefaultDeny: { ingress: false } },
    { endpointSelector: {}, egress: [{ toCIDR: ['10.1.2.3/8', '::1'] }, { toEntities: ['world', 'none'] }] },
    { endpointSelector: {}, egressDeny: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.1.1.1/16'] }] }] },
    {
      endpointSelector: {},
      ingressDeny: [{ icmps: [{ fields: [{ type: 'EchoRequest' }, { type: 1, family: 'IPv6' }] }] }],
    },
    { endpointSelector: {}, ingress: [{ toPorts: [{}, { ports: [{ port: '1', endPort: 9 }, { port: 'a-1' }] }] }] },
    {
      endpointSelector: {},
      egress: [{ toFQDNs: [{ matchName: 'a.b' }, { matchPattern: '*.c' }] }, { toServices: [{ k8sService: {} }] }],
    },
    {
      nodeSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: ['x', 'y'] }] },
      ingress: [{ fromNodes: [{}] }],
    },
    {
      endpointSelector: {},
      ingress: [{ fromRequires: [{}], authentication: { mode: 'required' } }],
      log: { value: 'x' },
    },
    {
      endpointSelector: {},
      ingress: [{ fromCIDRSet: [{ cidrGroupRef: 'g' }, { cidrGroupSelector: {} }] }],
      description: 'd',
    },
  ];
  const port = (extra: object): object => ({ toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }], ...extra }] });
  const http = { method: 'GET', headers: ['X: 1'], headerMatches: [{ name: 'Y', mismatch: 'ADD', value: 'v' }] };
  const secret = { secret: { namespace: 'n', name: 's' } };
  const listener = { envoyConfig: { kind: 'CiliumEnvoyConfig', name: 'c' }, name: 'l', priority: 3 };
  const proxied = [
    port({ rules: { http: [http, {}] } }),
    port({ rules: { kafka: [{ role: 'produce', apiVersion: '2', topic: 't' }] } }),
    port({ rules: { dns: [{ matchName: 'a.b' }, { matchPattern: '*' }] } }),
    port({ rules: { l7proto: 'line', l7: [{ cmd: 'x' }] } }),
    port({ serverNames: ['a.b'], terminatingTLS: secret, originatingTLS: { ...secret, trustedCA: 'ca' } }),
    port({ listener }),
  ];
  for (const rule of [...rules, ...proxied.map((entry) => ({ endpointSelector: {}, egress: [entry] }))]) {
    const printed = print(rule);
    assert.deepEqual(print(printed), printed);
  }
});
