// SPDX-License-Identifier: Apache-2.0

/** A node that etcd does not hear of for longer than its lease, with others at work meanwhile. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { EtcdWorld, SHORT_LEASES } from '../../tests/support/etcd-world.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import type { EtcdKvstore } from '../etcd/etcd-kvstore.ts';
import { IdentityAllocator } from './identity-allocator.ts';
import { IdentityCollector } from './identity-collector.ts';
import { masterKey, slaveKey } from './identity-keys.ts';
import { IdentityMemory } from './identity-memory.ts';

const RANGE = { min: 256, max: 65_535 };
const [APP1, APP2, APP3, APP4] = ['app1', 'app2', 'app3', 'app4'].map((name) => `container:id=${name};`) as [
  string,
  string,
  string,
  string,
];
const THIEF = 'container:id=thief;';
const NODE = '10.0.0.1';

async function startAllocator(store: EtcdKvstore, node: string, path?: string): Promise<IdentityAllocator> {
  const memory =
    path === undefined ? {} : { memory: new IdentityMemory({ path, log: silentLogger, clock: systemClock }) };
  const allocator = new IdentityAllocator({ store, node, range: RANGE, log: silentLogger, ...memory });
  await allocator.start(new AbortController().signal);
  return allocator;
}

/** While the first node is cut off: its lease ends, what only it used is collected, and others take what they find. */
async function othersGoOn(world: EtcdWorld, numbers: readonly number[]): Promise<number> {
  const { observer } = world;
  const two = await startAllocator(observer, '10.0.0.2');
  await two.allocate(APP3);
  await eventually('the slave keys go', async () => (await observer.get(slaveKey(APP1, NODE))) === undefined);
  const collector = new IdentityCollector({ store: observer, node: '10.0.0.2', range: RANGE, log: silentLogger });
  await collector.collect();
  assert.equal(await collector.collect(), 3);
  await observer.put(masterKey(numbers[0]!), THIEF);
  const taken = await two.allocate(APP2);
  await two.stop();
  return taken;
}

async function isPutRight(
  world: EtcdWorld,
  one: IdentityAllocator,
  numbers: readonly number[],
  theirs: number,
): Promise<void> {
  const [n1, n2, n3, n4] = numbers as [number, number, number, number];
  await eventually('all is put right', async () => {
    const keys = await world.server.dump();
    const number = (labels: string): number => Number(keys.get(slaveKey(labels, NODE)));
    const isAgreed = [APP1, APP2, APP3, APP4].every(
      (labels) => keys.get(masterKey(number(labels))) === labels && one.lookupLabels(labels) === number(labels),
    );
    return isAgreed && number(APP1) !== n1 && number(APP2) === theirs && number(APP3) === n3 && number(APP4) === n4;
  });
  assert.equal(one.lookup(n1), THIEF);
  if (theirs !== n2) assert.equal(one.lookup(n2), undefined);
}

test('a node that was cut off for longer than its lease has its numbers again, but for those that others have by now', async () => {
  await using world = await EtcdWorld.open();
  const wire = await world.wire();
  const store = await world.connect({ endpoints: [wire.url] }, {}, SHORT_LEASES);
  const one = await startAllocator(store, NODE);
  const numbers = await Promise.all([APP1, APP2, APP3, APP4].map((labels) => one.allocate(labels)));
  const moves = new Map<string, number>();
  one.onMove(({ labels, to }) => {
    moves.set(labels, to);
    return Promise.resolve();
  });
  await wire.cut();
  const theirs = await othersGoOn(world, numbers);
  assert.deepEqual([one.lookupLabels(APP1), one.lookupLabels(APP2)], numbers.slice(0, 2), 'nothing changes meanwhile');
  await wire.mend();
  await isPutRight(world, one, numbers, theirs);
  assert.deepEqual([...moves.keys()].sort(), [APP1, APP2]);
  assert.deepEqual(moves.get(APP1), await one.allocate(APP1));
  await one.stop();
});

test('so has one that was started again meanwhile, without etcd', async () => {
  await using world = await EtcdWorld.open();
  const folder = await temporaryFolder('known');
  const path = join(folder, 'known.json');
  const before = await startAllocator(await world.connect({}, {}, SHORT_LEASES), NODE, path);
  const numbers = await Promise.all([APP1, APP2, APP3, APP4].map((labels) => before.allocate(labels)));
  await before.stop();
  const wire = await world.wire();
  await wire.cut();
  const options = { ...SHORT_LEASES, mayStartWithout: true };
  const store = await world.connect({ endpoints: [wire.url] }, { patienceMs: 10 }, options);
  const one = await startAllocator(store, NODE, path);
  const restored = [APP1, APP2, APP3, APP4].map((labels, i) => one.restore(labels, numbers[i]!));
  assert.deepEqual(await Promise.all(restored), numbers);
  // The process of before is gone, and its session with it.
  await eventually('its leases end', async () => {
    const keys = await world.observer.list('cilium/state/identities/v1/value/');
    for (const { leaseId } of keys.entries) await world.server.etcdctl('lease', 'revoke', leaseId!);
    return keys.entries.length === 0;
  });
  const theirs = await othersGoOn(world, numbers);
  await wire.mend();
  await isPutRight(world, one, numbers, theirs);
  await one.stop();
  await rm(folder, { recursive: true });
});
