// SPDX-License-Identifier: Apache-2.0

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { IpAddress, Prefix } from '../net/ip.ts';
import { identityName } from '../identity/numeric-identity.ts';
import { app, parse, ruleFor, SmallWorld, tcp, type EndpointName } from './fake/small-world.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import type { Rule } from './rule.ts';
import { simulateImport, type PolicyChange, type PolicyDifference, type Simulation } from './simulation.ts';
import type { PortChange } from './why/port-sweep.ts';
import type { SimulatedFlow, SimulatedPeer } from './why/subject-change.ts';

function importing(...rules: readonly object[]): { add: readonly Rule[] } {
  return { add: parse(rules) };
}

/** `web ingress: others: any 0-65535 allowed>denied` */
function lines(world: SmallWorld, change: PolicyChange): string[] {
  return simulateImport(world.repository, change).differences.flatMap((difference) => linesOf(world, difference));
}

function linesOf(world: SmallWorld, { subjects, direction, groups }: PolicyDifference): string[] {
  const nameOf = (id: number): string =>
    Object.entries(world.ids).find(([, known]) => known === id)?.[0] ?? identityName(id);
  const peerName = (peer: SimulatedPeer): string => {
    if (peer.kind === 'others') return 'others';
    return peer.kind === 'prefix' ? `new ${peer.prefix.toString()}` : nameOf(peer.identity);
  };
  const who = `${subjects.map(nameOf).join('+')} ${direction}`;
  return groups.flatMap(({ peers, changes }) => {
    const whom = peers.map(peerName).join('+');
    return changes.length === 0
      ? [`${who}: ${whom}: same`]
      : changes.map((one) => `${who}: ${whom}: ${changeText(one)}`);
  });
}

function changeText({ protocol, exceptProtocols, firstPort, lastPort, before, after }: PortChange): string {
  const except = exceptProtocols.length > 0 ? ` but ${exceptProtocols.join()}` : '';
  return `${protocol ?? 'any'}${except} ${firstPort}-${lastPort} ${before}>${after}`;
}

test('the first rule for an endpoint closes it for everybody else', () => {
  const world = new SmallWorld([]);
  assert.deepEqual(
    lines(world, importing(ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80)] }] }))),
    [
      'cart ingress: others: any 0-65535 allowed>denied',
      'cart ingress: web: any but 6 0-65535 allowed>denied',
      'cart ingress: web: 6 0-79 allowed>denied',
      'cart ingress: web: 6 81-65535 allowed>denied',
    ],
  );
});

test('the settings before and after are told', () => {
  const world = new SmallWorld([]);
  const { differences } = simulateImport(
    world.repository,
    importing(ruleFor('cart', { ingress: [{ fromEntities: ['all'] }] })),
  );
  assert.deepEqual(
    differences.map(({ setting, groups }) => [setting, groups]),
    [[{ before: 'no-policy', after: undefined }, []]],
  );
});

test('one more port for one peer', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [tcp(80)] }] })]);
  const range = { ports: [{ port: '70', endPort: 90, protocol: 'TCP' }] };
  assert.deepEqual(
    lines(world, importing(ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')], toPorts: [range] }] }))),
    ['cart ingress: web: 6 70-79 denied>allowed', 'cart ingress: web: 6 81-90 denied>allowed'],
  );
});

test('a deny, a redirect, and a port opened for all but those it is denied', () => {
  const world = new SmallWorld([
    ruleFor('cart', {
      ingress: [{ fromEndpoints: [app('web'), app('admin')] }],
      ingressDeny: [{ fromEndpoints: [app('admin')], toPorts: [tcp(80)] }],
    }),
  ]);
  assert.deepEqual(lines(world, importing(ruleFor('cart', { ingressDeny: [{ toPorts: [tcp(80)] }] }))), [
    'cart ingress: web: 6 80-80 allowed>denied',
  ]);
  assert.deepEqual(
    lines(world, importing(ruleFor('cart', { ingress: [{ toPorts: [tcp(81, { rules: { http: [{}] } })] }] }))),
    ['cart ingress: others: 6 81-81 denied>redirect', 'cart ingress: web+admin: 6 81-81 allowed>redirect'],
  );
  assert.deepEqual(lines(world, importing(ruleFor('cart', { ingress: [{ toPorts: [tcp(80)] }] }))), [
    'cart ingress: others: 6 80-80 denied>allowed',
    'cart ingress: web+admin: same',
  ]);
});

test('deletion and replacement', () => {
  const world = new SmallWorld([
    ruleFor('cart', { labels: ['v=1'], ingress: [{ toPorts: [tcp(80)] }] }),
    ruleFor('cart', { labels: ['v=2'], ingress: [{ toPorts: [tcp(81)] }] }),
  ]);
  const v1 = { source: 'any', key: 'v', value: '1' };
  assert.deepEqual(lines(world, { deleteLabels: [v1] }), ['cart ingress: others: 6 80-80 allowed>denied']);
  assert.deepEqual(lines(world, { deleteLabels: [] }), [
    'cart ingress: others: any but 6 0-65535 denied>allowed',
    'cart ingress: others: 6 0-79 denied>allowed',
    'cart ingress: others: 6 82-65535 denied>allowed',
  ]);
  const add = parse([ruleFor('cart', { labels: ['v=1'], ingress: [{ toPorts: [tcp(90)] }] })]);
  assert.deepEqual(lines(world, { add, options: { replace: true } }), [
    'cart ingress: others: 6 80-80 allowed>denied',
    'cart ingress: others: 6 90-90 denied>allowed',
  ]);
});

test('prefixes take addresses from wider identities and give them back', () => {
  const world = new SmallWorld([
    ruleFor('web', { labels: ['v=1'], egress: [{ toCIDR: ['10.0.0.0/8'], toPorts: [tcp(443)] }] }),
  ]);
  const narrower = importing(
    ruleFor('web', { egress: [{ toCIDRSet: [{ cidr: '10.1.0.0/16', except: ['10.1.1.0/24'] }], toPorts: [tcp(80)] }] }),
  );
  const simulation = simulateImport(world.repository, narrower, {
    flows: ['10.1.2.3', '10.1.1.3', '10.2.0.1'].map((ip) => flow(world, 'web', ip, 80)),
  });
  assert.deepEqual(simulation.prefixes.added.map(String), ['10.1.0.0/16', '10.1.1.0/24']);
  // The excepted part lies inside what changes, so it is named.
  assert.deepEqual(
    simulation.differences.flatMap((difference) => linesOf(world, difference)),
    ['web egress: new 10.1.0.0/16: 6 80-80 denied>allowed', 'web egress: new 10.1.1.0/24: same'],
  );
  assert.deepEqual(addresses(simulation), ['10.1.2.3 denied>allowed']);
  const gone = simulateImport(world.repository, { deleteLabels: [] });
  assert.deepEqual(gone.prefixes.gone.map(String), ['10.0.0.0/8']);
  assert.equal(world.repository.rules().length, 1);
});

test('a new prefix may change what rules of others say, when they name labels of prefixes', () => {
  const named = { matchLabels: { 'cidr:10.0.0.0/8': '' } };
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ fromEndpoints: [named], toPorts: [tcp(80)] }] })]);
  const narrow = importing(ruleFor('web', { egress: [{ toCIDR: ['10.1.0.0/16'] }] }));
  assert.equal(world.explain('10.1.2.3', 'cart', '80/TCP').verdict, 'denied');
  assert.deepEqual(
    lines(world, narrow).filter((line) => line.startsWith('cart')),
    ['cart ingress: new 10.1.0.0/16: 6 80-80 denied>allowed'],
  );
  world.repository.import(narrow.add);
  assert.equal(world.explain('10.1.2.3', 'cart', '80/TCP').verdict, 'allowed');
  assert.deepEqual(lines(world, { deleteLabels: [{ source: 'any', key: 'x', value: '' }] }), []);
});

test('ICMP types and protocols, named ports, requirements, CIDR groups', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ fromEndpoints: [app('web')] }] })]);
  const ping = ruleFor('cart', { ingress: [{ fromEntities: ['host'], icmps: [{ fields: [{ type: 8 }] }] }] });
  assert.deepEqual(lines(world, importing(ping)), ['cart ingress: host: 1 8-8 denied>allowed']);
  world.repository.setNamedPorts(world.ids.cart, new Map([['http', { protocol: IP_PROTOCOL.TCP, port: 8080 }]]));
  assert.deepEqual(lines(world, importing(ruleFor('cart', { ingress: [{ toPorts: [tcp('http')] }] }))), [
    'cart ingress: others: 6 8080-8080 denied>allowed',
    'cart ingress: web: same',
  ]);
  const requiring = ruleFor('cart', { ingress: [{ fromRequires: [{ matchLabels: { env: 'prod' } }] }] });
  assert.deepEqual(lines(world, importing(requiring)), ['cart ingress: web: any 0-65535 allowed>denied']);
  world.repository.import(parse([ruleFor('cart', { ingress: [{ fromCIDRSet: [{ cidrGroupRef: 'vpn' }] }] })]));
  const groups = [['vpn', { labels: world.end('host').labels, prefixes: [Prefix.parse('192.0.2.0/24')] }]] as const;
  assert.deepEqual(lines(world, { add: [], groups }), ['cart ingress: new 192.0.2.0/24: any 0-65535 denied>allowed']);
});

test('allow-localhost holds as long as a rule speaks of the endpoint', () => {
  const world = new SmallWorld([], { allowLocalhost: 'always' });
  assert.deepEqual(lines(world, importing(ruleFor('cart', { ingress: [{}] }))), [
    'cart ingress: others: any 0-65535 allowed>denied',
    'cart ingress: host: same',
  ]);
});

test('modes: never and always change the settings only for whom rules count', () => {
  const close = importing(ruleFor('cart', { ingress: [{}] }));
  assert.deepEqual(lines(new SmallWorld([], { enforcement: 'never' }), close), []);
  assert.deepEqual(lines(new SmallWorld([], { enforcement: 'always' }), close), []);
  const init = { endpointSelector: { matchLabels: { 'reserved:init': '' } }, egress: [{ toEntities: ['host'] }] };
  assert.deepEqual(lines(new SmallWorld([]), importing(init)), ['init egress: host: any 0-65535 denied>allowed']);
});

test('flows: seen ones that would be judged differently, with all that the caller knows of them', () => {
  const world = new SmallWorld([]);
  const rule = ruleFor('web', { egress: [{ toEndpoints: [app('cart')] }, { toCIDR: ['10.0.0.0/8'] }] });
  const seen = [
    { ...flow(world, 'web', '10.1.1.1', 80), count: 3 },
    { ...flow(world, 'web', '8.8.8.8', 53), count: 5 },
    { ...flow(world, 'web', 'admin', 80), count: 7 },
    { ...flow(world, 'web', 'cart', 80), count: 9 },
  ];
  const { flows } = simulateImport(world.repository, importing(rule), { flows: seen });
  assert.deepEqual(
    flows.map(({ flow: { count }, before, after }) => [count, before, after]),
    [
      [5, 'allowed', 'denied'],
      [7, 'allowed', 'denied'],
    ],
  );
});

test('only the subjects asked for', () => {
  const world = new SmallWorld([]);
  const all = importing({ endpointSelector: {}, ingress: [{}] });
  const { differences } = simulateImport(world.repository, all, { subjects: [world.ids.web] });
  assert.deepEqual(
    differences.map(({ subjects }) => subjects),
    [[world.ids.web]],
  );
});

test('what the import would refuse is refused', () => {
  const world = new SmallWorld([ruleFor('cart', { ingress: [{ toPorts: [tcp(80, { rules: { http: [{}] } })] }] })]);
  const kafka = importing(ruleFor('cart', { ingress: [{ toPorts: [tcp(80, { rules: { kafka: [{}] } })] }] }));
  assert.throws(() => simulateImport(world.repository, kafka), {
    code: 'InvalidArgument',
    message: /conflicting L7 parsers/,
  });
  assert.throws(() => world.repository.import(kafka.add), {
    code: 'InvalidArgument',
    message: /conflicting L7 parsers/,
  });
  const { repository } = new SmallWorld([], { proxyPort: undefined as never });
  assert.throws(() => simulateImport(repository, kafka), { code: 'Unsupported', message: /needs a proxy/ });
});

function flow(world: SmallWorld, subject: EndpointName, peer: string, port: number): SimulatedFlow {
  const { identity } = world.end(peer);
  const outside = /^\d/.test(peer) ? { peerAddress: IpAddress.parse(peer) } : {};
  return {
    subject: world.ids[subject],
    direction: 'egress',
    peer: identity,
    ...outside,
    protocol: IP_PROTOCOL.TCP,
    port,
  };
}

function addresses({ flows }: Simulation<SimulatedFlow>): string[] {
  return flows.map(({ flow: { peerAddress }, before, after }) => `${peerAddress!.toString()} ${before}>${after}`);
}
