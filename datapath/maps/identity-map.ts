// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_identities: which of the cluster's identities the policy maps of this node know, one bit each. What another node
 * sends with an identity that is not there, or to one, is dropped.
 *
 * The order that keeps deny rules whole: policy maps, then the bit, then addresses with that identity; and back the other
 * way round. Identities of this node's own containers need the bit only where other nodes' containers have them, too.
 *
 * C twin: IDENTITY_WORDS and IDENTITY_WORD_BITS in bpf-src/lib/abi.h.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';

export const IDENTITY_WORDS = 1024;
export const IDENTITY_WORD_BITS = 64;
const WORD_BYTES = IDENTITY_WORD_BITS / 8;

/** The kernel's words as they are in memory: bit i % 8 of byte i / 8, on the little-endian machines that there are. */
export class IdentityMap {
  readonly #map: BpfMap;
  /** As the kernel has it: nobody else writes there while this agent holds the pins. */
  readonly #bits = Buffer.alloc(IDENTITY_WORDS * WORD_BYTES);

  constructor(map: BpfMap) {
    this.#map = map;
    for (const { key, value } of map.entries()) value.copy(this.#bits, key.readUInt32LE() * WORD_BYTES);
  }

  has(id: number): boolean {
    return (this.#bits[byteOf(id)]! & bitOf(id)) !== 0;
  }

  /**
   * In force when the call returns.
   * @param id 256–65535; others throw `Internal`: reserved ones are always known, those of one node never come from another
   */
  set(id: number, known: boolean): void {
    if (this.has(id) === known) return;
    this.#bits[byteOf(id)]! ^= bitOf(id);
    this.#write(Math.floor(id / IDENTITY_WORD_BITS));
  }

  /** In ascending order. */
  list(): number[] {
    const ids: number[] = [];
    for (const [i, byte] of this.#bits.entries()) {
      for (let bit = 0; byte >> bit !== 0; bit++) if ((byte >> bit) & 1) ids.push(i * 8 + bit);
    }
    return ids;
  }

  /** Makes exactly these known, word by word. */
  replace(ids: Iterable<number>): void {
    const wanted = Buffer.alloc(this.#bits.length);
    for (const id of ids) wanted[byteOf(id)]! |= bitOf(id);
    for (let word = 0; word < IDENTITY_WORDS; word++) {
      const [start, end] = [word * WORD_BYTES, (word + 1) * WORD_BYTES];
      if (wanted.compare(this.#bits, start, end, start, end) === 0) continue;
      wanted.copy(this.#bits, start, start, end);
      this.#write(word);
    }
  }

  #write(word: number): void {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(word);
    this.#map.update(key, this.#bits.subarray(word * WORD_BYTES, (word + 1) * WORD_BYTES));
  }
}

function byteOf(id: number): number {
  if (Number.isInteger(id) && id >= GLOBAL_IDENTITY_MIN && id <= GLOBAL_IDENTITY_MAX) return id >> 3;
  const range = `${GLOBAL_IDENTITY_MIN}–${GLOBAL_IDENTITY_MAX}`;
  throw new CiliumError('Internal', `identity ${id} has no bit in cilium_identities, which are for ${range}`, { id });
}

function bitOf(id: number): number {
  return 1 << (id & 7);
}
