// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../errors/cilium-error.ts';
import { LOCAL_IDENTITY_MIN } from '../identity/numeric-identity.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { LocalIdentityAllocator } from './local-identity-allocator.ts';

let folder: string;
let files = 0;
before(async () => {
  folder = await temporaryFolder('local-identities');
});
after(() => rm(folder, { recursive: true }));

const newPath = (): string => join(folder, `${files++}.json`);
const N = (index: number): number => LOCAL_IDENTITY_MIN + index;

async function started(path: string, clock = new ManualClock(), max?: number): Promise<LocalIdentityAllocator> {
  const allocator = new LocalIdentityAllocator({ path, clock, log: silentLogger, ...(max && { max }) });
  await allocator.start();
  return allocator;
}

test('the lowest free number is given, and a number in use is shared', async () => {
  const allocator = await started(newPath());
  assert.deepEqual(
    ['a', 'b', 'a', 'c'].map((labels) => allocator.acquire(labels)),
    [N(0), N(1), N(0), N(2)],
  );
  assert.deepEqual(
    [...allocator.list()],
    [
      { id: N(0), labels: 'a', users: 2 },
      { id: N(1), labels: 'b', users: 1 },
      { id: N(2), labels: 'c', users: 1 },
    ],
  );
  assert.equal(allocator.lookup(N(1)), 'b');
  await allocator.stop();
});

test('a number that was given back is withheld for others, but not for its own labels', async () => {
  const clock = new ManualClock();
  const allocator = await started(newPath(), clock);
  allocator.acquire('a');
  allocator.release('a');
  allocator.release('a');
  assert.equal(allocator.acquire('b'), N(1));
  assert.equal(allocator.acquire('a'), N(0));
  allocator.release('a');
  await clock.advance(10 * 60_000);
  assert.equal(allocator.acquire('c'), N(0));
  assert.equal(allocator.acquire('a'), N(2));
  await allocator.stop();
});

test('numbers are the same after a restart, in whatever order they are asked for', async () => {
  const path = newPath();
  const first = await started(path);
  for (const labels of ['a', 'b', 'c']) first.acquire(labels);
  first.release('b');
  await first.stop();
  const clock = new ManualClock();
  const second = await started(path, clock);
  assert.deepEqual([...second.list()], []);
  assert.deepEqual([second.acquire('c'), second.acquire('new'), second.acquire('b')], [N(2), N(3), N(1)]);
  await clock.advance(10 * 60_000);
  assert.equal(second.acquire('later'), N(0));
  await second.stop();
});

test('the checkpoint is written soon after a change, without waiting for the end', async () => {
  const path = newPath();
  const allocator = await started(path);
  allocator.acquire('cidr:10.0.0.0/8=;reserved:world=;');
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text !== undefined) {
      assert.deepEqual(JSON.parse(text), [{ id: N(0), labels: 'cidr:10.0.0.0/8=;reserved:world=;' }]);
      break;
    }
  }
  await allocator.stop();
});

test('a number that the kernel still knows can be kept for its labels', async () => {
  const allocator = await started(newPath());
  assert.equal(allocator.reserve(N(5), 'a'), true);
  assert.equal(allocator.reserve(N(5), 'b'), false);
  assert.equal(allocator.reserve(N(6), 'a'), false);
  assert.equal(allocator.reserve(300, 'b'), false);
  assert.equal(allocator.acquire('a'), N(5));
  await allocator.stop();
});

test('a full range is told, and a checkpoint that is none is refused', async () => {
  const allocator = await started(newPath(), new ManualClock(), N(1));
  allocator.acquire('a');
  allocator.acquire('b');
  assert.throws(
    () => allocator.acquire('c'),
    (error) => isCiliumError(error, 'PoolExhausted'),
  );
  await allocator.stop();
  const path = newPath();
  await writeFile(path, '[{"id":7,"labels":"a"}]');
  await assert.rejects(started(path), /0\.id: .*move it away/);
});

test('whatever is asked for, no number stands for two label sets within ten minutes', async () => {
  const step = fc.record({ do: fc.constantFrom('acquire', 'release', 'wait', 'restart'), labels: fc.nat(5) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const path = newPath();
      const clock = new ManualClock();
      let allocator = await started(path, clock);
      const users = new Map<string, number>();
      /** Who had a number last, and until when. */
      const owners = new Map<number, { labels: string; until: number }>();
      for (const action of steps) {
        const labels = `l${action.labels}`;
        if (action.do === 'acquire') {
          const id = allocator.acquire(labels);
          const owner = owners.get(id);
          assert.ok(owner === undefined || owner.labels === labels || owner.until <= clock.now(), `${id}`);
          owners.set(id, { labels, until: Infinity });
          users.set(labels, (users.get(labels) ?? 0) + 1);
        } else if (action.do === 'release' && (users.get(labels) ?? 0) > 0) {
          allocator.release(labels);
          users.set(labels, users.get(labels)! - 1);
          for (const owner of owners.values()) {
            if (owner.labels === labels && users.get(labels) === 0) owner.until = clock.now() + 10 * 60_000;
          }
        } else if (action.do === 'wait') {
          await clock.advance(4 * 60_000);
        } else if (action.do === 'restart') {
          await allocator.stop();
          allocator = await started(path, clock);
          for (const [restored, count] of users) for (let i = 0; i < count; i++) allocator.acquire(restored);
        }
        for (const { id, labels: held } of allocator.list()) assert.equal(owners.get(id)?.labels, held);
      }
      await allocator.stop();
    }),
    { numRuns: 40 },
  );
});
