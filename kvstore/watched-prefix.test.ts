// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ManualClock, settle } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import type { KvEntry, KvEvent, KvList, Watch, WatchHandlers } from './kvstore.ts';
import { WatchedPrefix } from './watched-prefix.ts';

/** A store of which a test decides when it answers what. */
class ScriptedStore {
  entries = new Map<string, KvEntry>();
  revision = 0;
  failures = 0;
  /** How many entries a list hands over at a time; 0: all, as its result. */
  pageEntries = 0;
  /** After so many pages the next list fails, once. */
  failsAfterPages = 0;
  handlers: WatchHandlers | undefined;
  /** One event a revision, from `#first` on. */
  #history: KvEvent[] = [];
  #first = 1;
  readonly watchedFrom: number[] = [];
  lists = 0;
  refusals = 0;
  /** How many there are at present. */
  watches = 0;
  duringList: (() => void) | undefined;
  loseSession: (() => void) | undefined;

  list(_prefix: string, onPage?: (entries: readonly KvEntry[]) => void): Promise<KvList> {
    if (this.failures > 0) {
      this.failures--;
      return Promise.reject(new Error('away'));
    }
    this.lists++;
    this.duringList?.();
    const entries = [...this.entries.values()];
    const { revision } = this;
    if (this.pageEntries === 0 || onPage === undefined) return Promise.resolve({ entries, revision });
    for (let pages = 1; entries.length > 0; pages++) {
      onPage(entries.splice(0, this.pageEntries));
      if (pages === this.failsAfterPages) {
        this.failsAfterPages = 0;
        return Promise.reject(new Error('away'));
      }
    }
    return Promise.resolve({ entries, revision });
  }

  watch(_prefix: string, fromRevision: number, handlers: WatchHandlers): Watch {
    this.watchedFrom.push(fromRevision);
    if (this.refusals > 0) {
      this.refusals--;
      queueMicrotask(() => handlers.onEnd('lost'));
      return { started: Promise.reject(new Error('away')), close: () => undefined };
    }
    this.handlers = handlers;
    this.watches++;
    queueMicrotask(() => {
      if (this.handlers !== handlers) return;
      if (fromRevision < this.#first) this.end('compacted');
      else for (const event of this.#history.slice(fromRevision - this.#first)) handlers.onEvents([event]);
    });
    return {
      started: Promise.resolve(),
      close: () => {
        if (this.handlers !== handlers) return;
        this.handlers = undefined;
        this.watches--;
      },
    };
  }

  onSessionLost(listener: () => void): () => void {
    this.loseSession = listener;
    return () => {
      this.loseSession = undefined;
    };
  }

  /** All is gone; revisions begin anew. */
  loseData(): void {
    this.entries.clear();
    this.revision = 0;
    this.#history = [];
    this.#first = 1;
  }

  #tell(event: KvEvent): void {
    this.#history.push(event);
    this.handlers?.onEvents([event]);
  }

  compact(): void {
    this.#history = [];
    this.#first = this.revision + 1;
  }

  put(key: string, value: string): void {
    const modRevision = ++this.revision;
    const createRevision = this.entries.get(key)?.createRevision ?? modRevision;
    const entry = { key, value, createRevision, modRevision };
    this.entries.set(key, entry);
    this.#tell({ type: 'put', entry });
  }

  delete(key: string): void {
    if (this.entries.delete(key)) this.#tell({ type: 'delete', key, modRevision: ++this.revision });
  }

  end(reason: 'compacted' | 'lost'): void {
    const { handlers } = this;
    if (handlers === undefined) return;
    this.handlers = undefined;
    this.watches--;
    handlers.onEnd(reason);
  }
}

function follow(store: ScriptedStore): { prefix: WatchedPrefix; told: string[]; clock: ManualClock } {
  const told: string[] = [];
  const clock = new ManualClock();
  const prefix = new WatchedPrefix({
    store,
    prefix: 'p/',
    clock,
    log: silentLogger,
    listener: {
      onPut: (entry, old) => told.push(`put ${entry.key} ${old?.value ?? 'new'}>${entry.value}`),
      onDelete: (old) => told.push(`delete ${old.key} ${old.value}`),
    },
  });
  return { prefix, told, clock };
}

test('start resolves after the first list, then changes are told with what was there before', async () => {
  const store = new ScriptedStore();
  store.put('p/a', '1');
  const { prefix, told } = follow(store);
  await prefix.start(new AbortController().signal);
  assert.deepEqual(told, ['put p/a new>1']);
  assert.deepEqual(store.watchedFrom, [2]);
  store.put('p/a', '2');
  store.delete('p/a');
  store.delete('p/a');
  assert.deepEqual(told.slice(1), ['put p/a 1>2', 'delete p/a 2']);
  await prefix.stop();
  assert.equal(store.handlers, undefined);
});

test('after a watch that ended as compacted the difference is told, and nothing twice', async () => {
  const store = new ScriptedStore();
  for (const key of ['p/same', 'p/changed', 'p/gone']) store.put(key, '1');
  const { prefix, told } = follow(store);
  await prefix.start(new AbortController().signal);
  told.length = 0;
  store.end('compacted');
  store.put('p/changed', '2');
  store.delete('p/gone');
  store.put('p/new', '1');
  await settle();
  assert.deepEqual(told, ['put p/changed 1>2', 'put p/new new>1', 'delete p/gone 1']);
  assert.equal(store.watchedFrom.at(-1), store.revision + 1);
  await prefix.stop();
});

test('what is kept of entries is up to the listener; without values all is told again after a lost session', async () => {
  const store = new ScriptedStore();
  store.pageEntries = 2;
  for (const key of ['p/a', 'p/b', 'p/c']) store.put(key, '1');
  const told: string[] = [];
  const prefix = new WatchedPrefix<{ readonly modRevision: number; readonly first: string }>({
    store,
    prefix: 'p/',
    clock: new ManualClock(),
    log: silentLogger,
    keep: ({ modRevision, value }) => ({ modRevision, first: value.slice(0, 1) }),
    listener: {
      onPut: ({ first }, old) => told.push(`${old?.first ?? 'new'}>${first}`),
      onDelete: ({ first }) => told.push(`${first}>gone`),
    },
  });
  await prefix.start(new AbortController().signal);
  assert.deepEqual(told.splice(0), ['new>1', 'new>1', 'new>1']);
  store.put('p/a', '234');
  store.end('compacted');
  store.delete('p/b');
  await settle();
  assert.deepEqual(told.splice(0), ['1>2', '1>gone']);
  store.loseSession?.();
  await settle();
  assert.deepEqual(told, ['2>2', '1>1']);
  await prefix.stop();
});

test('a list that fails after some pages goes on being tried, and what has gone is told only after a whole one', async () => {
  const store = new ScriptedStore();
  store.pageEntries = 1;
  for (const key of ['p/a', 'p/b', 'p/c']) store.put(key, '1');
  const { prefix, told, clock } = follow(store);
  await prefix.start(new AbortController().signal);
  told.length = 0;
  store.failsAfterPages = 1;
  store.end('compacted');
  store.put('p/a', '2');
  store.delete('p/c');
  await settle();
  assert.deepEqual(told, ['put p/a 1>2']);
  await clock.advance(10_000);
  assert.deepEqual(told, ['put p/a 1>2', 'delete p/c 1']);
  await prefix.stop();
});

test('a watch that was lost goes on where it ended, without a list, however often that has to be tried', async () => {
  const store = new ScriptedStore();
  store.put('p/a', '1');
  const { prefix, told, clock } = follow(store);
  await prefix.start(new AbortController().signal);
  store.put('p/a', '2');
  store.refusals = 3;
  store.end('lost');
  store.put('p/a', '3');
  store.delete('p/a');
  await settle();
  assert.deepEqual(told.splice(0), ['put p/a new>1', 'put p/a 1>2']);
  await clock.advance(10_000);
  assert.deepEqual(told.splice(0), ['put p/a 2>3', 'delete p/a 3']);
  assert.deepEqual([store.lists, store.watchedFrom], [1, [2, 3, 3, 3, 3]]);
  store.end('lost');
  store.put('p/b', '1');
  store.compact();
  await settle();
  assert.deepEqual([store.lists, told], [2, ['put p/b new>1']]);
  await prefix.stop();
});

test('after a lost session everything is listed, because the store may have begun anew', async () => {
  const store = new ScriptedStore();
  store.put('p/a', '1');
  store.put('p/b', '1');
  const { prefix, told } = follow(store);
  await prefix.start(new AbortController().signal);
  told.length = 0;
  store.handlers = undefined;
  store.loseData();
  store.put('p/a', 'another, of the same revision');
  store.loseSession!();
  await settle();
  assert.deepEqual(told, ['put p/a 1>another, of the same revision', 'delete p/b 1']);
  store.put('p/c', '1');
  assert.equal(told.at(-1), 'put p/c new>1');
  await prefix.stop();
  assert.equal(store.loseSession, undefined);
});

test('a session that is lost while the prefix is listed makes it be listed again, and one watch follows', async () => {
  const store = new ScriptedStore();
  store.put('p/a', '1');
  const { prefix, told } = follow(store);
  await prefix.start(new AbortController().signal);
  told.length = 0;
  store.duringList = () => {
    store.duringList = undefined;
    store.loseSession!();
  };
  store.end('compacted');
  await settle();
  store.put('p/a', '2');
  await settle();
  assert.deepEqual(told, ['put p/a 1>2']);
  assert.deepEqual([store.lists, store.watches], [3, 1]);
  await prefix.stop();
});

test('a list that fails is repeated with back-off; start waits for it or for its signal', async () => {
  const store = new ScriptedStore();
  store.failures = 2;
  store.put('p/a', '1');
  const { prefix, told, clock } = follow(store);
  const started = prefix.start(new AbortController().signal);
  await settle();
  assert.deepEqual(told, []);
  await clock.advance(10_000);
  await started;
  assert.deepEqual(told, ['put p/a new>1']);
  await prefix.stop();

  store.failures = Infinity;
  const stop = new AbortController();
  const other = follow(store).prefix.start(stop.signal);
  stop.abort(new Error('enough'));
  await assert.rejects(other, /enough/);
});

test('whatever happens, what was told adds up to what is there', async () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('put' as const), key: fc.nat(4), value: fc.nat(9) }),
    fc.record({ do: fc.constant('delete' as const), key: fc.nat(4) }),
    fc.record({ do: fc.constantFrom('compacted' as const, 'lost' as const, 'compact' as const) }),
    fc.record({ do: fc.constant('settle' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const store = new ScriptedStore();
      const replica = new Map<string, string>();
      const prefix = new WatchedPrefix({
        store,
        prefix: 'p/',
        clock: new ManualClock(),
        log: silentLogger,
        listener: {
          onPut: ({ key, value }) => replica.set(key, value),
          onDelete: ({ key }) => assert.ok(replica.delete(key)),
        },
      });
      await prefix.start(new AbortController().signal);
      for (const action of steps) {
        if (action.do === 'put') store.put(`p/${action.key}`, String(action.value));
        else if (action.do === 'delete') store.delete(`p/${action.key}`);
        else if (action.do === 'compact') store.compact();
        else if (action.do === 'compacted' || action.do === 'lost') store.end(action.do);
        else await settle();
      }
      await settle();
      const expected = new Map([...store.entries].map(([key, { value }]) => [key, value]));
      assert.deepEqual(replica, expected);
      assert.deepEqual([...prefix.entries.keys()].sort(), [...expected.keys()].sort());
      await prefix.stop();
    }),
    { numRuns: 50 },
  );
});
