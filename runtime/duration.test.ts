// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration } from './duration.ts';

for (const [ns, text] of [
  [0, '0s'],
  [1, '1ns'],
  [999, '999ns'],
  [1_000, '1µs'],
  [312_456, '312.456µs'],
  [1_200_000, '1.2ms'],
  [999_999_999, '999.999999ms'],
  [1_000_000_000, '1s'],
  [59_000_000_001, '59.000000001s'],
  [60_000_000_000, '1m0s'],
  [96_566_628_282, '1m36.566628282s'],
  [3_600_000_000_000, '1h0m0s'],
  [90_061_500_000_000, '25h1m1.5s'],
  [0.4, '0s'],
] as const) {
  test(`${ns} ns are ${text}`, () => assert.equal(formatDuration(ns), text));
}
