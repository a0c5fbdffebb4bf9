// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { portRangeToBlocks } from './port-range.ts';

test('a single port is one full-length block', () => {
  assert.deepEqual(portRangeToBlocks(80, 80), [{ port: 80, bits: 16 }]);
  assert.deepEqual(portRangeToBlocks(0, 0), [{ port: 0, bits: 16 }]);
});

test('all ports are one block of no bits', () => {
  assert.deepEqual(portRangeToBlocks(0, 65535), [{ port: 0, bits: 0 }]);
});

test('a range becomes aligned blocks', () => {
  assert.deepEqual(portRangeToBlocks(8000, 8010), [
    { port: 8000, bits: 13 },
    { port: 8008, bits: 15 },
    { port: 8010, bits: 16 },
  ]);
});

test('blocks are aligned, adjoining, cover the range exactly and cannot be merged', () => {
  const port = fc.integer({ min: 0, max: 65535 });
  fc.assert(
    fc.property(port, port, (a, b) => {
      const [first, last] = a < b ? [a, b] : [b, a];
      let next = first;
      const blocks = portRangeToBlocks(first, last);
      for (const [i, block] of blocks.entries()) {
        const size = 2 ** (16 - block.bits);
        assert.equal(block.port, next);
        assert.equal(block.port % size, 0);
        next += size;
        const follower = blocks[i + 1];
        if (follower?.bits === block.bits) assert.notEqual(block.port % (2 * size), 0);
      }
      assert.equal(next, last + 1);
    }),
  );
});
