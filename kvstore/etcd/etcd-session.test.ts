// SPDX-License-Identifier: Apache-2.0

/** Sessions of many keys, of whom a part is lost, and clients that start before etcd does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { EtcdWorld } from '../../tests/support/etcd-world.ts';
import { EtcdKvstore } from './etcd-kvstore.ts';

const puts = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => ({ put: `k/${from + i}`, value: 'x', leased: true }));

test('keys hang on as many leases as it takes, and of one that ends only its own keys are lost', async () => {
  await using world = await EtcdWorld.open();
  const before = new Set(await world.server.leases());
  const client = await world.connect({}, {}, { keysPerLease: 100 });
  await Promise.all([0, 60, 120, 180].map((from) => client.transact({ then: puts(from, from + 60) })));
  const { entries } = await client.list('k/');
  const byLease = Map.groupBy(entries, ({ leaseId }) => leaseId);
  assert.deepEqual([...byLease.values()].map((own) => own.length).sort(), [100, 100, 40]);
  assert.match((await client.status()).message, /^etcd: 1\/1 connected, leases=3, lock leases=0, /);
  await client.transact({ then: puts(0, 100) });
  assert.equal(
    (await world.server.leases()).filter((id) => !before.has(id)).length,
    3,
    'written again where they were',
  );

  let lost = 0;
  client.onSessionLost(() => lost++);
  const [ended] = byLease.keys();
  await world.server.etcdctl('lease', 'revoke', ended!);
  await eventually('it is told', () => lost === 1);
  const left = (await client.list('k/')).entries;
  assert.equal(left.length, entries.length - byLease.get(ended)!.length);
  assert.ok(left.every((entry) => client.isOwn(entry)));
  await client.transact({ then: puts(0, 120) });
  await client.transact({ then: puts(120, 240) });
  assert.equal((await client.list('k/')).entries.filter((entry) => client.isOwn(entry)).length, 240);

  // Keys that are deleted, or were not put after all, leave room.
  await client.transact({ then: [{ deletePrefix: 'k/1' }] });
  await client.delete('k/0');
  await client.transact({ when: [{ key: 'absent', exists: true }], then: puts(1_000, 1_100) });
  await client.transact({ then: puts(2_000, 2_100) });
  assert.match((await client.status()).message, /leases=3,/);
});

test('a client that may start without etcd does, says so, and has a session when etcd comes', async () => {
  await using world = await EtcdWorld.open();
  await world.server.stop();
  const warnings: string[] = [];
  const log = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
  const client = await world.connect({}, { patienceMs: 50 }, { mayStartWithout: true, log });
  assert.equal(client.isConnected, false);
  assert.ok(warnings.some((text) => text.startsWith('etcd is away')));
  const unavailable = (error: unknown): boolean => isCiliumError(error, 'KvstoreUnavailable');
  for (const attempt of [() => client.get('a'), () => client.put('a', '1', { leased: true }), () => client.lock('l')]) {
    await assert.rejects(attempt(), unavailable);
  }
  assert.match(
    (await client.status()).message,
    /^etcd: 0\/1 connected, leases=0, lock leases=0, has-quorum=connect ECONN/,
  );
  let told = 0;
  client.onSessionLost(() => told++);
  await world.server.start();
  await eventually('it is told', () => told === 1);
  assert.equal(client.isConnected, true);
  await client.put('a', '1', { leased: true });
  assert.equal(client.isOwn((await client.get('a'))!), true);
});

test('one that may not says after its time what to look at, and can be stopped before that', async () => {
  await using world = await EtcdWorld.open();
  await world.server.stop();
  await assert.rejects(
    world.connect({}, { connectTimeoutMs: 300 }),
    /etcd was not to be had within 0\.3 s \(--kvstore-connectivity-timeout\): .*ECONNREFUSED/,
  );
  const stop = new AbortController();
  const client = new EtcdKvstore({ config: { endpoints: world.endpoints }, log: silentLogger });
  const started = client.start(stop.signal);
  stop.abort(new Error('enough'));
  await assert.rejects(started, /enough/);
});

test('a client whose etcd hangs starts and stops in its time, and what waits for an answer is told', async () => {
  await using world = await EtcdWorld.open({ size: 3 });
  const times = { requestTimeoutMs: 60_000, pingMs: 60_000, patienceMs: 100 };
  const client = await world.connect({}, times);
  await client.put('a', '1', { leased: true });
  await (await client.lock('l')).unlock();
  for (const server of world.servers) server.hang();
  const late = await world.connect({}, times, { mayStartWithout: true });
  assert.equal(late.isConnected, false);
  const waiting = [client.get('a'), client.lock('m'), late.put('b', '1')].map((work) =>
    work.then(
      () => 'done',
      (error: unknown) => (isCiliumError(error, 'KvstoreUnavailable') ? 'told' : String(error)),
    ),
  );
  client.leave();
  await Promise.all([client.stop(), late.stop()]);
  assert.deepEqual(await Promise.all(waiting), ['told', 'told', 'told']);
});
