// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle } from '../../runtime/fake/manual-clock.ts';
import { Limiter } from './limiter.ts';

test('so many run at once, the others in the order in which they came, also after one that failed', async () => {
  const limiter = new Limiter(2);
  const begun: number[] = [];
  const ends = [0, 1, 2, 3].map(() => Promise.withResolvers<number>());
  const work = ends.map(({ promise }, i) => {
    return limiter.run(() => {
      begun.push(i);
      return promise;
    });
  });
  await settle();
  assert.deepEqual(begun, [0, 1]);
  ends[1]!.reject(new Error('no'));
  await assert.rejects(work[1]!, /no/);
  await settle();
  assert.deepEqual(begun, [0, 1, 2]);
  for (const [i, { resolve }] of ends.entries()) resolve(i);
  assert.deepEqual(await Promise.all([work[0], work[2], work[3]]), [0, 2, 3]);
  assert.deepEqual(begun, [0, 1, 2, 3]);
});
