// SPDX-License-Identifier: Apache-2.0

/** What every implementation of `Kvstore` does, as tests. A backend's test file calls `testKvstore` with its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import {
  putIfDifferent,
  type KvCondition,
  type KvEntry,
  type KvEvent,
  type Kvstore,
  type Watch,
} from '../../kvstore/kvstore.ts';

/** One server with its data, made anew for each test. */
export interface KvstoreBackend {
  /** A started client. */
  connect(): Promise<Kvstore>;
  /** Stops the server and starts it again with its data; clients may have to be connected anew. */
  restart(): Promise<void>;
  /** Lets more than the time of a session pass. */
  passSessionTtl(): Promise<void>;
  /** Ends the session of a client on the server, as if its lease had expired. */
  endSession(client: Kvstore): Promise<void>;
  /** Makes the server forget all history. */
  compact(client: Kvstore): Promise<void>;
  /** Gives what is under way the time to arrive, for tests that nothing does. */
  settle(): Promise<void>;
  /** Waits until it is so; fails when it does not become so. */
  until(what: string, check: () => boolean | Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

interface Recording {
  readonly batches: string[][];
  end: string | undefined;
  readonly watch: Watch;
}

/** `put key=value`, `delete key`. */
function describe(event: KvEvent): string {
  return event.type === 'put' ? `put ${event.entry.key}=${event.entry.value}` : `delete ${event.key}`;
}

function record(client: Kvstore, prefix: string, from: number): Recording {
  const batches: string[][] = [];
  const recording: Recording = {
    batches,
    end: undefined,
    watch: client.watch(prefix, from, {
      onEvents: (events) => batches.push(events.map(describe)),
      onEnd: (reason) => {
        recording.end = reason;
      },
    }),
  };
  return recording;
}

export function testKvstore(backendName: string, open: () => Promise<KvstoreBackend>): void {
  const check = (name: string, body: (backend: KvstoreBackend, client: Kvstore) => Promise<void>): void => {
    test(`${backendName}: ${name}`, async () => {
      const backend = await open();
      try {
        await body(backend, await backend.connect());
      } finally {
        await backend.close();
      }
    });
  };

  check('a key has the revision of its creation and of its last write', async (_backend, client) => {
    assert.equal(await client.get('a'), undefined);
    const created = await client.put('a', '1');
    const written = await client.put('a', '2');
    assert.equal(written, created + 1);
    const expected = { key: 'a', value: '2', createRevision: created, modRevision: written };
    assert.deepEqual(await client.get('a'), expected);
    assert.equal(await client.delete('a'), true);
    assert.equal(await client.delete('a'), false);
    const again = await client.put('a', '3');
    assert.equal((await client.get('a'))?.createRevision, again);
  });

  check('values are any text', async (_backend, client) => {
    for (const value of ['', 'line\nbreak', '"quoted" \\', 'ünïcode 🐝', '\u0000\u001f']) {
      await client.put('k', value);
      assert.equal((await client.get('k'))?.value, value);
    }
  });

  check('a list is sorted, holds exactly the prefix and tells its revision', async (_backend, client) => {
    for (const key of ['p/b', 'p/a', 'p', 'pp', 'p/a/x', 'o', 'q']) await client.put(key, key);
    const { entries, revision } = await client.list('p/');
    assert.deepEqual(
      entries.map(({ key }) => key),
      ['p/a', 'p/a/x', 'p/b'],
    );
    assert.equal(revision, (await client.get('q'))?.modRevision);
    assert.deepEqual((await client.list('none/')).entries, []);
    const pages: KvEntry[] = [];
    const rest = await client.list('p/', (page) => pages.push(...page));
    assert.deepEqual({ ...rest, entries: [...pages, ...rest.entries] }, { entries, revision });
  });

  check('a transaction does all or nothing, in one revision', async (_backend, client) => {
    const before = await client.put('a', '1');
    const refused = await client.transact({
      when: [
        { key: 'a', value: '1' },
        { key: 'b', exists: true },
      ],
      then: [{ put: 'a', value: '2' }, { delete: 'a/1' }],
    });
    assert.deepEqual(refused, { succeeded: false, revision: before, deleted: 0 });
    await client.put('d/1', 'x');
    await client.put('d/2', 'x');
    const done = await client.transact({
      when: [
        { key: 'a', value: '1' },
        { key: 'a', modRevision: before },
        { key: 'a', exists: true },
        { key: 'b', exists: false },
      ],
      then: [{ put: 'b', value: '2' }, { put: 'c', value: '3' }, { delete: 'a' }, { deletePrefix: 'd/' }],
    });
    assert.deepEqual(done, { succeeded: true, revision: before + 3, deleted: 3 });
    const { entries } = await client.list('');
    assert.deepEqual(
      entries.map(({ key, modRevision }) => [key, modRevision]),
      [
        ['b', done.revision],
        ['c', done.revision],
      ],
    );
  });

  for (const [name, condition] of [
    ['absence', { key: 'a', exists: false }],
    ['presence', { key: 'absent', exists: true }],
    ['another value', { key: 'a', value: '2' }],
    ['a value of an absent key', { key: 'absent', value: '' }],
    ['another revision', { key: 'a', modRevision: 1_000_000 }],
  ] as const) {
    check(`a condition on ${name} that does not hold stops the transaction`, async (_backend, client) => {
      await client.put('a', '1');
      assert.equal((await client.transact({ when: [condition], then: [{ put: 'a', value: 'x' }] })).succeeded, false);
      assert.equal((await client.get('a'))?.value, '1');
    });
  }

  const prefixConditions = (revision: number): [string, KvCondition, boolean][] => [
    ['no key below, where there is one', { prefix: 'p/', unchangedSince: 0 }, false],
    ['no key below, where there is none', { prefix: 'q/', unchangedSince: 0 }, true],
    ['no key below changed since the last one was', { prefix: 'p/', unchangedSince: revision }, true],
    ['no key below changed since the last but one was', { prefix: 'p/', unchangedSince: revision - 1 }, false],
    ['all below hold a value that they hold', { prefix: 'p/s/', value: 'same' }, true],
    ['all below hold a value that one does not', { prefix: 'p/', value: 'same' }, false],
    ['all below hold a value, where there is none', { prefix: 'q/', value: 'same' }, false],
    ['all below hold nothing, where there is none', { prefix: 'q/', value: '' }, false],
  ];
  check('conditions on all keys below a prefix', async (_backend, client) => {
    for (const key of ['p/s/1', 'p/s/2', 'p/s2', 'o', 'r']) await client.put(key, key === 'p/s2' ? 'other' : 'same');
    const { modRevision } = (await client.get('p/s2'))!;
    for (const [name, condition, expected] of prefixConditions(modRevision)) {
      const { succeeded } = await client.transact({ when: [condition], then: [{ put: 'done', value: name }] });
      assert.equal(succeeded, expected, name);
    }
  });

  check('a transaction whose conditions do not hold reads, of one revision', async (_backend, client) => {
    for (const key of ['a', 'p/1', 'p/2', 'q']) await client.put(key, `${key}!`);
    const otherwise = [{ get: 'a' }, { get: 'absent' }, { list: 'p/' }];
    const refused = await client.transact({ when: [{ key: 'a', exists: false }], then: [{ delete: 'a' }], otherwise });
    assert.deepEqual(
      refused.found?.map(({ key, value }) => [key, value]),
      [
        ['a', 'a!'],
        ['p/1', 'p/1!'],
        ['p/2', 'p/2!'],
      ],
    );
    assert.equal(refused.revision, (await client.get('q'))?.modRevision);
    const done = await client.transact({ when: [{ key: 'a', exists: true }], then: [{ delete: 'a' }], otherwise });
    assert.deepEqual([done.succeeded, done.found], [true, undefined]);
  });

  check('many keys are read at once, those that exist', async (_backend, client) => {
    const keys = Array.from({ length: 300 }, (_, i) => `k/${i}`);
    for (let i = 0; i < keys.length; i += 100) {
      await client.transact({ then: keys.slice(i, i + 100).map((key) => ({ put: key, value: key })) });
    }
    await client.delete('k/7');
    const found = await client.getAll([...keys, 'absent']);
    assert.equal(found.size, 299);
    assert.deepEqual(found.get('k/299'), await client.get('k/299'));
    assert.equal((await client.getAll([])).size, 0);
  });

  check('a transaction that touches a key twice is refused', async (_backend, client) => {
    const twice = client.transact({
      then: [
        { put: 'a', value: '1' },
        { put: 'a', value: '2' },
      ],
    });
    await assert.rejects(twice, (error) => isCiliumError(error, 'InvalidArgument'));
    assert.equal(await client.get('a'), undefined);
  });

  check('of many that create the same key at once exactly one wins', async (backend, client) => {
    const clients = [client, await backend.connect(), await backend.connect()];
    const results = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        clients[i % 3]!.transact({
          when: [{ key: 'one', exists: false }],
          then: [{ put: 'one', value: String(i) }],
        }),
      ),
    );
    const winner = results.findIndex(({ succeeded }) => succeeded);
    assert.equal(results.filter(({ succeeded }) => succeeded).length, 1);
    assert.equal((await client.get('one'))?.value, String(winner));
  });

  check(
    'a watch tells every change after a list once, in order, those of one revision together',
    async (backend, client) => {
      await client.put('w/old', '0');
      const { revision } = await client.list('w/');
      const recording = record(client, 'w/', revision + 1);
      await client.put('w/a', '1');
      await client.put('other', 'x');
      await client.transact({
        then: [
          { put: 'w/a', value: '2' },
          { put: 'w/b', value: '1' },
          { put: 'other', value: 'y' },
          { delete: 'w/old' },
        ],
      });
      await client.delete('w/b');
      await backend.until('all changes are told', () => recording.batches.length === 3);
      assert.deepEqual(recording.batches[0], ['put w/a=1']);
      assert.deepEqual(recording.batches[1]?.toSorted(), ['delete w/old', 'put w/a=2', 'put w/b=1']);
      assert.deepEqual(recording.batches.slice(2), [['delete w/b']]);
      recording.watch.close();
      await client.put('w/a', '3');
      await backend.settle();
      assert.equal(recording.batches.length, 3);
      assert.equal(recording.end, undefined);
    },
  );

  check('a watch from the past tells what was missed, then goes on', async (backend, client) => {
    const first = await client.put('w/a', '1');
    await client.put('w/a', '2');
    const recording = record(client, 'w/', first);
    await client.put('w/a', '3');
    await backend.until('all changes are told', () => recording.batches.length === 3);
    await backend.settle();
    assert.deepEqual(recording.batches.flat(), ['put w/a=1', 'put w/a=2', 'put w/a=3']);
    recording.watch.close();
  });

  check('a watch from a revision that is no longer kept ends as compacted', async (backend, client) => {
    const first = await client.put('w/a', '1');
    await client.put('w/a', '2');
    await backend.compact(client);
    const recording = record(client, 'w/', first);
    await backend.until('the watch ends', () => recording.end !== undefined);
    assert.deepEqual([recording.batches, recording.end], [[], 'compacted']);
  });

  check('data outlives the server, and a watch tells that it is lost', async (backend, client) => {
    const revision = await client.put('a', '1');
    await client.put('leased', '1', { leased: true });
    const recording = record(client, '', revision + 1);
    await recording.watch.started;
    await backend.restart();
    await backend.until('the watch ends', () => recording.end === 'lost');
    const again = await backend.connect();
    assert.deepEqual(
      (await again.list('')).entries.map(({ key }) => key),
      ['a', 'leased'],
    );
    assert.ok((await again.put('b', '1')) > revision + 1);
  });

  check('leased keys outlive their client for the time of a session, then they go', async (backend, client) => {
    const other = await backend.connect();
    await client.put('s/plain', '1');
    await client.put('s/leased', '1', { leased: true });
    const entry = await other.get('s/leased');
    assert.deepEqual([client.isOwn(entry!), other.isOwn(entry!)], [true, false]);
    const recording = record(other, 's/', entry!.modRevision + 1);
    await backend.passSessionTtl();
    assert.ok(await other.get('s/leased'), 'a client that is there keeps its keys');
    await client.stop();
    assert.ok(await other.get('s/leased'));
    await backend.passSessionTtl();
    await backend.until('the key goes', () => recording.batches.length > 0);
    assert.deepEqual(recording.batches, [['delete s/leased']]);
    assert.ok(await other.get('s/plain'));
  });

  check('a key written by another client belongs to it', async (backend, client) => {
    const other = await backend.connect();
    await client.put('k', '1', { leased: true });
    assert.equal(await putIfDifferent(client, 'k', '1'), false);
    assert.equal(await putIfDifferent(other, 'k', '1'), true);
    await client.stop();
    await backend.passSessionTtl();
    assert.ok(await other.get('k'));
    await other.put('k', '1');
    assert.equal((await other.get('k'))?.leaseId, undefined);
  });

  check('a lost session takes its keys, tells its client, and is replaced', async (backend, client) => {
    let lost = 0;
    const unsubscribe = client.onSessionLost(() => lost++);
    await client.put('k', '1', { leased: true });
    await backend.endSession(client);
    await backend.until('the client is told', () => lost === 1);
    assert.equal(await client.get('k'), undefined);
    await client.put('k', '2', { leased: true });
    assert.equal(client.isOwn((await client.get('k'))!), true);
    unsubscribe();
    await backend.endSession(client);
    await backend.until('the key goes', async () => (await client.get('k')) === undefined);
    await backend.settle();
    assert.equal(lost, 1);
  });

  check('a lock is held by one client at a time', async (backend, client) => {
    const clients = [client, await backend.connect()];
    let holders = 0;
    let turns = 0;
    await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const lock = await clients[i % 2]!.lock('locks/a');
        assert.equal(++holders, 1);
        await client.get('anything');
        turns++;
        holders--;
        await lock.unlock();
        await lock.unlock();
      }),
    );
    assert.equal(turns, 10);
  });

  check(
    'waiting for a lock ends with the signal, and a client that stops gives its locks back',
    async (backend, client) => {
      const other = await backend.connect();
      const lock = await client.lock('locks/a');
      await (await other.lock('locks/b')).unlock();
      const stop = new AbortController();
      const waiting = other.lock('locks/a', stop.signal);
      stop.abort(new Error('enough'));
      await assert.rejects(waiting, /enough/);
      const next = other.lock('locks/a');
      await client.stop();
      await (await next).unlock();
      await lock.unlock();
    },
  );

  check('the guards of a lock that is held hold', async (_backend, client) => {
    const lock = await client.lock('locks/a');
    const result = await client.transact({ when: lock.guards, then: [{ put: 'a', value: '1' }] });
    assert.equal(result.succeeded, true);
    await lock.unlock();
  });

  check('the status tells whether the store answers', async (backend, client) => {
    const status = await client.status();
    assert.equal(status.healthy, true);
    assert.match(status.message, /^\w+: /);
    await backend.close();
    assert.equal((await client.status()).healthy, false);
  });
}
