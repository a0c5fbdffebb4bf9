// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../../errors/cilium-error.ts';
import type { KvEntry } from '../kvstore.ts';
import { decodeRangeResponse } from './range-response.ts';

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    const last = rest < 128n;
    bytes.push(Number(rest & 127n) | (last ? 0 : 128));
    if (last) return Buffer.from(bytes);
  }
}

/** A field as protobuf writes it: numbers as varints, the rest with its length. */
function field(number: number, content: bigint | number | string | Buffer): Buffer {
  if (typeof content === 'bigint' || typeof content === 'number') {
    return Buffer.concat([varint(BigInt(number << 3)), varint(BigInt(content))]);
  }
  const bytes = Buffer.from(content);
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function keyValue({ key, value, createRevision, modRevision, leaseId }: KvEntry, namespace: string): Buffer {
  return Buffer.concat([
    field(1, namespace + key),
    field(2, createRevision),
    field(3, modRevision),
    field(4, 7), // the version
    ...(value === '' ? [] : [field(5, value)]),
    ...(leaseId === undefined ? [] : [field(6, BigInt(`0x${leaseId}`))]),
  ]);
}

function response(revision: number, entries: readonly KvEntry[], more: boolean, namespace = ''): Buffer {
  const header = Buffer.concat([field(1, 2n ** 63n + 1n), field(2, 5), field(3, revision), field(4, 2)]);
  return Buffer.concat([
    field(1, header),
    ...entries.map((entry) => field(2, keyValue(entry, namespace))),
    ...(more ? [field(3, 1)] : []),
    field(4, entries.length),
  ]);
}

const revision = fc.oneof(fc.nat(), fc.integer({ min: 2 ** 27, max: 2 ** 30 }), fc.maxSafeNat());
const entry: fc.Arbitrary<KvEntry> = fc
  .record({
    key: fc.string({ unit: 'grapheme' }),
    value: fc.string({ unit: 'grapheme', maxLength: 300 }),
    createRevision: revision,
    modRevision: revision,
    lease: fc.option(fc.bigInt({ min: 1n, max: 2n ** 63n - 1n })),
  })
  .map(({ lease, ...rest }) => (lease === null ? rest : { ...rest, leaseId: lease.toString(16) }));

test('whatever a page holds is read as it was written', () => {
  fc.assert(
    fc.property(revision, fc.array(entry, { maxLength: 5 }), fc.boolean(), fc.constantFrom('', 'ns/ü/'), (...args) => {
      const [at, entries, more, namespace] = args;
      const bytes = response(at, entries, more, namespace);
      assert.deepEqual(decodeRangeResponse(bytes, Buffer.byteLength(namespace)), { revision: at, entries, more });
    }),
  );
});

test('fields that are not known are passed over', () => {
  const bytes = Buffer.concat([
    field(99, 'something'),
    field(98, 12n),
    Buffer.concat([varint(BigInt((97 << 3) | 5)), Buffer.alloc(4)]),
    Buffer.concat([varint(BigInt((96 << 3) | 1)), Buffer.alloc(8)]),
    response(3, [], false),
  ]);
  assert.deepEqual(decodeRangeResponse(bytes, 0), { revision: 3, entries: [], more: false });
});

test('a message that is cut off or garbled is an error or another message, and never without an end', () => {
  const whole = response(300, [{ key: 'a/b', value: 'text', createRevision: 1, modRevision: 2, leaseId: '7f' }], true);
  for (let length = 1; length < whole.length; length++) {
    try {
      decodeRangeResponse(whole.subarray(0, length), 0);
    } catch (error) {
      assert.ok(isCiliumError(error, 'Internal'), String(error));
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decodeRangeResponse(Buffer.from(bytes), 0);
      } catch (error) {
        assert.ok(isCiliumError(error, 'Internal'), String(error));
      }
    }),
  );
});
