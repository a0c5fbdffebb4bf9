// SPDX-License-Identifier: Apache-2.0

/**
 * Addresses and prefixes as values: bytes for BPF keys, canonical text for people and for use as a map key.
 *
 * Text is parsed by the ip-address package; everything else works on bytes. IPv4-mapped IPv6 addresses stay IPv6.
 */
import { Address4, Address6 } from 'ip-address';
import { CiliumError } from '../errors/cilium-error.ts';

export type IpFamily = 4 | 6;

/**
 * An IPv4 or IPv6 address. Immutable; compare with `equals` or by `toString()`.
 *
 * An agent of a large cluster holds 50,000 of them: those of IPv4 are kept as a number, since an array of bytes takes four
 * times as much as all the rest.
 */
export class IpAddress {
  readonly family: IpFamily;
  /** The bytes of an IPv6 address, not to be written to; of an IPv4 address a number, negative from 128.0.0.0 on. */
  readonly packed: Uint8Array | number;
  #text: string | undefined;

  constructor(bytes: Uint8Array) {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new CiliumError('InvalidArgument', `an address has 4 or 16 bytes, not ${bytes.length}`);
    }
    this.family = bytes.length === 4 ? 4 : 6;
    this.packed = bytes.length === 4 ? (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]! : bytes;
  }

  /** 4 or 16 bytes in network order. Not to be written to. */
  get bytes(): Uint8Array {
    const value = this.packed;
    if (typeof value !== 'number') return value;
    return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  }

  /** Parses an address without prefix length or zone; throws `InvalidArgument` naming the text. */
  static parse(text: string): IpAddress {
    const quad = parseDottedQuad(text);
    if (quad !== undefined) {
      const address = new IpAddress(quad);
      address.#text = text; // there is one way to write it
      return address;
    }
    const bytes = parseAddress(text);
    if (bytes === undefined) throw new CiliumError('InvalidArgument', `"${text}" is not an IP address`);
    return new IpAddress(bytes);
  }

  static isValid(text: string): boolean {
    return parseAddress(text) !== undefined;
  }

  /** The number of bits: 32 or 128. */
  get bits(): 32 | 128 {
    return this.family === 4 ? 32 : 128;
  }

  get isUnspecified(): boolean {
    return this.bytes.every((byte) => byte === 0);
  }

  equals(other: IpAddress): boolean {
    const [own, its] = [this.packed, other.packed];
    if (typeof own === 'number' || typeof its === 'number') return own === its;
    return Buffer.compare(own, its) === 0;
  }

  /** Orders IPv4 before IPv6, then by value. */
  compare(other: IpAddress): number {
    if (this.family !== other.family) return this.family - other.family;
    return Buffer.compare(this.bytes, other.bytes);
  }

  /** The address `offset` after this one; throws `InvalidArgument` beyond the end of the family's range. */
  add(offset: bigint): IpAddress {
    return IpAddress.fromBigInt(this.toBigInt() + offset, this.family);
  }

  toBigInt(): bigint {
    let value = 0n;
    for (const byte of this.bytes) value = (value << 8n) | BigInt(byte);
    return value;
  }

  static fromBigInt(value: bigint, family: IpFamily): IpAddress {
    const length = family === 4 ? 4 : 16;
    if (value < 0n || value >> BigInt(length * 8) !== 0n) {
      throw new CiliumError('InvalidArgument', `${value} is outside the IPv${family} address range`);
    }
    const bytes = new Uint8Array(length);
    for (let i = length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
    return new IpAddress(bytes);
  }

  /** Canonical text: dotted quad, or RFC 5952. */
  toString(): string {
    return (this.#text ??= formatAddress(this.bytes));
  }

  toJSON(): string {
    return this.toString();
  }
}

/** An address range written as address/length; the bits behind the length are zero. Immutable. */
export class Prefix {
  readonly address: IpAddress;
  readonly length: number;
  #text: string | undefined;

  /** Masks `address`; throws `InvalidArgument` when `length` does not fit the family. */
  constructor(address: IpAddress, length: number) {
    if (!Number.isInteger(length) || length < 0 || length > address.bits) {
      throw new CiliumError(
        'InvalidArgument',
        `prefix length ${length} is outside 0..${address.bits} of IPv${address.family}`,
      );
    }
    this.address = length === address.bits ? address : new IpAddress(maskBytes(address.bytes, length));
    this.length = length;
  }

  /** Parses "address/length"; a bare address means its full length. Host bits are cleared. */
  static parse(text: string): Prefix {
    const slash = text.indexOf('/');
    if (slash < 0) return Prefix.of(IpAddress.parse(text));
    const digits = text.slice(slash + 1);
    const address = parseAddress(text.slice(0, slash));
    if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(digits)) {
      throw new CiliumError('InvalidArgument', `"${text}" is not a prefix (expected address/length)`);
    }
    return new Prefix(new IpAddress(address), Number(digits));
  }

  /** The prefix that holds just this address. */
  static of(address: IpAddress): Prefix {
    return new Prefix(address, address.bits);
  }

  get family(): IpFamily {
    return this.address.family;
  }

  get isHost(): boolean {
    return this.length === this.address.bits;
  }

  contains(other: IpAddress | Prefix): boolean {
    const address = other instanceof Prefix ? other.address : other;
    const length = other instanceof Prefix ? other.length : other.bits;
    if (address.family !== this.family || length < this.length) return false;
    const [own, its] = [this.address.packed, address.packed];
    if (typeof own === 'number' && typeof its === 'number')
      return this.length === 0 || (own ^ its) >>> (32 - this.length) === 0;
    return Buffer.compare(maskBytes(address.bytes, this.length), this.address.bytes) === 0;
  }

  overlaps(other: Prefix): boolean {
    return this.contains(other) || other.contains(this);
  }

  equals(other: Prefix): boolean {
    return this.length === other.length && this.address.equals(other.address);
  }

  /** How many addresses it holds. */
  get size(): bigint {
    return 1n << BigInt(this.address.bits - this.length);
  }

  get first(): IpAddress {
    return this.address;
  }

  get last(): IpAddress {
    return this.address.add(this.size - 1n);
  }

  toString(): string {
    return (this.#text ??= `${this.address.toString()}/${this.length}`);
  }

  toJSON(): string {
    return this.toString();
  }
}

function parseAddress(text: string): Uint8Array | undefined {
  if (text.includes('/') || text.includes('%')) return undefined;
  try {
    if (text.includes(':')) return Uint8Array.from(padStart(new Address6(text).toUnsignedByteArray(), 16));
    const plain = parseDottedQuad(text);
    if (plain !== undefined) return plain;
    if (!/^[0-9.]+$/.test(text)) return undefined;
    return Uint8Array.from(padStart(new Address4(text).toArray(), 4));
  } catch {
    return undefined; // ip-address throws AddressError on any malformed text
  }
}

/** Four numbers without leading zeros, which is how nearly all IPv4 addresses are written; undefined: anything else. */
function parseDottedQuad(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let index = 0;
  let value = -1;
  for (let at = 0; at <= text.length; at++) {
    const digit = text.charCodeAt(at) - 48; // NaN at the end
    if (digit >= 0 && digit <= 9) {
      if (value === 0) return undefined;
      value = value < 0 ? digit : value * 10 + digit;
      if (value > 255) return undefined;
    } else {
      const isEnd = at === text.length;
      if (value < 0 || index > 3 || isEnd !== (index === 3) || (!isEnd && text[at] !== '.')) return undefined;
      bytes[index++] = value;
      value = -1;
    }
  }
  return bytes;
}

function padStart(bytes: readonly number[], length: number): number[] {
  return [...new Array<number>(Math.max(0, length - bytes.length)).fill(0), ...bytes];
}

function maskBytes(bytes: Uint8Array, length: number): Uint8Array {
  const masked = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    const bits = Math.min(8, Math.max(0, length - i * 8));
    masked[i] = bytes[i]! & (0xff00 >> bits);
  }
  return masked;
}

function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i]! << 8) | bytes[i + 1]!);
  // RFC 5952: the longest run of two or more zero groups (the first of equals) becomes "::".
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) [best, bestLength] = [i, end - i];
    if (end > i) i = end;
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best < 0) return hex(groups);
  return `${hex(groups.slice(0, best))}::${hex(groups.slice(best + bestLength))}`;
}
