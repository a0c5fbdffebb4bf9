// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import { Gate } from './gate.ts';

test('some run, the others wait in order, too many and too old ones are refused', async () => {
  const clock = new ManualClock();
  const gate = new Gate({ running: 2, waiting: 3, waitMs: 1_000 }, clock);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const results = Array.from({ length: 6 }, (_, i) =>
    gate.run(async () => {
      begun.push(i);
      await new Promise<void>((resolve) => ends.push(resolve));
      if (i === 1) throw new Error('fails');
      return i;
    }),
  );
  const refused = (error: unknown): boolean => isCiliumError(error, 'KvstoreUnavailable');
  await assert.rejects(results[5]!, refused);
  assert.deepEqual(begun, [0, 1]);
  ends[0]!();
  assert.equal(await results[0], 0);
  ends[1]!();
  await assert.rejects(results[1]!, /fails/);
  await settle();
  assert.deepEqual(begun, [0, 1, 2, 3]);
  await clock.advance(1_001);
  ends[2]!();
  assert.equal(await results[2], 2);
  await assert.rejects(results[4]!, refused);
  ends[3]!();
  assert.equal(await results[3], 3);
  assert.equal(await gate.run(() => Promise.resolve('free')), 'free');
});
