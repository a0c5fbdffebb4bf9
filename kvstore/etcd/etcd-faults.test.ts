// SPDX-License-Identifier: Apache-2.0

/** What goes wrong with one etcd: killed, hanging, cut off, compacted, emptied, full. Afterwards all know the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { EtcdWorld, SHORT_LEASES } from '../../tests/support/etcd-world.ts';
import { eventually } from '../../tests/support/eventually.ts';

function check(name: string, body: (world: EtcdWorld) => Promise<void>, flags: readonly string[] = []): void {
  test(name, async () => {
    await using world = await EtcdWorld.open({ flags });
    await body(world);
  });
}

for (const [what, fault] of [
  ['killed and started again', (world: EtcdWorld) => world.server.restart()],
  [
    'hanging for a while',
    async (world: EtcdWorld) => {
      world.server.hang();
      await eventually('a request fails', () =>
        world.observer.get('x').then(
          () => false,
          () => true,
        ),
      );
      world.server.resume();
    },
  ],
  [
    'running by fits and starts',
    async (world: EtcdWorld) => {
      for (let i = 0; i < 8; i++) {
        world.server.hang();
        await world.pause(120);
        world.server.resume();
        await world.pause(40);
      }
    },
  ],
] as const) {
  check(
    `etcd ${what}: nothing acknowledged is lost, nothing is told twice, and nothing is listed again`,
    async (world) => {
      const follower = await world.follow(world.observer, 'w/');
      const writer = world.write(await world.connect(), 'w/');
      await eventually('writes', () => writer.acknowledged.size > 20);
      await fault(world);
      writer.acknowledged.clear();
      await eventually('writes again', () => writer.acknowledged.size > 20);
      await writer.stop();
      const truth = await world.server.dump();
      for (const [key, value] of writer.acknowledged) assert.equal(truth.get(key), value);
      await follower.agreesWith(() => world.server.dump());
      assert.equal(follower.lists, 1);
    },
  );
}

check('history that was compacted while a client was cut off is made up for by a list', async (world) => {
  const wire = await world.wire();
  const far = await world.connect({ endpoints: [wire.url] });
  for (const key of ['w/same', 'w/changed', 'w/gone']) await world.observer.put(key, '1');
  const follower = await world.follow(far, 'w/');
  await wire.cut();
  await world.observer.put('w/changed', '2');
  await world.observer.delete('w/gone');
  await world.observer.put('w/new', '1');
  await world.server.compact();
  await world.observer.put('w/late', '1');
  await wire.mend();
  await follower.agreesWith(() => world.server.dump());
  assert.equal(follower.lists, 2);
});

check('an etcd that has lost its data is looked at anew, and our keys are written again', async (world) => {
  const client = await world.connect();
  client.onSessionLost(() => void eventually('a write', () => client.put('w/own', 'again', { leased: true })));
  await client.put('w/own', 'mine', { leased: true });
  for (let i = 0; i < 20; i++) await client.put(`w/${i}`, 'old');
  const follower = await world.follow(client, 'w/');
  // One that does not ask after its session for a while sees it by the revision.
  const slow = await world.follow(await world.connect({}, { keepAliveMs: 600_000 }, { sessionTtlMs: 3_600_000 }), 'w/');
  for (const one of [follower, slow]) one.revisionsBeginAnew = true;
  await world.server.startEmpty();
  await eventually('our key', async () => (await world.server.dump()).get('w/own') === 'again');
  await follower.agreesWith(() => world.server.dump());
  await slow.agreesWith(() => world.server.dump());
});

check('a client that was cut off for longer than its session has a new one, and its keys again', async (world) => {
  const wire = await world.wire();
  const far = await world.connect({ endpoints: [wire.url] }, {}, SHORT_LEASES);
  far.onSessionLost(() => void eventually('a write', () => far.put('own', 'again', { leased: true })));
  await far.put('own', 'mine', { leased: true });
  const old = (await far.get('own'))!;
  await wire.cut();
  await eventually('the key goes', async () => !(await world.server.dump()).has('own'));
  assert.equal(far.isOwn(old), true, 'it cannot know yet');
  await wire.mend();
  await eventually('the key comes back', async () => (await world.server.dump()).get('own') === 'again');
  assert.deepEqual([far.isOwn(old), far.isOwn((await far.get('own'))!)], [false, true]);
});

check(
  'an etcd that hangs for longer than a session has let the keys go or has them still; its word counts',
  async (world) => {
    const client = await world.connect({}, {}, SHORT_LEASES);
    let lost = 0;
    client.onSessionLost(() => {
      lost++;
      void eventually('a write', () => client.put('own', 'again', { leased: true }));
    });
    await client.put('own', 'mine', { leased: true });
    world.server.hang();
    await world.pause(2_500);
    world.server.resume();
    await eventually('a key of a session that lives', async () => {
      const entry = await client.get('own');
      return entry !== undefined && client.isOwn(entry) && entry.value === (lost > 0 ? 'again' : 'mine');
    });
  },
);

check('a write that finds its session ended says so, and the next one has another session', async (world) => {
  const client = await world.connect({}, { keepAliveMs: 600_000 }, { sessionTtlMs: 3_600_000 });
  await client.put('own', '1', { leased: true });
  const { leaseId } = (await client.get('own'))!;
  await world.server.etcdctl('lease', 'revoke', leaseId!);
  await assert.rejects(
    client.put('own', '2', { leased: true }),
    (error) => isCiliumError(error, 'KvstoreUnavailable') && error.message.includes('session has ended'),
  );
  // Long before the session is looked after again.
  await eventually('another session', () => client.put('own', '3', { leased: true }));
});

check(
  'an etcd that is full refuses writes in words, allows deletes, and is shown as full until it has room',
  async (world) => {
    const client = await world.connect();
    const follower = await world.follow(client, 'w/');
    const value = 'x'.repeat(500_000);
    const refused = await eventually('it is full', () =>
      client.put('big', value).then(
        () => false as const,
        (error: unknown) => error as Error,
      ),
    );
    assert.ok(
      isCiliumError(refused, 'KvstoreUnavailable') && refused.message.includes('etcd is full'),
      String(refused),
    );
    assert.ok((await client.list('')).revision > 0, 'reads go on');
    assert.equal(await client.delete('big'), true);
    const { healthy, message } = await client.status();
    assert.ok(!healthy && message.includes('NOSPACE'), message);
    await world.server.compact();
    await world.server.etcdctl('defrag');
    await world.server.etcdctl('alarm', 'disarm');
    await client.put('w/a', '1');
    assert.equal((await client.status()).healthy, true);
    await follower.agreesWith(() => world.server.dump());
  },
  ['--quota-backend-bytes=8000000'],
);

check(
  'the lock of a client that is cut off is free when its lease ends, and what it writes late is refused',
  async (world) => {
    const wire = await world.wire();
    const far = await world.connect({ endpoints: [wire.url] }, {}, SHORT_LEASES);
    const lost = await far.lock('locks/a');
    await wire.cut();
    const lock = await world.observer.lock('locks/a');
    await wire.mend();
    const late = await eventually('it is there again', () =>
      far.transact({ when: lost.guards, then: [{ put: 'a', value: 'late' }] }),
    );
    assert.equal(late.succeeded, false);
    await lost.unlock();
    const result = await world.observer.transact({ when: lock.guards, then: [{ put: 'a', value: 'right' }] });
    assert.equal(result.succeeded, true);
    await lock.unlock();
  },
);

check('a lock that could not be given back while etcd was away is given back later', async (world) => {
  const wire = await world.wire();
  const far = await world.connect({ endpoints: [wire.url] });
  const lock = await far.lock('locks/a');
  await wire.cut();
  await lock.unlock();
  await assert.rejects(far.lock('locks/b'), (error) => isCiliumError(error, 'KvstoreUnavailable'));
  await wire.mend();
  await (await world.observer.lock('locks/a')).unlock();
  await (await world.observer.lock('locks/b')).unlock();
});

check('a write whose answer is lost is told as unknown, not tried again on another endpoint', async (world) => {
  const wire = await world.wire();
  const endpoints = [wire.url, world.server.url];
  const client = await world.connect({ endpoints }, {}, { random: () => 0 });
  wire.losesAnswers = true;
  const create = client.transact({ when: [{ key: 'one', exists: false }], then: [{ put: 'one', value: 'mine' }] });
  await assert.rejects(
    create,
    (error) => isCiliumError(error, 'KvstoreUnavailable') && error.message.includes(wire.url),
  );
  assert.equal((await client.get('one'))?.value, 'mine', 'it was done; the read went to the other endpoint');
});

check('a write that has not left is tried on the next endpoint', async (world) => {
  const wire = await world.wire();
  const client = await world.connect({ endpoints: [wire.url, world.server.url] }, {}, { random: () => 0 });
  const follower = await world.follow(client, 'w/');
  await wire.cut();
  await eventually('a write', () => client.put('w/a', '1'));
  await client.put('w/b', '1');
  await follower.agreesWith(() => world.server.dump());
  assert.match((await client.status()).message, /^etcd: 1\/2 connected, .*127\.0\.0\.1:\d+ - connect ECONNREFUSED/);
});

check('events of any size come in one piece, and lists of any length', async (world) => {
  const client = await world.connect();
  const tail = 'k'.repeat(1_000);
  await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      client.transact({
        then: Array.from({ length: 100 }, (_, i) => ({ put: `w/${n}/${i}/${tail}`, value: '' })),
      }),
    ),
  );
  const follower = await world.follow(client, 'w/');
  assert.equal(follower.replica.size, 6_000);
  const { deleted } = await client.transact({ then: [{ deletePrefix: 'w/' }] });
  assert.equal(deleted, 6_000);
  await follower.agreesWith(() => world.server.dump());
  assert.equal(follower.lists, 1);
});

check(
  'the pages of a list are of one revision, whatever is written meanwhile, and compaction begins it anew',
  async (world) => {
    const client = await world.connect({}, {}, { pageEntries: 1 });
    const both = (value: number): Promise<unknown> =>
      world.observer.transact({ then: ['a', 'b', 'c'].map((key) => ({ put: `w/${key}`, value: String(value) })) });
    await both(0);
    let isDone = false;
    const writing = (async () => {
      for (let i = 1; !isDone; i++) await both(i);
    })();
    try {
      for (let i = 0; i < 50; i++) {
        if (i % 10 === 5) await world.server.compact();
        const { entries, revision } = await client.list('w/');
        assert.equal(entries.length, 3);
        for (const { value, modRevision } of entries)
          assert.deepEqual([value, modRevision], [entries[0]!.value, revision]);
      }
    } finally {
      isDone = true;
      await writing;
    }
  },
);

check('how etcd is can be asked while it hangs, long before a request gives up', async (world) => {
  const client = await world.connect({}, { requestTimeoutMs: 20_000, pingMs: 20_000 });
  world.server.hang();
  const request = client.get('x').catch(() => undefined);
  const first = await Promise.race([client.status(), request.then(() => 'the request')]);
  world.server.resume();
  await request;
  assert.ok(typeof first === 'object', 'the status comes first');
  assert.equal(first.healthy, false);
  assert.match(first.message, /has-quorum=no answer within 1 s/);
});
