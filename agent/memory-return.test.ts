// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { MemoryReturn } from './memory-return.ts';

const MB = 2 ** 20;

function setUp(): { clock: ManualClock; heap: { size: number; collections: number }; memory: MemoryReturn } {
  const clock = new ManualClock();
  const heap = { size: 30 * MB, collections: 0 };
  const collect = (): void => {
    heap.collections++;
    heap.size = 50 * MB;
  };
  return { clock, heap, memory: new MemoryReturn({ clock, log: silentLogger, heapSize: () => heap.size, collect }) };
}

test('a heap that has grown by much is collected once it is quiet', async () => {
  const { clock, heap, memory } = setUp();
  heap.size = 200 * MB;
  memory.touch();
  await clock.advance(2_000);
  memory.touch();
  await clock.advance(2_000);
  assert.equal(heap.collections, 0, 'it was not quiet yet');
  await clock.advance(2_000);
  assert.equal(heap.collections, 1);
  await clock.advance(60_000);
  assert.equal(heap.collections, 1);
});

test('small growth is left to the engine, measured from what the last collection left', async () => {
  const { clock, heap, memory } = setUp();
  for (const [size, collections] of [
    [40, 0],
    [70, 1],
    [60, 1],
    [90, 2],
  ] as const) {
    heap.size = size * MB;
    memory.touch();
    await clock.advance(5_000);
    assert.equal(heap.collections, collections, `${size} MB`);
  }
});

test('after the end nothing is collected', async () => {
  const { clock, heap, memory } = setUp();
  heap.size = 200 * MB;
  memory.touch();
  memory.stop();
  await clock.advance(10_000);
  assert.equal(heap.collections, 0);
});

test('the real collector gives memory back', async () => {
  const clock = new ManualClock();
  const memory = new MemoryReturn({ clock, log: silentLogger });
  let garbage: object[] | undefined = Array.from({ length: 1_000_000 }, (_, n) => ({ n, text: `text ${n}` }));
  const before = process.memoryUsage().heapUsed;
  assert.equal(garbage.length, 1_000_000);
  garbage = undefined;
  memory.touch();
  await clock.advance(5_000);
  assert.ok(process.memoryUsage().heapUsed < before - 32 * MB);
});
