// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { APP1, checkCluster as check, Cluster, RANGE, WatchedStore } from '../../tests/support/allocator-cluster.ts';
import { SESSION_TTL_MS } from '../kvstore.ts';

check('a number has a master key and a slave key of its node, as Cilium lays them out', async (cluster) => {
  const { allocator, events } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  assert.ok(id >= RANGE.min && id <= RANGE.max);
  assert.deepEqual(await cluster.keys(), [
    [`cilium/state/identities/v1/id/${id}`, APP1],
    [`cilium/state/identities/v1/value/${APP1}/10.0.0.1`, String(id)],
  ]);
  assert.deepEqual(events, [`upsert ${id} ${APP1}`]);
  assert.equal(allocator.lookup(id), APP1);
  assert.equal(allocator.lookupLabels(APP1), id);
  assert.deepEqual([...allocator.list()], [{ id, labels: APP1, users: 1 }]);
});

check('labels in use cost no request; the number is given back with its last user', async (cluster) => {
  const { allocator, store } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  store.requests = 0;
  assert.equal(await allocator.allocate(APP1), id);
  allocator.release(APP1);
  await cluster.quiet();
  assert.equal(store.requests, 0);
  assert.equal((await cluster.keys()).length, 2);
  allocator.release(APP1);
  await cluster.quiet();
  assert.deepEqual(await cluster.keys(), [[`cilium/state/identities/v1/id/${id}`, APP1]]);
  allocator.release(APP1);
  await cluster.quiet();
  allocator.release('never:seen=;');
  await cluster.quiet();
  assert.equal(await allocator.allocate(APP1), id, 'a number that was not collected is taken again');
});

check('1,000 racing allocations of 100 label sets by 5 agents give 100 numbers, agreed by all', async (cluster) => {
  const agents = await Promise.all([1, 2, 3, 4, 5].map((n) => cluster.agent(`10.0.0.${n}`)));
  const allocations = Array.from({ length: 1000 }, async (_, i) => {
    const labels = `container:id=app${(i * 7) % 100};`;
    return [labels, await agents[i % 5]!.allocator.allocate(labels)] as const;
  });
  const numbers = new Map<string, Set<number>>();
  let done = false;
  const all = Promise.all(allocations).finally(() => {
    done = true;
  });
  while (!done) await cluster.clock.advance(20); // back-off of those who lost a race
  for (const [labels, id] of await all) numbers.set(labels, (numbers.get(labels) ?? new Set()).add(id));
  assert.equal(numbers.size, 100);
  assert.ok([...numbers.values()].every((ids) => ids.size === 1));
  assert.equal(new Set([...numbers.values()].flatMap((ids) => [...ids])).size, 100);
  for (const { allocator, events } of agents) {
    assert.equal([...allocator.list()].length, 100);
    assert.equal(events.length, 100);
  }
});

check('label sets that begin alike, or hold slashes, do not get each other in the way', async (cluster) => {
  const { allocator } = await cluster.agent('10.0.0.1');
  const other = await cluster.agent('10.0.0.2');
  const sets = ['a:b=c;', 'a:b=c;d:e=f;', 'a:b=c;/x', 'a:b=c/d/e;', 'a:b=c/d;', 'a:b='];
  const ids = await Promise.all(sets.map((labels) => allocator.allocate(labels)));
  assert.equal(new Set(ids).size, sets.length);
  assert.deepEqual(await Promise.all(sets.map((labels) => other.allocator.allocate(labels))), ids);
});

check(
  'a small range is used up to the last number, then the error says what to do',
  async (cluster) => {
    const agents = [await cluster.agent('10.0.0.1'), await cluster.agent('10.0.0.2')];
    const waiting = Promise.all(
      Array.from({ length: 8 }, (_, i) => agents[i % 2]!.allocator.allocate(`container:id=${i};`)),
    );
    let ids: number[] | undefined;
    void waiting.then((all) => (ids = all));
    while (ids === undefined) await cluster.clock.advance(50);
    assert.deepEqual(ids.sort(), [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007]);
    await assert.rejects(
      agents[0]!.allocator.allocate('one:more=;'),
      (error) => isCiliumError(error, 'PoolExhausted') && error.message.includes('all 8 identities'),
    );
  },
  { min: 1000, max: 1007 },
);

check('numbers are the same after a crash, even when the leases have run out', async (cluster) => {
  const { allocator } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  await cluster.crash();
  const second = await cluster.agent('10.0.0.1');
  assert.deepEqual(second.events, [`upsert ${id} ${APP1}`], 'who listens from before the start is told all');
  assert.deepEqual([...second.allocator.list()], [{ id, labels: APP1, users: 0 }]);
  assert.equal(await second.allocator.allocate(APP1), id);
  await cluster.crash();
  await cluster.clock.advance(SESSION_TTL_MS + 1);
  await cluster.quiet();
  assert.equal((await cluster.keys()).length, 1);
  const third = await cluster.agent('10.0.0.1');
  assert.equal(await third.allocator.allocate(APP1), id);
});

check('an unused number goes after two rounds, one that is used anywhere stays', async (cluster) => {
  const [one, two] = [await cluster.agent('10.0.0.1'), await cluster.agent('10.0.0.2')];
  const collector = cluster.collector();
  const id = await one.allocator.allocate(APP1);
  await two.allocator.allocate(APP1);
  one.allocator.release(APP1);
  await cluster.quiet();
  assert.deepEqual([await collector.collect(), await collector.collect()], [0, 0]);
  two.allocator.release(APP1);
  await cluster.quiet();
  assert.equal(await collector.collect(), 0);
  // Used for a moment between the rounds: the count begins anew.
  assert.equal(await two.allocator.allocate(APP1), id);
  two.allocator.release(APP1);
  await cluster.quiet();
  assert.equal(await collector.collect(), 0);
  assert.equal(await collector.collect(), 1);
  await cluster.quiet();
  assert.deepEqual(await cluster.keys(), []);
  assert.equal(one.allocator.lookup(id), undefined);
  assert.equal(one.events.at(-1), `delete ${id} ${APP1}`);
});

check('a node that joins the users of a number while the last one leaves is not left without it', async (cluster) => {
  const [one, two] = [await cluster.agent('10.0.0.1'), await cluster.agent('10.0.0.2')];
  const collecting = new WatchedStore(cluster.engine);
  const collector = cluster.collector(collecting);
  const id = await one.allocator.allocate(APP1);
  let deletion: Promise<number> | undefined;
  // The second node has seen the first one use the number. Before it writes, that one leaves, the collector sees the
  // number unused for the second time, and before the collector deletes it the second node is done.
  two.store.beforeTransact = async () => {
    two.store.beforeTransact = undefined;
    one.allocator.release(APP1);
    await cluster.quiet();
    await collector.collect();
    const looked = Promise.withResolvers<undefined>();
    collecting.beforeTransact = async () => {
      looked.resolve(undefined);
      await joined;
    };
    deletion = collector.collect();
    await looked.promise;
  };
  const joined = two.allocator.allocate(APP1);
  const joining = { done: false };
  void joined.then(() => (joining.done = true));
  while (!joining.done) {
    await cluster.quiet();
    await cluster.clock.advance(20);
  }
  assert.equal(await deletion, 0);
  assert.equal(await joined, id);
  assert.deepEqual(await cluster.keys(), [
    [`cilium/state/identities/v1/id/${id}`, APP1],
    [`cilium/state/identities/v1/value/${APP1}/10.0.0.2`, String(id)],
  ]);
});

check('a master key that is deleted while its number is used is written again at once', async (cluster) => {
  const { allocator, store, events } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  await store.delete(`cilium/state/identities/v1/id/${id}`);
  await cluster.quiet();
  assert.equal((await cluster.keys()).length, 2);
  assert.deepEqual(events, [`upsert ${id} ${APP1}`], 'nobody was told that it had gone');
});

check('keys that were lost with the session are written again', async (cluster) => {
  const { allocator } = await cluster.agent('10.0.0.1');
  const id = await allocator.allocate(APP1);
  await cluster.engine.revoke(await cluster.engine.read((state) => [...state.leases.keys()]));
  await cluster.quiet();
  assert.deepEqual((await cluster.keys())[1], [`cilium/state/identities/v1/value/${APP1}/10.0.0.1`, String(id)]);
});

check('a store that is away for a while delays an allocation, and a release is made up for', async (cluster) => {
  const { allocator, store } = await cluster.agent('10.0.0.1');
  store.failures = 3;
  let id: number | undefined;
  void allocator.allocate(APP1).then((got) => (id = got));
  while (id === undefined) {
    await cluster.quiet();
    await cluster.clock.advance(20);
  }
  assert.equal(store.requests, 4);
  store.failures = 1;
  allocator.release(APP1);
  await cluster.quiet();
  await cluster.quiet();
  await cluster.clock.advance(2_000);
  await cluster.quiet();
  assert.equal((await cluster.keys()).length, 1);
});

check(
  'a store that stays away fails the allocation, sooner if the caller gives up or all is stopped',
  async (cluster) => {
    const { allocator, store } = await cluster.agent('10.0.0.1');
    store.failures = Infinity;
    const [patient, hasty, stopped] = [
      allocator.allocate('a:a=;'),
      allocator.allocate('b:a=1%3B%2525;b:b=;', AbortSignal.abort(new Error('no time'))),
      allocator.allocate('c:c=;'),
    ].map((promise) => promise.catch((error: unknown) => error as Error)) as [
      Promise<Error>,
      Promise<Error>,
      Promise<Error>,
    ];
    assert.ok(isCiliumError(await hasty, 'KvstoreUnavailable'));
    assert.match((await hasty).message, /gave no identity for b:a=1;%25, b:b in time/);
    let failure: Error | undefined;
    void patient.then((error) => (failure = error));
    for (let i = 0; i < 20; i++) {
      await cluster.quiet();
      await cluster.clock.advance(10_000);
    }
    assert.ok(isCiliumError(failure, 'KvstoreUnavailable') && failure.message.includes('for a:a in time'));
    await stopped;
    const late = allocator.allocate('d:d=;').catch((error: unknown) => error as Error);
    await cluster.quiet();
    await allocator.stop();
    assert.match(String(await late), /has stopped/);
  },
);

test('whatever nodes do, in whatever order, numbers stay unique and agreed', async () => {
  const step = fc.record({
    node: fc.nat(2),
    labels: fc.nat(3),
    do: fc.constantFrom('allocate', 'allocate', 'release', 'collect', 'crash', 'lose master', 'lose session'),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const cluster = new Cluster(await temporaryFolder('allocator'));
      cluster.range = { min: 300, max: 303 };
      await cluster.engine.start();
      const collector = cluster.collector();
      const nodes = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
      const agents = await Promise.all(nodes.map((node) => cluster.agent(node)));
      /** What each node believes it uses. */
      const used = nodes.map(() => new Map<string, number>());
      for (const action of steps) {
        const { allocator, store } = agents[action.node]!;
        const labels = `l:${action.labels}=;`;
        const mine = used[action.node]!;
        if (action.do === 'allocate') {
          const id = await allocator.allocate(labels);
          assert.equal(mine.get(labels) ?? id, id);
          if (mine.has(labels)) allocator.release(labels);
          await cluster.quiet();
          mine.set(labels, id);
        } else if (action.do === 'release') {
          if (mine.delete(labels)) allocator.release(labels);
          await cluster.quiet();
        } else if (action.do === 'collect') {
          await collector.collect();
        } else if (action.do === 'lose master') {
          const id = mine.get(labels);
          if (id !== undefined) await store.delete(`cilium/state/identities/v1/id/${id}`);
        } else if (action.do === 'lose session') {
          await cluster.engine.revoke(await cluster.engine.read((state) => [...state.leases.keys()]));
        } else {
          await allocator.stop();
          await store.stop();
          agents[action.node] = await cluster.agent(nodes[action.node]!);
          for (const [restored, id] of mine) {
            assert.equal(await agents[action.node]!.allocator.allocate(restored), id, 'restored');
          }
        }
        await cluster.quiet();
        const keys = new Map(await cluster.keys());
        const owners = new Map<number, string>();
        for (const [index, uses] of used.entries()) {
          for (const [name, id] of uses) {
            assert.equal(owners.get(id) ?? name, name, `${id} stands for two label sets`);
            owners.set(id, name);
            assert.equal(keys.get(`cilium/state/identities/v1/id/${id}`), name);
            assert.equal(keys.get(`cilium/state/identities/v1/value/${name}/${nodes[index]!}`), String(id));
          }
        }
        assert.equal(new Set(owners.values()).size, owners.size, 'a label set has two numbers');
      }
      for (const { allocator } of agents) await allocator.stop();
      await cluster.engine.stop();
      await rm(cluster.folder, { recursive: true });
    }),
    { numRuns: 25 },
  );
});
