// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IpAddress, Prefix } from '../net/ip.ts';
import { findOverlap, firstFree, type TakenRange } from './ranges.ts';

function taken(...prefixes: string[]): TakenRange[] {
  return prefixes.map((prefix) => ({ prefix: Prefix.parse(prefix), by: prefix }));
}

const searches: [string, string, number, string[], string | undefined][] = [
  ['an empty range gives its first part', '10.15.0.0/16', 24, [], '10.15.0.0/24'],
  ['the lowest gap is taken', '10.15.0.0/16', 24, ['10.15.0.0/24', '10.15.2.0/24'], '10.15.1.0/24'],
  ['an address inside a part takes it', '10.15.0.0/16', 24, ['10.15.0.7/32'], '10.15.1.0/24'],
  ['a large obstacle is stepped over', '10.15.0.0/16', 24, ['10.15.0.0/17'], '10.15.128.0/24'],
  ['a huge obstacle in IPv6 is stepped over at once', 'fd15::/64', 112, ['fd15::/65'], 'fd15::8000:0:0:0/112'],
  ['a full range gives nothing', '10.15.0.0/23', 24, ['10.15.0.0/24', '10.15.1.1/32'], undefined],
  ['a range that is covered from outside gives nothing', '10.15.0.0/16', 24, ['10.0.0.0/8'], undefined],
  ['a range of the size of one part gives itself', '10.15.0.0/26', 26, [], '10.15.0.0/26'],
];
for (const [name, range, length, obstacles, expected] of searches) {
  test(name, () => {
    assert.equal(firstFree(Prefix.parse(range), length, taken(...obstacles))?.toString(), expected);
  });
}

for (const bad of [
  '0.0.0.0/0',
  '127.0.0.0/24',
  '169.254.1.0/24',
  '224.0.0.0/24',
  '240.0.0.0/8',
  '::/0',
  '::1/128',
  'fe80::/64',
  'ff02::/64',
]) {
  test(`${bad} is no range for containers`, () => {
    assert.ok(findOverlap(Prefix.parse(bad), []));
  });
}

test('what is found is free, lies in the range and leaves no lower part free', () => {
  const obstacle = fc
    .tuple(fc.nat(0xffff), fc.integer({ min: 18, max: 32 }))
    .map(([host, length]) => new Prefix(IpAddress.fromBigInt(0x0a0f0000n + BigInt(host), 4), length));
  fc.assert(
    fc.property(fc.array(obstacle, { maxLength: 20 }), fc.integer({ min: 20, max: 26 }), (prefixes, length) => {
      const range = Prefix.parse('10.15.0.0/18');
      const obstacles = prefixes.map((prefix) => ({ prefix, by: '' }));
      const parts = Array.from({ length: 2 ** (length - range.length) }, (_, index) => {
        return new Prefix(range.first.add(BigInt(index) << BigInt(32 - length)), length);
      });
      const expected = parts.find((part) => !prefixes.some((prefix) => prefix.overlaps(part)));
      assert.equal(firstFree(range, length, obstacles)?.toString(), expected?.toString());
    }),
  );
});
