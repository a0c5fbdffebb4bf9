// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { readBtf, readObjectTypes } from './btf.ts';

const INT = 1;
const STRUCT = 4;
const ENUM = 6;
const ENUM64 = 19;

/** Builds a .BTF section by hand, type by type. */
class BtfBuilder {
  readonly #types: Buffer[] = [];
  #strings = '\0';

  type(kind: number, name: string, vlen: number, sizeOrType: number, trailer: number[]): this {
    const words = [this.#string(name), (kind << 24) | vlen, sizeOrType, ...trailer];
    const buffer = Buffer.alloc(words.length * 4);
    for (const [i, word] of words.entries()) buffer.writeInt32LE(word | 0, i * 4);
    this.#types.push(buffer);
    return this;
  }

  struct(name: string, size: number, members: Record<string, number>): this {
    const trailer = Object.entries(members).flatMap(([member, bits]) => [this.#string(member), 1, bits]);
    return this.type(STRUCT, name, Object.keys(members).length, size, trailer);
  }

  enum(name: string, values: Record<string, number>): this {
    const trailer = Object.entries(values).flatMap(([key, value]) => [this.#string(key), value]);
    return this.type(ENUM, name, Object.keys(values).length, 4, trailer);
  }

  finish(): Buffer {
    const types = Buffer.concat(this.#types);
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    header[2] = 1;
    header.writeUInt32LE(24, 4);
    header.writeUInt32LE(types.length, 12);
    header.writeUInt32LE(types.length, 16);
    header.writeUInt32LE(this.#strings.length, 20);
    return Buffer.concat([header, types, Buffer.from(this.#strings)]);
  }

  #string(text: string): number {
    if (text === '') return 0;
    this.#strings += `${text}\0`;
    return this.#strings.length - text.length - 1;
  }
}

test('structures and enums are found among other types', () => {
  const data = new BtfBuilder()
    .type(INT, 'unsigned int', 0, 4, [32])
    .struct('endpoint_key', 20, { addr: 0, family: 128 })
    .type(ENUM64, 'wide', 1, 8, [0, 1, 2])
    .enum('drop_reason', { DROP_POLICY: -133, DROP_INVALID: -134 })
    .finish();
  const { structs, enums } = readBtf(data);
  assert.deepEqual(structs.get('endpoint_key'), {
    name: 'endpoint_key',
    size: 20,
    members: [
      { name: 'addr', offset: 0 },
      { name: 'family', offset: 16 },
    ],
  });
  assert.deepEqual(
    [...(enums.get('drop_reason') ?? [])],
    [
      ['DROP_POLICY', -133],
      ['DROP_INVALID', -134],
    ],
  );
});

test('bytes that are no BTF or no ELF, or only the beginning of one, are refused as such', () => {
  const whole = new BtfBuilder().struct('a', 8, { b: 0, c: 32 }).enum('e', { X: 1 }).finish();
  for (let length = 0; length < whole.length; length++) {
    const part = whole.subarray(0, length);
    try {
      readBtf(part);
    } catch (error) {
      assert.ok(isCiliumError(error, 'InvalidArgument'), `length ${length}`);
    }
  }
  const refuses = (data: Uint8Array): boolean => {
    try {
      readObjectTypes(Buffer.from(data));
      return false;
    } catch (error) {
      return isCiliumError(error, 'InvalidArgument');
    }
  };
  const elf = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  fc.assert(fc.property(fc.uint8Array(), refuses));
  fc.assert(fc.property(fc.uint8Array({ minLength: 64 }), (rest) => refuses(Buffer.concat([elf, rest]))));
});
