// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { KeyedQueue, SerialQueue } from './serial-queue.ts';

function gate(): { readonly open: () => void; readonly opened: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  return { open: () => resolve(undefined), opened: promise };
}

test('work runs one at a time in the order asked for, and failures go to their caller only', async () => {
  const queue = new SerialQueue('test');
  const first = gate();
  const seen: string[] = [];
  const results = [
    queue.run(async () => {
      await first.opened;
      seen.push('first');
      return 1;
    }),
    queue.run(() => {
      seen.push('second');
      throw new Error('second failed');
    }),
    queue.run(() => {
      seen.push('third');
      return 3;
    }),
  ];
  assert.equal(queue.size, 3);
  first.open();
  const settled = await Promise.allSettled(results);
  assert.deepEqual(seen, ['first', 'second', 'third']);
  assert.deepEqual(
    settled.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.equal(queue.size, 0);
});

test('a full queue refuses, and takes work again when there is room', async () => {
  const queue = new SerialQueue('small', 1);
  const block = gate();
  const running = queue.run(() => block.opened);
  await assert.rejects(
    queue.run(() => 2),
    (error) => isCiliumError(error, 'Internal') && error.message.includes('small is full'),
  );
  block.open();
  await running;
  assert.equal(await queue.run(() => 2), 2);
});

test('drain waits for all that was queued, failures included', async () => {
  const queue = new SerialQueue('test');
  let done = false;
  const failing = queue.run(() => Promise.reject(new Error('no')));
  failing.catch(() => undefined);
  void queue.run(() => {
    done = true;
  });
  await queue.drain();
  assert.ok(done);
});

test('keys do not hold up each other, and a key without work is forgotten', async () => {
  const queues = new KeyedQueue<string>('test');
  const block = gate();
  const held = queues.run('a', () => block.opened);
  const behind = queues.run('a', () => 'behind');
  assert.equal(await queues.run('b', () => 'free'), 'free');
  assert.equal(queues.size, 1);
  block.open();
  await held;
  assert.equal(await behind, 'behind');
  await queues.drain();
  assert.equal(queues.size, 0);
});
