// SPDX-License-Identifier: Apache-2.0

/** Keys that are lost, taken by others, spoilt or nonsense, and what they cost. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { EmbeddedKvstore } from '../embedded/embedded-kvstore.ts';
import {
  APP1,
  checkCluster as check,
  type Cluster,
  RANGE,
  WatchedStore,
} from '../../tests/support/allocator-cluster.ts';
import { COLLECTION_INTERVAL_MS } from './identity-collector.ts';
import { COLLECTOR_KEY, IDENTITIES_PATH, lockPath, masterKey, slaveKey } from './identity-keys.ts';

check(
  'a number that stands for other labels now is given up for another, which is told in between',
  async (cluster) => {
    const { allocator, store, events } = await cluster.agent('10.0.0.1');
    const id = await allocator.allocate(APP1);
    await allocator.allocate(APP1);
    allocator.onMove(async ({ labels, from, to }) => {
      await cluster.engine.read(() => undefined);
      events.push(`move ${labels} ${from} ${to}`);
    });
    await store.put(masterKey(id), 'container:id=thief;');
    await cluster.quiet();
    const other = await allocator.allocate(APP1);
    assert.notEqual(other, id);
    assert.deepEqual(events.slice(1), [
      `upsert ${other} ${APP1}`,
      `move ${APP1} ${id} ${other}`,
      `delete ${id} ${APP1}`,
      `upsert ${id} container:id=thief;`,
    ]);
    assert.deepEqual(
      [...allocator.list()],
      [
        { id: other, labels: APP1, users: 3 },
        { id, labels: 'container:id=thief;', users: 0 },
      ],
    );
  },
);

check('labels that got another number while a node was away are given that one there, too', async (cluster) => {
  const one = await cluster.agent('10.0.0.1');
  const id = await one.allocator.allocate(APP1);
  // Its lease ends, the number is collected, and others make a new one, all unseen.
  one.store.failures = Infinity;
  const others = new EmbeddedKvstore(cluster.engine);
  await others.delete(masterKey(id));
  await others.delete(slaveKey(APP1, '10.0.0.1'));
  const two = await cluster.agent('10.0.0.2');
  const theirs = await two.allocator.allocate(APP1);
  assert.notEqual(theirs, id);
  one.store.failures = 0;
  await cluster.clock.advance(60_000);
  await cluster.quiet();
  assert.equal(await one.allocator.allocate(APP1), theirs);
  assert.equal(one.allocator.lookup(id), undefined);
  assert.equal((await cluster.keys()).length, 3);
});

for (const [what, key, value] of [
  ['no number', 'id/zero', APP1],
  ['a reserved number', 'id/2', APP1],
  ['a number of another cluster', 'id/65537', APP1],
  ['labels that are none', 'id/300', 'bad'],
  ['labels that hold slashes and no number', `value/${APP1}/x/y/z`, '300'],
  ['a slave key of a reserved number', `value/${APP1}/10.9.9.9`, '1'],
  ['a lock that nobody holds', `locks/${APP1}/1f`, ''],
  ['a slave key without a number', `value/${APP1}/10.9.9.9`, 'x'],
  ['a slave key of a number that nobody has made', `value/${APP1}/10.9.9.9/`, ''],
] as const) {
  check(`garbage is left out, before the start and after it: ${what}`, async (cluster) => {
    const path = `${IDENTITIES_PATH}${key}`;
    const garbage = new EmbeddedKvstore(cluster.engine);
    await garbage.put(path, value);
    const one = await cluster.agent('10.0.0.1');
    await garbage.put(path, value);
    assert.deepEqual(one.events, []);
    const id = await one.allocator.allocate(APP1);
    assert.ok(id >= RANGE.min && id <= RANGE.max);
    assert.equal(await (await cluster.agent('10.0.0.2')).allocator.allocate(APP1), id);
    await garbage.delete(path);
    await cluster.quiet();
    assert.deepEqual(one.events, [`upsert ${id} ${APP1}`]);
  });
}

check('a used number whose labels are spoilt has them again', async (cluster) => {
  const { allocator, store, events } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  await store.put(masterKey(id), 'bad');
  await cluster.quiet();
  assert.equal((await store.get(masterKey(id)))?.value, APP1);
  assert.equal(events.length, 1);
});

check('who makes a number under a lock, as Cilium does, is waited for', async (cluster) => {
  const { allocator, store } = await cluster.agent('10.0.0.1');
  await store.put(`${lockPath(APP1)}/1f`, '', { leased: true });
  const got: number[] = [];
  void allocator.allocate(APP1).then((id) => got.push(id));
  await cluster.clock.advance(20);
  await cluster.quiet();
  assert.deepEqual(got, []);
  await store.transact({
    then: [
      { put: masterKey(777), value: APP1 },
      { put: slaveKey(APP1, '10.0.0.9'), value: '777' },
      { delete: `${lockPath(APP1)}/1f` },
    ],
  });
  while (got.length === 0) {
    await cluster.clock.advance(50);
    await cluster.quiet();
  }
  assert.deepEqual(got, [777]);
});

check('a number costs one request, whether others have it or nobody', async (cluster) => {
  const [one, two] = [await cluster.agent('10.0.0.1'), await cluster.agent('10.0.0.2')];
  await one.allocator.allocate(APP1);
  await cluster.quiet();
  await two.allocator.allocate(APP1);
  assert.deepEqual([one.store.requests, two.store.requests], [1, 1]);
});

check('what is given back while the store is away can be had again, and is kept then', async (cluster) => {
  const { allocator, store } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  store.failures = Infinity;
  allocator.release(APP1);
  await cluster.quiet();
  assert.equal(await allocator.allocate(APP1), id);
  allocator.release(APP1);
  store.failures = 0;
  // This time the deletion is on its way when the labels are wanted again.
  const gate = Promise.withResolvers<undefined>();
  store.beforeTransact = async () => {
    store.beforeTransact = undefined;
    await gate.promise;
  };
  await cluster.clock.advance(60_000);
  assert.equal(await allocator.allocate(APP1), id);
  gate.resolve(undefined);
  await cluster.clock.advance(60_000);
  await cluster.quiet();
  assert.deepEqual([...allocator.list()], [{ id, labels: APP1, users: 1 }]);
  assert.equal((await cluster.keys()).length, 2);
});

check('what comes when the caller has given up is given back', async (cluster) => {
  const { allocator, store } = await cluster.agent('10.0.0.1');
  const gate = Promise.withResolvers<undefined>();
  store.beforeTransact = () => gate.promise;
  const stop = new AbortController();
  const waiting = allocator.allocate(APP1, stop.signal);
  await cluster.quiet();
  stop.abort();
  await assert.rejects(waiting, (error) => isCiliumError(error, 'KvstoreUnavailable'));
  gate.resolve(undefined);
  store.beforeTransact = undefined;
  await cluster.quiet();
  await cluster.quiet();
  assert.deepEqual(
    [...allocator.list()].map(({ users }) => users),
    [0],
  );
  assert.equal((await cluster.keys()).length, 1);
});

check('a node that starts while the store is away has what it knew, and is put right later', async (cluster) => {
  const remembered = join(cluster.folder, 'known.json');
  const one = await cluster.agent('10.0.0.1', remembered);
  const two = await cluster.agent('10.0.0.2');
  const id = await one.allocator.allocate(APP1);
  const gone = await two.allocator.allocate('container:id=gone;');
  const moved = await one.allocator.allocate('container:id=moved;');
  await cluster.quiet();
  await one.allocator.stop();
  await one.store.stop();
  two.allocator.release('container:id=gone;');
  const others = new EmbeddedKvstore(cluster.engine);
  await others.delete(masterKey(gone));
  await others.put(masterKey(moved), 'container:id=thief;');

  const again = await cluster.agent('10.0.0.1', remembered, { isAway: true });
  assert.deepEqual(again.allocator.lookup(gone), 'container:id=gone;');
  assert.equal(await again.allocator.restore(APP1, id), id);
  assert.equal(await again.allocator.restore('container:id=moved;', moved), moved);
  assert.equal(again.allocator.lookup(moved), 'container:id=moved;');
  const moves: string[] = [];
  again.allocator.onMove(({ labels, from }) => {
    moves.push(`${labels} ${from}`);
    return Promise.resolve();
  });
  again.store.isAway = false;
  for (let i = 0; i < 10; i++) {
    await cluster.clock.advance(6_000);
    await cluster.quiet();
  }
  assert.deepEqual(moves, [`container:id=moved; ${moved}`]);
  assert.equal(again.allocator.lookup(moved), 'container:id=thief;');
  assert.equal(again.allocator.lookup(gone), undefined);
  assert.equal(await again.allocator.allocate(APP1), id);
  const fresh = await again.allocator.allocate('container:id=moved;');
  assert.equal((await others.get(masterKey(fresh)))?.value, 'container:id=moved;');
});

check('one node collects for all; when it has gone, another does', async (cluster) => {
  const nodes = ['10.0.0.1', '10.0.0.2'];
  const stores = nodes.map(() => new WatchedStore(cluster.engine));
  const collectors = await Promise.all(
    stores.map(async (store, i) => {
      await store.start();
      return cluster.collector(store, nodes[i]);
    }),
  );
  const { allocator } = await cluster.agent('10.0.0.3');
  const passRounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      await cluster.quiet();
      await cluster.clock.advance(COLLECTION_INTERVAL_MS);
      await cluster.quiet();
    }
  };
  const remove = async (): Promise<void> => {
    await allocator.allocate(APP1);
    allocator.release(APP1);
    await cluster.quiet();
  };
  for (const collector of collectors) await collector.start();
  await remove();
  await passRounds(1);
  assert.equal(allocator.lookupLabels(APP1) === undefined, false, 'not at first sight');
  await passRounds(1);
  assert.equal(allocator.lookupLabels(APP1), undefined);
  assert.equal(stores[1]!.lists, 0, 'only one looks');

  await collectors[0]!.stop();
  await stores[0]!.stop();
  await remove();
  await passRounds(4);
  assert.equal(allocator.lookupLabels(APP1), undefined);
  await collectors[1]!.stop();
});

for (const [who, value, leased] of [
  ['a node that collected before its restart', '10.0.0.1', true],
  ['a node that finds a key that is nobody’s', 'garbage', false],
] as const) {
  check(`${who} goes on collecting`, (cluster) => goesOn(cluster, value, leased));
}

async function goesOn(cluster: Cluster, value: string, leased: boolean): Promise<void> {
  const before = new EmbeddedKvstore(cluster.engine);
  await before.start();
  await before.put(COLLECTOR_KEY, value, { leased });
  const [own, other] = [new WatchedStore(cluster.engine), new WatchedStore(cluster.engine)];
  await own.start();
  await other.start();
  const collectors = [cluster.collector(own, '10.0.0.1'), cluster.collector(other, '10.0.0.2')];
  for (const collector of collectors) await collector.start();
  await cluster.quiet();
  await cluster.clock.advance(COLLECTION_INTERVAL_MS);
  await cluster.quiet();
  assert.deepEqual([own.lists, other.lists], [1, 0]);
  assert.equal(own.isOwn((await own.get(COLLECTOR_KEY))!), true);
  for (const collector of collectors) await collector.stop();
}

for (const [what, text, known] of [
  ['no JSON', '{', []],
  ['something else', '{"300":"container:id=app1;"}', []],
  ['what is no identity', `[[2, ${JSON.stringify(APP1)}], [300, "bad"], [301, ${JSON.stringify(APP1)}]]`, [301]],
] as const) {
  check(`a memory that holds ${what} keeps no node from starting without the store`, async (cluster) => {
    const path = join(cluster.folder, 'known.json');
    await writeFile(path, text);
    const { allocator, store } = await cluster.agent('10.0.0.1', path, { isAway: true });
    assert.deepEqual(
      [...allocator.list()].map(({ id }) => id),
      known,
    );
    assert.equal(await allocator.restore(APP1, 301), 301);
    store.isAway = false;
    await cluster.clock.advance(60_000);
    await cluster.quiet();
    assert.equal((await cluster.keys()).length, 2);
    await allocator.stop();
  });
}
