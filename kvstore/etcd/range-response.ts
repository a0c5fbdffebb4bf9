// SPDX-License-Identifier: Apache-2.0

/**
 * Reads etcd's RangeResponse (api/etcdserverpb/rpc.proto) straight into our entries.
 *
 * The generic decoder makes five objects and four texts of numbers for each entry before ours is made of them; for the
 * tens of thousands that an agent reads when it joins, collecting that garbage took longer than all the rest.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KvEntry } from '../kvstore.ts';

export interface RangePage {
  readonly revision: number;
  readonly entries: readonly KvEntry[];
  /** There are more than were asked for. */
  readonly more: boolean;
}

/** Numbers of fields, with the type of their content on the wire: varint 0, bytes 2. */
const RESPONSE = { header: 1, kvs: 2, more: 3 } as const;
const HEADER = { revision: 3 } as const;
const KEY_VALUE = { key: 1, createRevision: 2, modRevision: 3, value: 5, lease: 6 } as const;
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
/** How far a varint reaches into each half of a 64-bit number. */
const [LOW_BITS, LOW_SPAN] = [28, 2 ** 28];

/** `namespaceBytes`: how much of each key is the namespace. Throws `Internal` for bytes that are no such message. */
export function decodeRangeResponse(bytes: Buffer, namespaceBytes: number): RangePage {
  const reader = new WireReader(bytes);
  const entries: KvEntry[] = [];
  let revision = 0;
  let more = false;
  while (reader.nextField(bytes.length)) {
    if (reader.field === RESPONSE.header) revision = readRevision(reader);
    else if (reader.field === RESPONSE.kvs) entries.push(readEntry(reader, namespaceBytes));
    else if (reader.field === RESPONSE.more) more = reader.number() !== 0;
    else reader.skip();
  }
  return { revision, entries, more };
}

function readRevision(reader: WireReader): number {
  const end = reader.endOfBytes();
  let revision = 0;
  while (reader.nextField(end)) {
    if (reader.field === HEADER.revision) revision = reader.number();
    else reader.skip();
  }
  return revision;
}

function readEntry(reader: WireReader, namespaceBytes: number): KvEntry {
  const end = reader.endOfBytes();
  let [key, value, leaseId] = ['', '', ''];
  let [createRevision, modRevision] = [0, 0];
  while (reader.nextField(end)) {
    if (reader.field === KEY_VALUE.key) key = reader.text(namespaceBytes);
    else if (reader.field === KEY_VALUE.value) value = reader.text(0);
    else if (reader.field === KEY_VALUE.createRevision) createRevision = reader.number();
    else if (reader.field === KEY_VALUE.modRevision) modRevision = reader.number();
    else if (reader.field === KEY_VALUE.lease) leaseId = reader.hexadecimal();
    else reader.skip();
  }
  return leaseId === ''
    ? { key, value, createRevision, modRevision }
    : { key, value, createRevision, modRevision, leaseId };
}

/** Protocol Buffers' wire format, as far as these messages use it. */
class WireReader {
  readonly #bytes: Buffer;
  #at = 0;
  #field = 0;
  #type = 0;
  /** Most entries of a list have the lease of the one before. */
  #lastHexadecimal = { low: 0, high: 0, text: '' };

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get field(): number {
    return this.#field;
  }

  /** Goes on to the next field; false at the end of the message. */
  nextField(end: number): boolean {
    if (this.#at > end) throw broken();
    if (this.#at === end) return false;
    const tag = this.number();
    this.#field = tag >>> 3;
    this.#type = tag & 7;
    return true;
  }

  /** Where the message or text that follows ends. */
  endOfBytes(): number {
    if (this.#type !== BYTES) throw broken();
    return this.#lengthEnd();
  }

  text(from: number): string {
    const end = this.endOfBytes();
    const text = this.#bytes.toString('utf8', Math.min(this.#at + from, end), end);
    this.#at = end;
    return text;
  }

  /** A number up to 2^53. */
  number(): number {
    const { low, high } = this.#varint();
    const number = high * LOW_SPAN + low;
    if (!Number.isSafeInteger(number)) throw broken();
    return number;
  }

  hexadecimal(): string {
    const { low, high } = this.#varint();
    const last = this.#lastHexadecimal;
    if (low === last.low && high === last.high) return last.text;
    const text = low === 0 && high === 0 ? '' : ((BigInt(high) << BigInt(LOW_BITS)) | BigInt(low)).toString(16);
    this.#lastHexadecimal = { low, high, text };
    return text;
  }

  skip(): void {
    if (this.#type === VARINT) this.#varint();
    else if (this.#type === FIXED64) this.#at += 8;
    else if (this.#type === BYTES) this.#at = this.#lengthEnd();
    else if (this.#type === FIXED32) this.#at += 4;
    else throw broken();
  }

  #lengthEnd(): number {
    const length = this.number();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw broken();
    return end;
  }

  /** The lower 28 bits and the rest. */
  #varint(): { readonly low: number; readonly high: number } {
    const bytes = this.#bytes;
    let low = 0;
    for (let shift = 0; shift < LOW_BITS; shift += 7) {
      const byte = bytes[this.#at++]!;
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) return { low, high: 0 };
    }
    let high = 0;
    for (let scale = 1; scale < 2 ** 42; scale *= 128) {
      const byte = bytes[this.#at++];
      if (byte === undefined) throw broken();
      high += (byte & 0x7f) * scale;
      if (byte < 0x80) return { low, high };
    }
    throw broken();
  }
}

function broken(): CiliumError {
  return new CiliumError('Internal', 'etcd sent an answer that is no RangeResponse');
}
