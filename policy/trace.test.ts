// SPDX-License-Identifier: Apache-2.0

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { LabelSet } from '../identity/label-set.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import { app, ruleFor, SmallWorld, tcp } from './fake/small-world.ts';
import type { PolicyRepositoryOptions } from './repository.ts';
import { tracePolicy, type PolicyTrace, type TracedPort } from './trace.ts';

function trace(
  rules: readonly object[],
  from: string,
  to: string,
  ports: readonly TracedPort[] = [],
  options: Partial<PolicyRepositoryOptions> = {},
): PolicyTrace {
  const { repository } = new SmallWorld(rules, options);
  return tracePolicy(repository, { from: labels(from), to: labels(to), ports });
}

function labels(text: string): LabelSet {
  return LabelSet.fromTexts(text.split(' '));
}

const WEB = 'container:app=web';
const CART = 'container:app=cart';
const HTTP = { port: 80, protocol: 'TCP' } as const;

test('an entry without ports allows by labels alone', () => {
  const found = trace(
    [ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] }), ruleFor('x', { ingress: [{}] })],
    WEB,
    CART,
  );
  assert.deepEqual([found.verdict, found.ingress.labelVerdict], ['allowed', 'allowed']);
  assert.deepEqual([found.ingress.selected, found.ingress.rules.length], [1, 2]);
  assert.equal(found.ingress.labelReasons[0]!.entry.index, 0);
  assert.equal(found.egress.setting, 'no-policy');
});

test('labels that nobody has are traced, and what they lack is named', () => {
  const found = trace([ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] })], 'container:app=x', CART);
  assert.deepEqual([found.verdict, found.ingress.labelVerdict], ['denied', 'undecided']);
  const [step] = found.ingress.rules[0]!.entries;
  assert.deepEqual([step!.selectsPeer, step!.l4], [false, 'everything']);
  assert.deepEqual(step!.peers![0]!.selectors[0]!.missing, [
    { source: 'any', key: 'app', operator: 'Equals', values: ['web'] },
  ]);
});

test('an entry with ports leaves it to the ports asked for, which must all pass', () => {
  const rules = [ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80)] }] })];
  assert.equal(trace(rules, WEB, CART).verdict, 'denied');
  assert.equal(trace(rules, WEB, CART, [HTTP]).verdict, 'allowed');
  assert.equal(trace(rules, WEB, CART, [{ port: 80 }]).verdict, 'allowed');
  assert.equal(trace(rules, WEB, CART, [{ port: 80, protocol: 'UDP' }]).verdict, 'denied');
  const both = trace(rules, WEB, CART, [HTTP, { port: 443 }]);
  assert.deepEqual(
    [both.verdict, ...both.ingress.ports.map(({ verdict }) => verdict)],
    ['denied', 'allowed', 'denied'],
  );
});

test('a deny beats an allow: for everything by labels, for a port where that is asked for', () => {
  const allow = ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] });
  const all = trace([allow, ruleFor('cart', { ingressDeny: [{ fromEntities: ['all'] }] })], WEB, CART, [HTTP]);
  assert.deepEqual([all.verdict, all.ingress.labelVerdict], ['denied', 'denied']);
  const port = [allow, ruleFor('cart', { ingressDeny: [{ toPorts: [tcp(80)] }] })];
  const asked = trace(port, WEB, CART, [HTTP]);
  assert.deepEqual([asked.verdict, asked.ingress.labelVerdict], ['denied', 'undecided']);
  assert.equal(trace(port, WEB, CART, [{ port: 81 }]).verdict, 'allowed');
  assert.equal(trace(port, WEB, CART).verdict, 'allowed');
});

test('both directions have to allow', () => {
  const found = trace([ruleFor('web', { egress: [{ toEndpoints: [app('db')] }] })], WEB, CART, [HTTP]);
  assert.deepEqual([found.egress.verdict, found.ingress.verdict, found.verdict], ['denied', 'allowed', 'denied']);
});

test('a redirect counts as allowed, and as denied where there is no proxy', () => {
  const rules = [
    ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80, { rules: { http: [{}] } })] }] }),
  ];
  const proxied = trace(rules, WEB, CART, [HTTP]);
  assert.deepEqual([proxied.verdict, proxied.ingress.ports[0]!.redirect], ['allowed', true]);
  const dropped = trace(rules, WEB, CART, [HTTP], { dropsRedirects: true });
  assert.deepEqual([dropped.verdict, dropped.ingress.ports[0]!.redirect], ['denied', true]);
});

test('requirements narrow what endpoints selectors allow', () => {
  const rules = [
    ruleFor('cart', {
      ingress: [{ fromRequires: [{ matchLabels: { env: 'prod' } }] }, { fromEndpoints: [app('web')] }],
    }),
  ];
  const failing = trace(rules, WEB, CART, [HTTP]);
  assert.deepEqual([failing.verdict, failing.ingress.requirementsFail], ['denied', true]);
  assert.equal(trace(rules, `${WEB} container:env=prod`, CART, [HTTP]).verdict, 'allowed');
});

test('entities and prefixes are given as labels', () => {
  const rules = [
    ruleFor('web', { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }] }] }),
    ruleFor('cart', { ingress: [{ fromEntities: ['host'] }] }),
  ];
  assert.equal(trace(rules, 'reserved:host', CART).verdict, 'allowed');
  assert.equal(trace(rules, WEB, 'cidr:10.2.0.0/24 reserved:world-ipv4').verdict, 'allowed');
  const excepted = trace(rules, WEB, 'cidr:10.1.2.0/24 reserved:world-ipv4');
  assert.deepEqual([excepted.verdict, excepted.ingress.setting], ['denied', 'not-an-endpoint']);
});

test('named ports are those of the identity with these labels', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ toPorts: [tcp('http')] }] })]);
  world.repository.setNamedPorts(world.ids.cart, new Map([['http', { protocol: IP_PROTOCOL.TCP, port: 8080 }]]));
  const question = { from: labels(WEB), to: world.end('cart').labels, ports: [{ port: 8080 }] };
  assert.equal(tracePolicy(world.repository, question).verdict, 'allowed');
});

test('modes: never allows what is denied, always denies what nobody allows, init is always closed', () => {
  const deny = [ruleFor('cart', { ingressDeny: [{ fromEntities: ['all'] }] })];
  const never = trace(deny, WEB, CART, [HTTP], { enforcement: 'never' });
  assert.deepEqual([never.verdict, never.ingress.setting], ['allowed', 'enforcement-never']);
  assert.equal(trace([], WEB, CART, [HTTP]).verdict, 'allowed');
  assert.equal(trace([], WEB, CART, [HTTP], { enforcement: 'always' }).verdict, 'denied');
  assert.equal(trace([], 'reserved:init', CART, [HTTP]).verdict, 'denied');
});
