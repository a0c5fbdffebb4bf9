// SPDX-License-Identifier: Apache-2.0

/** Addresses inside keys and values: 16 bytes with an IPv4 address in the first four, or exactly as long as the family. */
import { IpAddress, type IpFamily } from '../../net/ip.ts';

/** ADDR_FAMILY_* of abi.h. */
export const ADDR_FAMILY = { 4: 1, 6: 2 } as const;

export const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;

/** Writes 16 bytes at `offset`. */
export function writeAddress(target: Uint8Array, offset: number, address: IpAddress): void {
  target.fill(0, offset, offset + 16);
  target.set(address.bytes, offset);
}

/** Reads an address of `family` that starts at `offset`; the bytes are copied (`slice` of a Buffer would not). */
export function readAddress(source: Uint8Array, offset: number, family: IpFamily): IpAddress {
  return new IpAddress(new Uint8Array(source.subarray(offset, offset + ADDRESS_BYTES[family])));
}

/** The family that an ADDR_FAMILY_* means; undefined for 0 and what is not known. */
export function familyOf(value: number): IpFamily | undefined {
  if (value === ADDR_FAMILY[4]) return 4;
  return value === ADDR_FAMILY[6] ? 6 : undefined;
}
