// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../errors/cilium-error.ts';
import { MacAddress } from './mac.ts';

test('text and bytes are forms of the same address', () => {
  const mac = MacAddress.parse('02:42:AC:11:00:02');
  assert.equal(mac.toString(), '02:42:ac:11:00:02');
  assert.equal(JSON.stringify({ mac }), '{"mac":"02:42:ac:11:00:02"}');
  assert.deepEqual([...mac.bytes], [0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
});

for (const text of [
  '',
  '02:42:ac:11:00',
  '02-42-ac-11-00-02',
  '02:42:ac:11:00:0g',
  '01:00:5e:00:00:01',
  'ff:ff:ff:ff:ff:ff',
  '00:00:00:00:00:00',
]) {
  test(`"${text}" is not the address of one interface`, () => {
    assert.throws(
      () => MacAddress.parse(text),
      (error) => isCiliumError(error, 'InvalidArgument') && error.message.includes(`"${text}"`),
    );
  });
}

test('whatever the random bytes, the address is a local one of one interface', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 8 }), (random) => {
      const mac = MacAddress.fromRandom(random);
      assert.equal(mac.bytes[0]! & 0x03, 0x02);
      assert.equal(MacAddress.parse(mac.toString()).toString(), mac.toString());
      assert.deepEqual([...mac.bytes.subarray(1)], [...random.subarray(1, 6)]);
    }),
  );
  assert.throws(() => new MacAddress(new Uint8Array(5)), /6 bytes, not 5/);
});
