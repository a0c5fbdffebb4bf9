// SPDX-License-Identifier: Apache-2.0

/** Just enough of ELF (64-bit, little-endian, relocatable) to find sections and symbols of a compiled BPF object. */
import { CiliumError } from '../../errors/cilium-error.ts';

const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;

export interface ElfSymbol {
  readonly name: string;
  readonly section: string;
  readonly offset: number;
  readonly size: number;
}

export class ElfFile {
  readonly #data: Buffer;
  readonly #sections: readonly { readonly name: string; readonly data: Buffer; readonly link: number }[];

  /** Throws `InvalidArgument` when `data` is not such a file. */
  constructor(data: Buffer) {
    this.#data = data;
    if (data.length < 64 || data.readUInt32BE(0) !== 0x7f454c46 || data[4] !== 2 || data[5] !== 1) {
      throw new CiliumError('InvalidArgument', 'not a 64-bit little-endian ELF file');
    }
    try {
      this.#sections = this.#readSections();
    } catch (cause) {
      throw new CiliumError('InvalidArgument', 'damaged ELF section table', {}, cause);
    }
  }

  section(name: string): Buffer | undefined {
    return this.#sections.find((section) => section.name === name)?.data;
  }

  /** The symbols that name a piece of a section. */
  symbols(): ElfSymbol[] {
    const table = this.#sections.find((section) => section.name === '.symtab');
    if (table === undefined) return [];
    const strings = this.#sections[table.link]?.data ?? Buffer.alloc(1);
    const symbols: ElfSymbol[] = [];
    for (let at = 0; at + SYMBOL_BYTES <= table.data.length; at += SYMBOL_BYTES) {
      const name = cString(strings, table.data.readUInt32LE(at));
      const section = this.#sections[table.data.readUInt16LE(at + 6)];
      if (name === '' || section === undefined) continue;
      const [offset, size] = [table.data.readBigUInt64LE(at + 8), table.data.readBigUInt64LE(at + 16)];
      symbols.push({ name, section: section.name, offset: Number(offset), size: Number(size) });
    }
    return symbols;
  }

  #readSections(): { name: string; data: Buffer; link: number }[] {
    const data = this.#data;
    const start = Number(data.readBigUInt64LE(0x28));
    const count = data.readUInt16LE(0x3c);
    const header = (index: number): Buffer => {
      const at = start + index * SECTION_HEADER_BYTES;
      return data.subarray(at, at + SECTION_HEADER_BYTES);
    };
    const content = (entry: Buffer): Buffer => {
      const [offset, size] = [Number(entry.readBigUInt64LE(0x18)), Number(entry.readBigUInt64LE(0x20))];
      const isEmpty = entry.readUInt32LE(4) === 8; // SHT_NOBITS
      return isEmpty ? Buffer.alloc(0) : data.subarray(offset, offset + size);
    };
    const names = content(header(data.readUInt16LE(0x3e)));
    return Array.from({ length: count }, (_, index) => {
      const entry = header(index);
      return { name: cString(names, entry.readUInt32LE(0)), data: content(entry), link: entry.readUInt32LE(0x28) };
    });
  }
}

/** The zero-terminated text at `offset`. */
export function cString(data: Buffer, offset: number): string {
  const end = data.indexOf(0, offset);
  return data.toString('utf8', offset, end < 0 ? data.length : end);
}
