// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isCiliumError, type ErrorCode } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { fixed, NodeWorld, pooled, rangesOf, type TestNode } from './fake/node-world.ts';
import { NodeClaims } from './node-claims.ts';
import { DELETION_GRACE_MS } from './node-registry.ts';
import { encodeNode } from './node.ts';

const A = fixed('10.1.0.0/16', 'fd01::/64');
const B = fixed('10.2.0.0/16', 'fd02::/64');
const POOL = pooled('10.0.0.0/8', 24, 'fd00::/48', 112);
/** Of which there are two. */
const SMALL_POOL = pooled('10.0.0.0/23', 24, 'fd00::/111', 112);

const failsWith = (code: ErrorCode, text: string) => (error: unknown) =>
  isCiliumError(error, code) && error.message.includes(text);
const names = ({ nodes }: TestNode): string =>
  nodes
    .list()
    .map(({ name }) => name)
    .join(' ');

test('nodes find each other, and each lists itself first', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  await b.start();
  await a.start();
  assert.equal(names(a), 'a b');
  assert.equal(names(b), 'b a');
  assert.equal(rangesOf(a.nodes.get('b')!), '10.2.0.0/16 fd02::/64');
  assert.equal(
    a.nodes
      .get('a')
      ?.addresses.map(({ type, ip }) => `${type} ${ip.toString()}`)
      .join(),
    ['InternalIP 192.0.2.97,CiliumInternalIP 10.1.255.254,CiliumInternalIP fd01::ffff:ffff:ffff:ffff'].join(),
  );
  assert.deepEqual(b.events, ['upsert b 10.2.0.0/16 fd02::/64', 'upsert a 10.1.0.0/16 fd01::/64']);
});

test('clusters do not see each other, whatever their ranges', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', A, { cluster: 'other' });
  await a.start();
  await b.start();
  assert.equal(names(a), 'a');
  assert.equal(names(b), 'b');
});

test('20 nodes that start at once take 20 ranges, each keeps its own over restarts', async (t) => {
  const world = await NodeWorld.create(t);
  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => world.node(`n${i}`, POOL)));
  await Promise.all(all.map((node) => node.start()));
  const ranges = all.map(({ local }) => rangesOf(local.node));
  assert.equal(new Set(ranges).size, 20);
  await all[7]!.nodes.stop();
  const again = await world.node('n7', POOL);
  await again.start();
  assert.equal(rangesOf(again.local.node), ranges[7]);
});

test('a configured range that another node has ends the start, and is not written', async (t) => {
  const world = await NodeWorld.create(t);
  await (await world.node('a', A)).start();
  const b = await world.node('b', fixed('10.1.128.0/17', 'fd02::/64'));
  await assert.rejects(b.start(), failsWith('InUse', 'overlaps 10.1.0.0/16 of node a (192.0.2.97)'));
  assert.equal(await world.key('b'), undefined);
});

test('a name that another node has ends the start; the same address is the same node', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  await a.start();
  const twin = await world.node('a', B, { addresses: ['192.0.2.200'], stateDir: join(world.folder, 'twin') });
  await assert.rejects(twin.start(), failsWith('InUse', 'the node name a is in use by 192.0.2.97'));
  await a.nodes.stop();
  const reborn = await world.node('a', B, { stateDir: join(world.folder, 'reborn') });
  await reborn.start();
  assert.match((await world.key('a'))!, /10\.2\.0\.0/);
});

test('a node whose key vanishes is there for 30 s; then its range can be had', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', SMALL_POOL);
  const b = await world.node('b', SMALL_POOL);
  await a.start();
  await b.start();
  await b.nodes.stop();
  await world.vanish(b);
  await world.clock.advance(DELETION_GRACE_MS - 1);
  assert.equal(names(a), 'a b');
  await world.clock.advance(1);
  assert.equal(names(a), 'a');
  assert.equal(a.events.at(-1), `delete b ${rangesOf(b.local.node)}`);
  const c = await world.node('c', SMALL_POOL);
  await c.start();
  assert.equal(rangesOf(c.local.node), rangesOf(b.local.node));
});

test('a key that comes back in time costs nothing', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  await a.start();
  await b.start();
  const before = a.events.length;
  await world.vanish(b); // b sees it, too, and writes it again
  await world.until(async () => (await world.key('b')) !== undefined);
  await world.clock.advance(2 * DELETION_GRACE_MS);
  assert.match((await world.key('b'))!, /10\.2\.0\.0/);
  assert.equal(a.events.length, before);
});

test('whoever claims the range of a node that is leaving has it at once', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', SMALL_POOL);
  const b = await world.node('b', SMALL_POOL);
  await a.start();
  await b.start();
  const range = rangesOf(b.local.node);
  await b.nodes.stop();
  await world.vanish(b);
  const c = await world.node('c', SMALL_POOL);
  await c.start();
  assert.deepEqual(a.events.slice(-2), [`delete b ${range}`, `upsert c ${range}`]);
  assert.equal(names(a), 'a c');
});

test('a node that comes back after its range was given away keeps apart while it has networks, then gets another', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', SMALL_POOL);
  await a.start();
  const range = a.local.range(4);
  await a.nodes.claimNetwork('net', [range]);
  await a.nodes.stop();
  await world.vanish(a);
  const b = await world.node('b', fixed(range.toString(), 'fd0b::/64'));
  await b.start();
  const again = await world.node('a', SMALL_POOL);
  await again.start();
  assert.equal(again.nodes.claimState, 'lost');
  assert.match(again.nodes.problem?.message ?? '', /overlaps .* of node b .*longer than its lease/);
  assert.equal(await world.key('a'), undefined);
  await again.nodes.releaseNetwork('net');
  await again.nodes.stop();
  const third = await world.node('a', SMALL_POOL);
  await third.start();
  assert.equal(third.nodes.claimState, 'held');
  assert.notEqual(third.local.range(4).toString(), range.toString());
});

test('a node that runs on without its key, whose range is given away, is apart until it can be had again', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', SMALL_POOL);
  await a.start();
  a.local.settle();
  const claims = new NodeClaims(a.nodes);
  const states: string[] = [];
  a.nodes.onClaim((state) => states.push(state));
  a.store.isAway = true;
  await world.vanish(a);
  const b = await world.node('b', fixed(a.local.range(4).toString(), 'fd0b::/64'));
  await b.start();
  a.store.isAway = false;
  await world.until(() => a.nodes.problem !== undefined);
  assert.match(a.nodes.problem?.message ?? '', /overlaps .* of node b/);
  assert.ok(!claims.holds(IpAddress.parse('192.0.2.98'), IpAddress.parse('fd0b::1')));
  await b.nodes.stop();
  await world.vanish(b);
  await world.until(() => a.nodes.problem === undefined);
  assert.deepEqual(states, ['lost', 'held']);
  assert.match((await world.key('a'))!, /"Name":"a"/);
});

test('without the store a node starts with what it remembers, and claims later', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', POOL);
  const b = await world.node('b', POOL);
  const gone = await world.node('gone', POOL);
  for (const node of [a, b, gone]) await node.start();
  const range = rangesOf(a.local.node);
  await world.clock.advance(1_000);
  for (const node of [a, gone]) await node.nodes.stop();
  const again = await world.node('a', POOL);
  again.store.isAway = true;
  await again.start();
  assert.equal(rangesOf(again.local.node), range);
  assert.equal(names(again), 'a b gone');
  await world.vanish(a);
  await world.vanish(gone);
  again.store.isAway = false;
  await world.until(async () => (await world.key('a')) !== undefined);
  assert.match((await world.key('a'))!, /"Name":"a"/);
  assert.equal(names(again), 'a b gone');
  await world.until(() => names(again) === 'a b');
});

test('a lock that an agent left behind holds up no start of a node that was there', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  await a.start();
  await a.nodes.stop();
  const again = await world.node('a', A);
  again.store.isLocked = true;
  await again.start();
  assert.equal(again.nodes.claimState, 'unknown');
  assert.equal(names(again), 'a');
});

test('a node that was never there does not start without the store', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  a.store.isAway = true;
  await assert.rejects(a.start(), failsWith('KvstoreUnavailable', 'away'));
});

test('another address is told to all', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  await a.start();
  await b.start();
  a.addresses = ['192.0.2.50'];
  a.nodes.refreshAddresses();
  await world.until(() => b.nodes.get('a')?.addresses[0]?.ip.toString() === '192.0.2.50');
  const again = await world.node('a', A, { addresses: ['192.0.2.51'] });
  await a.nodes.stop();
  await again.start();
  assert.equal(b.nodes.get('a')?.addresses[0]?.ip.toString(), '192.0.2.51');
});

test('ranges of networks are claimed, kept over restarts, and given back', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  await a.start();
  await b.start();
  const [inside, outside] = [Prefix.parse('10.1.3.0/24'), Prefix.parse('10.50.1.0/24')];
  await a.nodes.claimNetwork('net', [inside, outside]);
  await world.quiet();
  assert.equal(rangesOf(b.nodes.get('a')!), '10.1.0.0/16 fd01::/64 10.50.1.0/24');
  await assert.rejects(b.nodes.claimNetwork('net', [Prefix.parse('10.50.0.0/16')]), failsWith('InUse', 'of node a'));
  assert.equal(rangesOf(b.local.node), '10.2.0.0/16 fd02::/64');
  assert.equal(b.nodes.problem, undefined);
  await a.nodes.stop();
  const again = await world.node('a', A);
  await again.start();
  assert.equal(rangesOf(b.nodes.get('a')!), '10.1.0.0/16 fd01::/64 10.50.1.0/24');
  await again.nodes.retainNetworks([]);
  await world.until(() => rangesOf(b.nodes.get('a')!) === '10.1.0.0/16 fd01::/64');
  await b.nodes.claimNetwork('net', [Prefix.parse('10.50.0.0/16')]);
});

test('while the store is away only networks inside the node range are made', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  await a.start();
  a.store.isAway = true;
  await a.nodes.claimNetwork('inside', [Prefix.parse('10.1.3.0/24')]);
  await assert.rejects(
    a.nodes.claimNetwork('outside', [Prefix.parse('10.50.1.0/24')]),
    failsWith('KvstoreUnavailable', 'without --subnet'),
  );
  assert.equal(rangesOf(a.local.node), '10.1.0.0/16 fd01::/64');
});

test('a key that is no node harms nobody', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  await a.store.put('cilium/state/nodes/v1/default/b', '{"Name":');
  await a.start();
  await a.store.put('cilium/state/nodes/v1/default/a', 'mine now');
  await world.until(async () => /10\.1\.0\.0/.test((await world.key('a'))!));
  assert.equal(names(a), 'a');
});

test('a key that claims what another node has is left out while that is so', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  await a.start();
  await b.start();
  const evil = (range: string, network?: string): string =>
    encodeNode({
      ...b.local.node,
      name: 'evil',
      ipv4AllocCidr: Prefix.parse(range),
      ipv6AllocCidr: undefined,
      ipv4SecondaryAllocCidrs: network === undefined ? [] : [Prefix.parse(network)],
    });
  const key = 'cilium/state/nodes/v1/default/evil';
  for (const range of ['10.2.5.0/24', '10.0.0.0/8']) {
    await a.store.put(key, evil(range));
    await world.quiet();
    assert.equal(names(a), 'a b', range);
  }
  await a.store.put(key, evil('10.9.0.0/16'));
  await world.until(() => names(a) === 'a b evil');
  await a.store.put(key, evil('10.9.0.0/16', '10.1.7.0/24'));
  await world.until(() => names(a) === 'a b');
  await a.store.put(key, evil('10.2.5.0/24'));
  await b.nodes.stop();
  await world.vanish(b);
  await world.clock.advance(DELETION_GRACE_MS);
  assert.equal(names(a), 'a evil');
});

test('what is remembered is readable', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  await a.start();
  const file = JSON.parse(readFileSync(join(world.folder, 'a/node.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual(file, {
    name: 'a',
    cluster: 'default',
    ipv4Range: '10.1.0.0/16',
    ipv6Range: 'fd01::/64',
    networks: [],
  });
});

test('a node speaks for its own addresses and ranges only', async (t) => {
  const world = await NodeWorld.create(t);
  const a = await world.node('a', A);
  const b = await world.node('b', B);
  const claims = new NodeClaims(a.nodes);
  const told: string[] = [];
  claims.onChange((host) => told.push(host.toString()));
  const holds = (host: string, address: string): boolean =>
    claims.holds(IpAddress.parse(host), IpAddress.parse(address));
  await a.start();
  await b.start();
  assert.deepEqual([...new Set(told)], ['192.0.2.97', '192.0.2.98']);
  assert.ok(holds('192.0.2.98', '10.2.3.4'));
  assert.ok(holds('192.0.2.98', 'fd02::1'));
  assert.ok(holds('192.0.2.98', '192.0.2.98'));
  assert.ok(!holds('192.0.2.98', '10.1.3.4'));
  assert.ok(!holds('192.0.2.99', '10.2.3.4'));
  b.addresses = ['192.0.2.99'];
  b.nodes.refreshAddresses();
  await world.until(() => holds('192.0.2.99', '10.2.3.4'));
  assert.ok(!holds('192.0.2.98', '10.2.3.4'));
  assert.ok(holds('192.0.2.99', '10.2.3.4'));
  assert.equal(claims.tunnelEndpoint(IpAddress.parse('192.0.2.99'), 4)?.toString(), '192.0.2.99');
  await b.nodes.stop();
  await world.vanish(b);
  await world.clock.advance(DELETION_GRACE_MS);
  assert.ok(!holds('192.0.2.99', '10.2.3.4'));
});
