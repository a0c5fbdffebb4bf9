// SPDX-License-Identifier: Apache-2.0

/** An Ethernet address as six bytes and as text "02:42:ac:11:00:02". */
import { CiliumError } from '../errors/cilium-error.ts';

export class MacAddress {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    if (bytes.length !== 6) throw new CiliumError('InvalidArgument', `a MAC address has 6 bytes, not ${bytes.length}`);
    this.bytes = bytes;
  }

  /** Parses six hexadecimal pairs separated by colons; refuses multicast addresses and all zeros. */
  static parse(text: string): MacAddress {
    if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
      throw new CiliumError('InvalidArgument', `"${text}" is not a MAC address (expected 02:42:ac:11:00:02)`);
    }
    const bytes = Uint8Array.from(text.split(':'), (pair) => parseInt(pair, 16));
    if ((bytes[0]! & 1) !== 0 || bytes.every((byte) => byte === 0)) {
      throw new CiliumError('InvalidArgument', `"${text}" is not the address of one interface`);
    }
    return new MacAddress(bytes);
  }

  /** A locally administered unicast address made from six random bytes. */
  static fromRandom(random: Uint8Array): MacAddress {
    const bytes = Uint8Array.from(random.subarray(0, 6));
    bytes[0] = (bytes[0]! & 0xfc) | 0x02;
    return new MacAddress(bytes);
  }

  toString(): string {
    return Array.from(this.bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  toJSON(): string {
    return this.toString();
  }
}
