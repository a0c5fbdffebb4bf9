// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { dnsRuleMatches } from './dns.ts';
import { re2 } from '../../runtime/re2.ts';
import { HttpMatcher, type HttpRequest } from './http.ts';
import { kafkaAllowed } from './kafka.ts';
import { serverNameMatches } from './server-name.ts';

function request(headers: Record<string, string> = {}): HttpRequest {
  return {
    method: 'GET',
    path: '/v1?x=1',
    host: 'shop.test',
    headers: new Map(Object.entries(headers).map(([k, v]) => [k, [v]])),
  };
}

test('all members of an http rule must match, as whole values', () => {
  assert.equal(new HttpMatcher({}, re2).matches(request()), true);
  assert.equal(
    new HttpMatcher({ method: 'GET', path: '/v1\\?x=.', host: 'shop\\.test' }, re2).matches(request()),
    true,
  );
  assert.equal(new HttpMatcher({ path: '/v1' }, re2).matches(request()), false);
  assert.equal(new HttpMatcher({ method: 'get' }, re2).matches(request()), false);
  assert.equal(new HttpMatcher({ host: '(' }, re2).matches(request()), false);
});

test('headers are compared by name in any case and by exact value', () => {
  const rule = new HttpMatcher({ headers: ['X-Tenant: blue sky', 'X-Trace'] }, re2);
  assert.equal(rule.matches(request({ 'x-tenant': 'blue sky', 'X-TRACE': '' })), true);
  assert.equal(rule.matches(request({ 'x-tenant': 'blue', 'x-trace': '1' })), false);
  assert.equal(rule.matches(request({ 'x-tenant': 'blue sky' })), false);
});

test('a mismatch with an action changes the header and lets the request through', () => {
  const matcher = new HttpMatcher(
    {
      headerMatches: [
        { name: 'X-A', value: '1', mismatch: 'REPLACE' },
        { name: 'X-B', value: '2', mismatch: 'DELETE' },
      ],
    },
    re2,
  );
  assert.equal(matcher.matches(request()), true);
  assert.deepEqual([...matcher.headersAfter(request({ 'X-A': '0', 'X-B': '3' }))], [['x-a', ['1']]]);
  assert.equal(new HttpMatcher({ headerMatches: [{ name: 'X-A', value: '1' }] }, re2).matches(request()), false);
});

test('the value of a secret takes the place of the value written', () => {
  const rule = { headerMatches: [{ name: 'X-Key', value: 'stand-in', secret: { name: 's' } }] };
  assert.equal(new HttpMatcher(rule, re2, () => 'k').matches(request({ 'X-Key': 'k' })), true);
  assert.equal(new HttpMatcher(rule, re2).matches(request({ 'X-Key': 'stand-in' })), true);
});

test('every topic of a kafka request needs a rule', () => {
  const produce = (...topics: string[]): Parameters<typeof kafkaAllowed>[1] => ({
    apiKey: 0,
    apiVersion: 1,
    clientId: 'c',
    topics,
  });
  const rules = [
    { role: 'produce' as const, topic: 'a' },
    { apiKey: 'produce', topic: 'b', clientID: 'c' },
  ];
  assert.equal(kafkaAllowed(rules, produce('a', 'b')), true);
  assert.equal(kafkaAllowed(rules, produce('a', 'x')), false);
  assert.equal(kafkaAllowed(rules, { ...produce('b'), clientId: 'd' }), false);
  // A heartbeat carries no topic, so the constraint means nothing to it.
  assert.equal(kafkaAllowed([{ role: 'consume', topic: 'a' }], { ...produce(), apiKey: 12 }), true);
});

test('stars in DNS patterns stay inside labels, two in front take whole labels', () => {
  const matches = (matchPattern: string, name: string): boolean => dnsRuleMatches({ matchPattern }, name);
  assert.equal(matches('*.a.test', 'x.a.test.'), true);
  assert.equal(matches('*.a.test', 'x.y.a.test'), false);
  assert.equal(matches('**.a.test', 'x.y.a.test'), true);
  assert.equal(matches('**.a.test', 'a.test'), false);
  assert.equal(matches('s*1*.test', 'S-1.test'), true);
  assert.equal(matches('s*1*1.test', 's1.test'), false);
  assert.equal(dnsRuleMatches({ matchName: 'A.test.', matchPattern: 'b' }, 'a.TEST'), true);
});

test('a server name may begin with stars for labels', () => {
  assert.equal(serverNameMatches('*.a.test', 'x.a.test'), true);
  assert.equal(serverNameMatches('*.a.test', 'x.y.a.test'), false);
  assert.equal(serverNameMatches('**.a.test', 'x.y.a.test'), true);
  assert.equal(serverNameMatches('a.test', 'A.TEST'), true);
});
