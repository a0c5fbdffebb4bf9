// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { testKvstore, type KvstoreBackend } from '../../tests/support/kvstore-contract.ts';
import { LOCK_TIMEOUT_MS, SESSION_TTL_MS } from '../kvstore.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { EmbeddedKvstore } from './embedded-kvstore.ts';
import { EmbeddedEngine } from './engine.ts';
import { Journal } from '../../runtime/journal.ts';
import { HISTORY_REVISIONS } from './watch-hub.ts';

class EmbeddedBackend implements KvstoreBackend {
  readonly clock = new ManualClock();
  readonly folder: string;
  engine: EmbeddedEngine;

  constructor(folder: string) {
    this.folder = folder;
    this.engine = this.newEngine();
  }

  static async open(): Promise<EmbeddedBackend> {
    const backend = new EmbeddedBackend(await temporaryFolder('kvstore'));
    await backend.engine.start();
    return backend;
  }

  newEngine(): EmbeddedEngine {
    return new EmbeddedEngine({
      folder: this.folder,
      clock: this.clock,
      log: silentLogger,
      minCompactionBytes: 4096,
    });
  }

  async connect(): Promise<EmbeddedKvstore> {
    const client = new EmbeddedKvstore(this.engine);
    await client.start();
    return client;
  }

  async restart(): Promise<void> {
    await this.engine.stop();
    this.engine = this.newEngine();
    await this.engine.start();
  }

  async passSessionTtl(): Promise<void> {
    await this.clock.advance(SESSION_TTL_MS + 1);
    await this.engine.read(() => undefined);
  }

  async endSession(): Promise<void> {
    await this.engine.revoke(await this.engine.read((state) => [...state.leases.keys()]));
  }

  async compact(client: EmbeddedKvstore): Promise<void> {
    for (let i = 0; i <= 2 * HISTORY_REVISIONS; i++) void client.put('history', String(i));
    await client.delete('history');
  }

  async settle(): Promise<void> {
    await this.engine.read(() => undefined).catch(() => undefined); // behind all that waits for the disk
    await settle();
  }

  async until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
    await this.settle();
    assert.ok(await check(), what);
  }

  async close(): Promise<void> {
    await this.engine.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

testKvstore('embedded', () => EmbeddedBackend.open());

test('embedded: a write that the disk refuses is refused, and nobody sees it, then or later', async (t) => {
  const backend = await EmbeddedBackend.open();
  const client = await backend.connect();
  const revision = await client.put('a', '1');
  let ends = 0;
  client.watch('', revision + 1, { onEvents: () => assert.fail('an event'), onEnd: () => ends++ });
  const append = t.mock.method(Journal.prototype, 'append', () => Promise.reject(new Error('ENOSPC')));
  const results = await Promise.allSettled([client.put('a', '2'), client.get('a'), client.put('b', '1')]);
  append.mock.restore();
  for (const result of results) {
    assert.ok(result.status === 'rejected' && isCiliumError(result.reason, 'KvstoreUnavailable'));
  }
  assert.equal(ends, 1);
  assert.equal((await client.get('a'))?.value, '1');
  assert.equal(await client.get('b'), undefined);
  assert.equal(await client.put('a', '3'), revision + 1);
  await backend.close();
});

test('embedded: after a failed compaction the store goes on with the old journal', async (t) => {
  const backend = await EmbeddedBackend.open();
  const client = await backend.connect();
  const compact = t.mock.method(Journal.prototype, 'compact', () => Promise.reject(new Error('ENOSPC')));
  await client.put('a', 'x'.repeat(10_000));
  assert.equal(compact.mock.callCount(), 1);
  compact.mock.restore();
  await client.put('b', '1');
  await backend.restart();
  const again = await backend.connect();
  assert.equal((await again.list('')).entries.length, 2);
  await backend.close();
});

test('embedded: a store that cannot be read back says so to everyone', async (t) => {
  const backend = await EmbeddedBackend.open();
  const client = await backend.connect();
  t.mock.method(Journal.prototype, 'append', () => Promise.reject(new Error('EIO')));
  t.mock.method(Journal.prototype, 'open', () => Promise.reject(new Error('EIO')));
  await assert.rejects(client.put('a', '1'), /write the journal/);
  await assert.rejects(client.get('a'), /not open/);
  t.mock.restoreAll();
  await backend.close();
});

test('embedded: the lease of a client that is gone ends with its last key, at a restart too', async () => {
  const backend = await EmbeddedBackend.open();
  const leases = (): Promise<number> => backend.engine.read((state) => state.leases.size);
  const first = await backend.connect();
  await first.put('a', '1', { leased: true });
  await first.put('b', '1', { leased: true });
  await backend.restart();
  const second = await backend.connect();
  assert.equal(await leases(), 2);
  await second.put('a', '1', { leased: true });
  await second.delete('b');
  assert.equal(await leases(), 1);
  await second.delete('a');
  await backend.restart();
  assert.equal(await leases(), 0);
  await backend.close();
});

test('embedded: a thousand writes at once share a few syncs', async (t) => {
  const backend = await EmbeddedBackend.open();
  const client = await backend.connect();
  const append = t.mock.method(Journal.prototype, 'append');
  await Promise.all(Array.from({ length: 1000 }, (_, i) => client.put(`k/${i}`, 'v')));
  assert.equal(append.mock.callCount(), 1);
  assert.equal((await client.list('k/')).entries.length, 1000);
  await backend.close();
});

test('embedded: a lock that stays held is given up with Timeout', async () => {
  const backend = await EmbeddedBackend.open();
  const client = await backend.connect();
  const lock = await client.lock('locks/a');
  const waiting = client.lock('locks/a');
  waiting.catch(() => undefined);
  await settle();
  await backend.clock.advance(LOCK_TIMEOUT_MS);
  await assert.rejects(waiting, (error) => isCiliumError(error, 'Timeout') && error.message.includes('locks/a'));
  await lock.unlock();
  assert.equal(backend.engine.locks.size, 0);
  await backend.close();
});
