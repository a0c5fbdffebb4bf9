// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Goal, goalTable, isReached } from './goals.ts';

test('a goal is reached from its side of the limit, as rounded for the reader', () => {
  const cases: [Goal, boolean][] = [
    [{ what: 'a', measured: 0.896, least: 0.9, digits: 2 }, true],
    [{ what: 'b', measured: 0.894, least: 0.9, digits: 2 }, false],
    [{ what: 'c', measured: 64, most: 64, digits: 1 }, true],
    [{ what: 'd', measured: 64.1, most: 64, digits: 1 }, false],
    [{ what: 'e', measured: NaN, most: 64, digits: 1 }, false],
  ];
  for (const [goal, reached] of cases) assert.equal(isReached(goal), reached, goal.what);
});

test('the table says what was wanted and what was not reached', () => {
  assert.deepEqual(
    goalTable([{ what: 'x', measured: 0.5, least: 0.75, digits: 2 }])
      .split('\n')
      .slice(2),
    ['| x | at least 0.75 | 0.50 | **no** |'],
  );
});
