// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs, Controller } from './controller.ts';
import { ManualClock, settle } from './fake/manual-clock.ts';
import { silentLogger } from './logger.ts';

const base = { name: 'test', log: silentLogger, random: () => 1, minBackoffMs: 100, maxBackoffMs: 400 };

test('a failing run is repeated with doubling delays up to the limit, then the interval holds again', async () => {
  const clock = new ManualClock();
  let failuresLeft = 4;
  const controller = new Controller({
    ...base,
    clock,
    intervalMs: 10_000,
    run: async () => {
      if (failuresLeft-- > 0) throw new Error('not yet');
    },
  });
  controller.start();
  await settle();
  for (const delay of [100, 200, 400, 400, 10_000]) {
    assert.deepEqual(clock.pending, [delay]);
    await clock.advance(delay);
  }
  const { lastSuccess, lastFailure, ...counts } = controller.status;
  assert.deepEqual(counts, {
    name: 'test',
    successCount: 2,
    failureCount: 4,
    consecutiveFailures: 0,
    lastError: 'not yet',
  });
  assert.ok(lastSuccess! > lastFailure!);
  await controller.stop();
  assert.deepEqual(clock.pending, []);
});

test('triggers during a run are folded into one run after it', async () => {
  const blocks: (() => void)[] = [];
  const controller = new Controller({
    ...base,
    clock: new ManualClock(),
    run: () => new Promise((resolve) => blocks.push(resolve)),
  });
  controller.trigger();
  controller.start();
  await settle();
  for (let i = 0; i < 5; i++) controller.trigger();
  await settle();
  assert.equal(blocks.length, 1);
  blocks[0]!();
  await settle();
  assert.equal(blocks.length, 2);
  blocks[1]!();
  await settle();
  assert.equal(blocks.length, 2);
  await controller.stop();
});

test('without an interval nothing runs until it is triggered; a trigger cuts a back-off short', async () => {
  const clock = new ManualClock();
  let runs = 0;
  const controller = new Controller({
    ...base,
    clock,
    run: async () => {
      if (++runs === 1) throw new Error('first');
    },
  });
  controller.start();
  await settle();
  assert.equal(runs, 0);
  controller.trigger();
  await settle();
  assert.equal(runs, 1);
  controller.trigger();
  await settle();
  assert.equal(runs, 2);
  assert.deepEqual(clock.pending, []);
  await controller.stop();
});

test('stop aborts the run it waits for, counts it as no failure, and may be called twice', async () => {
  const controller = new Controller({
    ...base,
    clock: new ManualClock(),
    intervalMs: 1,
    run: (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')));
      }),
  });
  controller.start();
  await settle();
  await controller.stop();
  await controller.stop();
  assert.equal(controller.status.failureCount, 0);
});

test('the delay has jitter between half and all of it and never leaves the limits', () => {
  for (const random of [0, 0.5, 0.999]) {
    for (const failures of [1, 2, 10, 1000, 1e9]) {
      const delay = backoffMs(failures, { random: () => random });
      assert.ok(delay >= 500 && delay <= 60_000, `${failures} failures: ${delay}`);
    }
  }
  assert.equal(backoffMs(3, { ...base, random: () => 0 }), 200);
});
