// SPDX-License-Identifier: Apache-2.0

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity } from '../identity/numeric-identity.ts';
import { IpAddress } from '../net/ip.ts';
import { explainFlow, type FlowExplanation } from './explain-flow.ts';
import { IP_PROTOCOL, PRECEDENCE_ALLOW, PRECEDENCE_DENY } from './map-entry.ts';
import { app, parse, ruleFor, SmallWorld, tcp } from './fake/small-world.ts';

test('nobody says anything: a setting allows, and the entry is its', () => {
  const { verdict, ingress, suggestion } = new SmallWorld([]).explain('web', 'cart', '80/TCP');
  assert.equal(verdict, 'allowed');
  assert.deepEqual([ingress.cause, ingress.setting], ['setting', 'no-policy']);
  assert.deepEqual(ingress.map?.entry, {
    identity: 0,
    egress: false,
    protocol: 0,
    port: 0,
    bits: 0,
    deny: false,
    proxyPort: 0,
    precedence: PRECEDENCE_ALLOW,
    cookie: 0,
  });
  assert.equal(suggestion, undefined);
});

test('an allow rule is named, with its file, entry, selector and identities', () => {
  const world = new SmallWorld([
    ruleFor('other', { ingress: [{}] }),
    ruleFor('cart', { labels: ['unit=shop'], ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80), tcp(81)] }] }),
  ]);
  const { ingress, egress } = world.explain('web', 'cart', '81/TCP');
  const [hit, ...none] = ingress.hits;
  assert.deepEqual(none, []);
  assert.equal(ingress.cause, 'allow-rule');
  assert.deepEqual([hit!.rule.origin.source, hit!.rule.origin.index], ['shop.json', 1]);
  assert.deepEqual([hit!.section, hit!.entry, hit!.portRuleIndex, hit!.decides], ['ingress', 0, 1, true]);
  assert.deepEqual(
    hit!.selected.map(({ selector, identities }) => [selector.toString(), identities]),
    [['any:app=web', [world.ids.web]]],
  );
  assert.equal(ingress.map?.entry?.identity, world.ids.web);
  assert.deepEqual(ingress.map.rules, [hit!.rule]);
  assert.deepEqual([egress.cause, egress.setting], ['setting', 'no-policy']);
});

test('default deny: the rules that close are named, and the smallest rule that allows', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ fromEndpoints: [app('admin')], toPorts: [tcp(80)] }] })]);
  const { verdict, ingress, suggestion } = world.explain('web', 'cart', '80/TCP');
  assert.equal(verdict, 'denied');
  assert.equal(ingress.cause, 'no-rule-allows');
  assert.equal(ingress.map?.entry, undefined);
  assert.deepEqual(ingress.closedBy, world.repository.rules());
  const [peer] = ingress.rules[0]!.entries[0]!.peers!;
  assert.deepEqual(
    peer!.selectors[0]!.missing.map(({ key, values }) => [key, ...values]),
    [['app', 'admin']],
  );
  assert.deepEqual(suggestion!.rules, [
    {
      labels: ['explain:flow=300-301-6-80'],
      endpointSelector: { matchLabels: { 'container:app': 'cart' } },
      ingress: [
        {
          fromEndpoints: [{ matchLabels: { 'container:app': 'web' } }],
          toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
        },
      ],
    },
  ]);
});

test('both sides deny: a rule for each', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{}] }), ruleFor('web', { egress: [{}] })]);
  const rules = world.explain('web', 'cart', '53/UDP').suggestion!.rules as Record<string, unknown>[];
  assert.deepEqual(
    rules.map((rule) => Object.keys(rule)),
    [
      ['labels', 'endpointSelector', 'egress'],
      ['labels', 'endpointSelector', 'ingress'],
    ],
  );
});

test('a deny rule has to go; an allow rule beside it loses', () => {
  const world = new SmallWorld([
    ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] }),
    ruleFor('cart', { ingressDeny: [{ fromEntities: ['host'] }, { toPorts: [tcp(22), tcp(23)] }] }),
  ]);
  const { ingress, suggestion } = world.explain('web', 'cart', '23/TCP');
  assert.equal(ingress.cause, 'deny-rule');
  assert.deepEqual(
    ingress.hits.map(({ rule, decides }) => [rule.origin.index, decides]),
    [
      [1, true],
      [0, false],
    ],
  );
  assert.deepEqual([ingress.map!.entry!.identity, ingress.map!.entry!.precedence], [0, PRECEDENCE_DENY]);
  assert.deepEqual(
    ingress.map!.lost.map(({ entry, reason, rules }) => [entry.identity, reason, rules[0]!.origin.index]),
    [[world.ids.web, 'precedence', 0]],
  );
  assert.deepEqual(suggestion!.rules, []);
  const [obstacle] = suggestion!.remove;
  assert.deepEqual(
    [obstacle!.kind, obstacle!.section, obstacle!.entry, obstacle!.portRule],
    ['denies', 'ingressDeny', 1, 1],
  );
});

test('a port inside a range: the longer match wins, and the shorter is shown', () => {
  const world = new SmallWorld([
    ruleFor('cart', {
      ingress: [{ toPorts: [{ ports: [{ port: '64', endPort: 127, protocol: 'TCP' }] }] }, { toPorts: [tcp(80)] }],
    }),
  ]);
  const { map } = world.explain('web', 'cart', '80/TCP').ingress;
  assert.equal(map!.entry!.bits, 24);
  assert.deepEqual(
    map!.lost.map(({ entry, reason }) => [entry.port, entry.bits, reason]),
    [[64, 18, 'shorter']],
  );
});

test('entities are named, and suggested for reserved peers', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ fromEntities: ['host'] }] })]);
  const allowed = world.explain('host', 'cart', '80/TCP').ingress;
  assert.deepEqual(allowed.hits[0]!.peers, [{ kind: 'entities', entity: 'host' }]);
  const { suggestion, egress } = world.explain('unmanaged', 'cart', '80/TCP');
  assert.equal(egress.setting, 'not-an-endpoint');
  assert.deepEqual(entryOf(suggestion!.rules, 'ingress'), {
    fromEntities: ['unmanaged'],
    toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
  });
  // Identity 7 is a remote node, too: the entity alone would let it in.
  const node = world.explain('remote-node', 'cart', '80/TCP').suggestion!;
  assert.deepEqual(entryOf(node.rules, 'ingress')['fromEndpoints'], [
    {
      matchLabels: { 'reserved:remote-node': '' },
      matchExpressions: [{ key: 'reserved:kube-apiserver', operator: 'DoesNotExist' }],
    },
  ]);
});

test('an excepted prefix: the CIDR rule does not select it, and a rule for the address is suggested', () => {
  const world = new SmallWorld([
    ruleFor('web', { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }] }] }),
  ]);
  assert.deepEqual(
    world.explain('web', '10.2.0.1', '443/TCP').egress.hits[0]!.peers.map(({ kind }) => kind),
    ['cidrSet'],
  );
  const { egress, suggestion } = world.explain('web', '10.1.0.7', '443/TCP');
  assert.deepEqual(egress.peer.labels.toTexts(), ['cidr:10.1.0.0/16', 'reserved:world-ipv4']);
  assert.deepEqual(
    egress.rules[0]!.entries[0]!.peers![0]!.selectors[0]!.missing.map(({ key, operator }) => [key, operator]),
    [['10.1.0.0/16', 'DoesNotExist']],
  );
  assert.deepEqual(entryOf(suggestion!.rules, 'egress')['toCIDR'], ['10.1.0.7/32']);
});

test('outside without an address: its whole range, without those known by others', () => {
  const world = new SmallWorld([
    ruleFor('web', { egress: [{ toCIDR: ['10.0.0.0/8', '10.1.0.0/16'], toPorts: [tcp(1)] }] }),
  ]);
  const entryFor = (name: string): object => {
    const { identity, labels } = world.end(name);
    const ends = { from: world.end('web'), to: { identity, labels, managed: false } };
    const { suggestion } = explainFlow(world.repository, { ...ends, protocol: IP_PROTOCOL.TCP, port: 443 });
    assert.deepEqual(suggestion!.wider, []);
    return entryOf(suggestion!.rules, 'egress');
  };
  const toPorts = [tcp(443)];
  assert.deepEqual(entryFor('10.2.0.1'), { toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }], toPorts });
  assert.deepEqual(entryFor('8.8.8.8'), { toCIDRSet: [{ cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] }], toPorts });
  assert.deepEqual(entryFor('10.1.0.1'), { toCIDR: ['10.1.0.0/16'], toPorts });
});

test('addresses of a DNS name: said by name, and suggested by address or by the label of the name', () => {
  const world = new SmallWorld([
    ruleFor('web', {
      egress: [
        { toFQDNs: [{ matchName: 'a.test' }], toPorts: [tcp(80)] },
        { toCIDR: ['10.0.0.0/8'], toPorts: [tcp(81)] },
      ],
    }),
  ]);
  const identity = numericIdentity(500);
  const labels = LabelSet.fromTexts(['fqdn:a.test', 'cidr:10.0.0.0/8', 'reserved:world-ipv4']);
  world.repository.addIdentity(identity, labels);
  const ask = (port: number, address?: string): FlowExplanation => {
    const to = { identity, labels, managed: false, ...(address && { address: IpAddress.parse(address) }) };
    return explainFlow(world.repository, { from: world.end('web'), to, protocol: IP_PROTOCOL.TCP, port });
  };
  assert.deepEqual(ask(80).egress.hits[0]!.peers, [{ kind: 'fqdns', matchName: 'a.test' }]);
  const toPorts = [tcp(443)];
  assert.deepEqual(entryOf(ask(443, '10.0.0.9').suggestion!.rules, 'egress'), { toCIDR: ['10.0.0.9/32'], toPorts });
  const byName = { toEndpoints: [{ matchLabels: { 'fqdn:a.test': '' } }], toPorts };
  assert.deepEqual(entryOf(ask(443).suggestion!.rules, 'egress'), byName);
  // The range around has an identity of its own, and the name's addresses lie in it.
  const { identity: range, labels: around } = world.end('10.1.1.1');
  const to = { identity: range, labels: around, managed: false };
  const { suggestion } = explainFlow(world.repository, { from: world.end('web'), to, protocol: 6, port: 443 });
  assert.deepEqual(entryOf(suggestion!.rules, 'egress'), { toCIDR: ['10.0.0.0/8'], toPorts });
  assert.deepEqual(suggestion!.wider, [{ direction: 'egress', part: 'peer', identities: [labels] }]);
});

test('ICMP: types take the place of ports', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ icmps: [{ fields: [{ type: 8 }] }] }] })]);
  assert.equal(world.explain('web', 'cart', '8/ICMP').ingress.cause, 'allow-rule');
  const { rules } = world.explain('web', 'cart', '128/ICMPv6').suggestion!;
  assert.deepEqual(entryOf(rules, 'ingress')['icmps'], [{ fields: [{ family: 'IPv6', type: 128 }] }]);
});

test('a protocol without a word in the language: the rule is wider, and says so', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{}] })]);
  const flow = { from: world.end('web'), to: world.end('cart'), protocol: 47, port: 0 };
  const { rules, wider } = explainFlow(world.repository, flow).suggestion!;
  assert.deepEqual(entryOf(rules, 'ingress'), { fromEndpoints: [{ matchLabels: { 'container:app': 'web' } }] });
  assert.deepEqual(wider, [{ direction: 'ingress', part: 'ports', identities: [] }]);
  const any = explainFlow(world.repository, { ...flow, protocol: 0 }).suggestion!;
  assert.deepEqual([any.rules, any.wider], [[{ ...rules[0], labels: [any.label] }], []]);
});

test('a named port is that of the endpoint', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ toPorts: [tcp('http')] }] })]);
  assert.equal(world.explain('web', 'cart', '8080/TCP').verdict, 'denied');
  world.repository.setNamedPorts(world.ids.cart, new Map([['http', { protocol: IP_PROTOCOL.TCP, port: 8080 }]]));
  assert.equal(world.explain('web', 'cart', '8080/TCP').verdict, 'allowed');
});

test('L7 rules: a redirect, and where there is no proxy a drop whose rule has to go', () => {
  const rules = [
    ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80, { rules: { http: [{}] } })] }] }),
    ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] }),
  ];
  const passing = new SmallWorld(rules).explain('web', 'cart', '80/TCP');
  assert.deepEqual(
    [passing.verdict, passing.ingress.cause, passing.suggestion],
    ['redirect', 'redirect-rule', undefined],
  );
  assert.equal(passing.ingress.hits[0]!.redirect?.parser, 'http');
  const dropping = new SmallWorld(rules, { dropsRedirects: true }).explain('web', 'cart', '80/TCP');
  assert.deepEqual([dropping.verdict, dropping.ingress.verdict], ['denied', 'redirect']);
  assert.deepEqual(
    dropping.suggestion!.remove.map(({ kind, portRule }) => [kind, portRule]),
    [['redirects', 0]],
  );
  assert.deepEqual(dropping.suggestion!.rules, []);
});

test('a requirement that the peer does not meet has to go before any rule helps', () => {
  const world = new SmallWorld([
    ruleFor('cart', {
      ingress: [{ fromRequires: [{ matchLabels: { env: 'prod' } }] }, { fromEndpoints: [app('web')] }],
    }),
  ]);
  const { ingress, suggestion } = world.explain('web', 'cart', '80/TCP');
  assert.equal(ingress.cause, 'no-rule-allows');
  assert.deepEqual(
    ingress.rules[0]!.entries[0]!.requires[0]!.missing.map(({ key }) => key),
    ['env'],
  );
  assert.deepEqual(
    suggestion!.remove.map(({ kind, entry }) => [kind, entry]),
    [['requires', 0]],
  );
  assert.deepEqual(suggestion!.rules, []);
});

test('an entry that asks for authentication allows nothing, and is shown as such', () => {
  const world = new SmallWorld([
    ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], authentication: { mode: 'required' } }] }),
  ]);
  const { ingress } = world.explain('web', 'cart', '80/TCP');
  assert.equal(ingress.cause, 'no-rule-allows');
  const [entry] = ingress.rules[0]!.entries;
  assert.deepEqual([entry!.selectsPeer, entry!.needsAuthentication], [true, true]);
});

test('settings: allow-localhost, the modes, no default deny', () => {
  const closed = ruleFor('cart', { ingress: [{}] });
  const localhost = new SmallWorld([closed], { allowLocalhost: 'always' }).explain('host', 'cart', '80/TCP').ingress;
  assert.deepEqual(
    [localhost.verdict, localhost.setting, localhost.map!.entry!.identity],
    ['allowed', 'allow-localhost', 1],
  );
  const never = new SmallWorld([closed], { enforcement: 'never' }).explain('web', 'cart', '80/TCP').ingress;
  assert.deepEqual([never.verdict, never.setting, never.closedBy], ['allowed', 'enforcement-never', []]);
  const always = new SmallWorld([], { enforcement: 'always' }).explain('web', 'cart', '80/TCP');
  assert.deepEqual([always.egress.cause, always.egress.closedBy], ['no-rule-allows', []]);
  assert.equal(always.suggestion!.rules.length, 2);
  const open = ruleFor('cart', { enableDefaultDeny: { ingress: false }, ingressDeny: [{ toPorts: [tcp(22)] }] });
  const world = new SmallWorld([open]);
  assert.equal(world.explain('web', 'cart', '80/TCP').ingress.setting, 'no-default-deny');
  assert.equal(world.explain('web', 'cart', '22/TCP').ingress.cause, 'deny-rule');
});

test('reserved:init is closed without any rule', () => {
  const world = new SmallWorld([]);
  const { egress, suggestion } = world.explain('init', 'cart', '80/TCP');
  assert.deepEqual([egress.cause, egress.closedBy], ['no-rule-allows', []]);
  assert.deepEqual((suggestion!.rules[0] as { endpointSelector: object }).endpointSelector, {
    matchLabels: { 'reserved:init': '' },
  });
  world.repository.import(parse(suggestion!.rules));
  assert.equal(world.explain('init', 'cart', '80/TCP').verdict, 'allowed');
});

test('labels that another identity has as well: what it has besides is ruled out', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{}] })]);
  const labels = LabelSet.fromTexts(['container:app=cart', 'container:tier=back', 'container:canary']);
  world.repository.addIdentity(numericIdentity(400), labels);
  const [rule] = world.explain('web', 'cart', '80/TCP').suggestion!.rules as { endpointSelector: unknown }[];
  assert.deepEqual(rule!.endpointSelector, {
    matchLabels: { 'container:app': 'cart' },
    matchExpressions: [{ key: 'container:canary', operator: 'DoesNotExist' }],
  });
});

test('too many others to rule out: the rule is wider, and names whom it lets in', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{}] })]);
  for (let index = 0; index < 30; index++) {
    const labels = ['container:app=cart', 'container:tier=back', `container:copy-${index}`];
    world.repository.addIdentity(numericIdentity(400 + index), LabelSet.fromTexts(labels));
  }
  const { rules, wider } = world.explain('web', 'cart', '80/TCP').suggestion!;
  assert.deepEqual(
    wider.map(({ direction, part, identities }) => [direction, part, identities.length]),
    [['ingress', 'subject', 15]],
  );
  world.repository.import(parse(rules));
  assert.equal(world.explain('web', 'cart', '80/TCP').verdict, 'allowed');
});

test('labels that no selector can hold: no rule can be written', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{}] })]);
  world.repository.addIdentity(numericIdentity(400), LabelSet.of([{ source: 'container', key: 'a b', value: 'x' }]));
  const from = { identity: numericIdentity(400), labels: world.labelsOf(numericIdentity(400)), managed: false };
  const { suggestion } = explainFlow(world.repository, { from, to: world.end('cart'), protocol: 6, port: 80 });
  assert.deepEqual([suggestion!.rules, suggestion!.impossible], [[], ['ingress']]);
});

function entryOf(rules: readonly object[], section: string): Record<string, unknown> {
  return (rules as Record<string, Record<string, unknown>[]>[])[0]![section]![0]!;
}
