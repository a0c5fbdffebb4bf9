// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { medianRatio, quantile, rotated, Series, summarize } from './statistics.ts';

test('a quantile between two values is interpolated, whatever their order', () => {
  assert.equal(quantile([3, 1, 2], 0.5), 2);
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5);
  assert.equal(quantile([10], 0.99), 10);
  assert.ok(Number.isNaN(quantile([], 0.5)));
  assert.deepEqual(summarize([1, 2, 3, 4, 5]), { n: 5, q1: 2, median: 3, q3: 4 });
});

test('a ratio is taken round by round, so a drift of the machine does not count', () => {
  assert.equal(medianRatio([50, 100, 400], [100, 200, 800]), 0.5);
  assert.equal(medianRatio([50, 100], [100]), 0.5);
});

test('every item comes first in its turn', () => {
  assert.deepEqual(
    [0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round).join('')),
    ['abc', 'bca', 'cab', 'abc'],
  );
  assert.deepEqual(rotated([], 3), []);
});

test('a series keeps the order in which values came', () => {
  const series = new Series();
  series.add('x', 2);
  series.add('x', 1);
  assert.deepEqual([series.of('x'), series.of('y')], [[2, 1], []]);
});
