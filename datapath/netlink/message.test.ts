// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MessageWriter, readAcknowledgement, readAttributes, readMessages, readString } from './message.ts';

test('a message carries its length, flags, sequence number and attributes, each padded to four bytes', () => {
  const message = new MessageWriter(16, 4)
    .raw(Buffer.alloc(4))
    .string(3, 'lxc1')
    .uint32(4, 1500)
    .uint8(7, 9)
    .finish(42);
  const expected = [
    '30000000' + '1000' + '0500' + '2a000000' + '00000000', // header
    '00000000',
    '0900' + '0300' + '6c786331' + '00000000', // "lxc1\0" and padding
    '0800' + '0400' + 'dc050000',
    '0500' + '0700' + '09000000',
  ];
  assert.equal(message.toString('hex'), expected.join(''));
});

test('attributes come back as they were written, nested ones inside their own', () => {
  const attribute = fc.tuple(fc.integer({ min: 1, max: 200 }), fc.uint8Array({ maxLength: 700 }));
  fc.assert(
    fc.property(fc.uniqueArray(attribute, { selector: ([type]) => type, maxLength: 6 }), (attributes) => {
      const writer = new MessageWriter(1, 0);
      writer.nested(300, () => attributes.forEach(([type, payload]) => void writer.attribute(type, payload)));
      const [message, ...others] = readMessages(writer.finish(1));
      assert.ok(message);
      assert.equal(others.length, 0);
      const nested = readAttributes(readAttributes(message.payload, 0).get(300)!, 0);
      assert.deepEqual(
        [...nested].map(([type, payload]) => [type, Uint8Array.from(payload)]),
        attributes,
      );
    }),
  );
});

test('an acknowledgement tells the errno and the words of the kernel', () => {
  const text = Buffer.from('Device not found\0');
  const request = Buffer.alloc(16);
  const attributes = new MessageWriter(0, 0).attribute(1, text).finish(0).subarray(16);
  const payload = Buffer.concat([Buffer.from([0xed, 0xff, 0xff, 0xff]), request, attributes]);
  assert.deepEqual(readAcknowledgement({ type: 2, flags: 0x300, sequence: 1, payload }), {
    errno: 19,
    text: 'Device not found',
  });
  assert.deepEqual(readAcknowledgement({ type: 2, flags: 0x100, sequence: 1, payload: Buffer.alloc(20) }), {
    errno: 0,
    text: '',
  });
});

test('bytes that are no messages are read without an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const data = Buffer.from(bytes);
      for (const message of readMessages(data)) assert.ok(message.payload.length <= data.length);
      readAttributes(data, 0);
      readString(data);
    }),
  );
});
