// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeEchoReply, encodeEchoRequest } from './echo-message.ts';

const TOKEN = Buffer.from('0011223344556677', 'hex');

test('an echo request is what ping sends', () => {
  // Type, code, checksum (18bb by hand: the ones' complement of 0800 + 1234 + 0011 + 2233 + 4455 + 6677), identifier, sequence.
  assert.equal(encodeEchoRequest(4, 0x1234, TOKEN).toString('hex'), '080018bb' + '00001234' + '0011223344556677');
  assert.equal(encodeEchoRequest(6, 0x1234, TOKEN).toString('hex'), '80000000' + '00001234' + '0011223344556677');
  assert.equal(encodeEchoRequest(6, 0x1_0001, TOKEN).readUInt16BE(6), 1, 'sequence numbers begin anew');
});

const ipv4Header = (bytes: number): string => (0x40 + bytes / 4).toString(16).padEnd(bytes * 2, '0');

for (const [name, family, packet, expected] of [
  ['an IPv4 reply', 4, `${ipv4Header(20)}0000abcd00000001${TOKEN.toString('hex')}`, TOKEN],
  ['an IPv4 reply with options', 4, `${ipv4Header(24)}0000abcd00000001${TOKEN.toString('hex')}ff`, TOKEN],
  ['an IPv6 reply', 6, `8100abcd00000001${TOKEN.toString('hex')}`, TOKEN],
  ['a request of our own over loopback', 4, `${ipv4Header(20)}0800abcd00000001${TOKEN.toString('hex')}`, undefined],
  ['a reply that is too short', 6, '8100abcd000000010011', undefined],
  ['nothing', 4, '', undefined],
  ['a header that ends beyond the packet', 4, ipv4Header(60).slice(0, 40), undefined],
] as const) {
  test(`${name} is ${expected === undefined ? 'not taken for a reply' : 'understood'}`, () => {
    const token = decodeEchoReply(family, Buffer.from(packet, 'hex'));
    assert.equal(token?.toString('hex'), expected?.toString('hex'));
  });
}
