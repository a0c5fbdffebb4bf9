// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from './ip.ts';

const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
// Runs of zeros are what the text form of IPv6 is about.
const v6 = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])));
const address = fc.oneof(v4, v6).map((bytes) => new IpAddress(bytes));
const prefix = fc.tuple(address, fc.nat(128)).map(([base, length]) => new Prefix(base, Math.min(length, base.bits)));

for (const [text, canonical] of [
  ['10.15.0.1', '10.15.0.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['::', '::'],
  ['::1', '::1'],
  ['FD15:0:0:0:0:0:0:1', 'fd15::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['1:2:3:4:5:6:0:0', '1:2:3:4:5:6::'],
  ['::ffff:10.0.0.1', '::ffff:a00:1'],
] as const) {
  test(`"${text}" is the address ${canonical}`, () => {
    const parsed = IpAddress.parse(text);
    assert.equal(parsed.toString(), canonical);
    assert.equal(JSON.stringify(parsed), `"${canonical}"`);
    assert.ok(IpAddress.isValid(text));
  });
}

for (const text of [
  '',
  '10.0.0',
  '10.0.0.256',
  '10.0.0.1/32',
  'fe80::1%eth0',
  ':::',
  '1::2::3',
  'g::',
  '0x0a.0.0.1',
  ' 1.2.3.4',
  '10.0.0.1 ',
]) {
  test(`"${text}" is no address`, () => {
    assert.equal(IpAddress.isValid(text), false);
    assert.throws(
      () => IpAddress.parse(text),
      (error) => isCiliumError(error, 'InvalidArgument') && error.message.includes(`"${text}"`),
    );
  });
}

for (const text of [
  '10.0.0.0/33',
  '10.0.0.0/',
  '10.0.0.0/-1',
  '10.0.0.0/08',
  '10.0.0.0/8/8',
  '::/129',
  'x/8',
  '/8',
  '10.0.0.0/8 ',
]) {
  test(`"${text}" is no prefix`, () => {
    assert.throws(
      () => Prefix.parse(text),
      (error) => isCiliumError(error, 'InvalidArgument'),
    );
  });
}

test('a prefix clears its host bits, and an address alone is one of full length', () => {
  assert.equal(Prefix.parse('10.15.3.7/22').toString(), '10.15.0.0/22');
  assert.equal(Prefix.parse('fd15:1:2:3:4::/63').toString(), 'fd15:1:2:2::/63');
  assert.equal(Prefix.parse('10.0.0.1').toString(), '10.0.0.1/32');
  assert.ok(Prefix.of(IpAddress.parse('::1')).isHost);
  const range = Prefix.parse('10.0.0.0/30');
  assert.deepEqual([range.first.toString(), range.last.toString(), range.size], ['10.0.0.0', '10.0.0.3', 4n]);
});

test('text, bytes and number are forms of the same address', () => {
  fc.assert(
    fc.property(address, (one) => {
      assert.ok(IpAddress.parse(one.toString()).equals(one), one.toString());
      assert.ok(IpAddress.fromBigInt(one.toBigInt(), one.family).equals(one));
      assert.equal(Prefix.parse(Prefix.of(one).toString()).address.toString(), one.toString());
    }),
  );
});

test('order is by family, then by value', () => {
  fc.assert(
    fc.property(address, address, (a, b) => {
      const expected = a.family - b.family || Number(a.toBigInt() > b.toBigInt()) - Number(a.toBigInt() < b.toBigInt());
      assert.equal(Math.sign(a.compare(b)), Math.sign(expected));
      assert.equal(a.equals(b), expected === 0);
    }),
  );
});

test('adding goes to the neighbours and stops at the ends of the family', () => {
  assert.equal(IpAddress.parse('10.0.0.255').add(1n).toString(), '10.0.1.0');
  assert.equal(IpAddress.parse('fd15::').add(-1n).toString(), 'fd14:ffff:ffff:ffff:ffff:ffff:ffff:ffff');
  assert.throws(() => IpAddress.parse('255.255.255.255').add(1n), /outside the IPv4/);
  assert.throws(() => IpAddress.parse('::').add(-1n), /outside the IPv6/);
});

test('a prefix contains what the system says it contains', () => {
  fc.assert(
    fc.property(prefix, address, (range, one) => {
      const list = new BlockList();
      const type = range.family === 4 ? 'ipv4' : 'ipv6';
      list.addSubnet(range.address.toString(), range.length, type);
      // One family at a time: the system takes ::ffff:a.b.c.d for IPv4, we don't.
      const expected = one.family === range.family && list.check(one.toString(), type);
      assert.equal(range.contains(one), expected);
      assert.ok(range.contains(range.first) && range.contains(range.last));
    }),
  );
});

test('prefixes overlap exactly when one contains the other', () => {
  fc.assert(
    fc.property(prefix, prefix, (a, b) => {
      const share = a.family === b.family && a.first.compare(b.last) <= 0 && b.first.compare(a.last) <= 0;
      assert.equal(a.overlaps(b), share);
      assert.equal(a.overlaps(b), b.overlaps(a));
      assert.equal(a.equals(b), a.contains(b) && b.contains(a));
    }),
  );
});

test('bytes of another length are refused', () => {
  assert.throws(() => new IpAddress(new Uint8Array(5)), /4 or 16 bytes, not 5/);
  assert.throws(() => new Prefix(IpAddress.parse('10.0.0.0'), 33), /outside 0\.\.32/);
});
