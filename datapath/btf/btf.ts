// SPDX-License-Identifier: Apache-2.0

/**
 * Reads the type information (BTF) that clang puts into a BPF object: structures, enums, global variables.
 *
 * Format: Documentation/bpf/btf.rst of the kernel. Only what our ABI uses is kept; the rest is skipped over.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { cString, ElfFile } from './elf.ts';

const BTF_MAGIC = 0xeb9f;

const KIND = {
  int: 1,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  funcProto: 13,
  var: 14,
  datasec: 15,
  declTag: 17,
  enum64: 19,
} as const;

export interface BtfMember {
  readonly name: string;
  /** In bytes; our ABI has no bit fields. */
  readonly offset: number;
}

export interface BtfStruct {
  readonly name: string;
  readonly size: number;
  readonly members: readonly BtfMember[];
}

/** A global variable of the object, such as a CONFIG of section .rodata.config. */
export interface ObjectVariable {
  readonly name: string;
  readonly section: string;
  readonly offset: number;
  readonly size: number;
}

export interface ObjectTypes {
  /** Named structures; of two with the same name the first. */
  readonly structs: ReadonlyMap<string, BtfStruct>;
  /** Values of each named enum. */
  readonly enums: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly variables: readonly ObjectVariable[];
}

/** Bytes that follow the common 12 of a type, by kind: fixed part and part for each of the `vlen` entries. */
function trailerBytes(kind: number, vlen: number): number {
  switch (kind) {
    case KIND.int:
    case KIND.var:
    case KIND.declTag:
      return 4;
    case KIND.array:
      return 12;
    case KIND.struct:
    case KIND.union:
    case KIND.datasec:
    case KIND.enum64:
      return 12 * vlen;
    case KIND.enum:
    case KIND.funcProto:
      return 8 * vlen;
    default:
      return 0;
  }
}

/** Reads a compiled object; throws `InvalidArgument` when it is none or was built without `-g`. */
export function readObjectTypes(object: Buffer): ObjectTypes {
  const elf = new ElfFile(object);
  const section = elf.section('.BTF');
  if (section === undefined) throw new CiliumError('InvalidArgument', 'object has no .BTF section (build it with -g)');
  const types = readBtf(section);
  // Offsets in BTF's own list of variables are filled in by the linker only; the symbols have them already.
  const variables = elf.symbols().filter(({ section: name, size }) => size > 0 && name.startsWith('.rodata'));
  return { ...types, variables };
}

/** Reads the contents of a .BTF section; throws `InvalidArgument` when they are not whole. */
export function readBtf(data: Buffer): Omit<ObjectTypes, 'variables'> {
  if (data.length < 24 || data.readUInt16LE(0) !== BTF_MAGIC) {
    throw new CiliumError('InvalidArgument', 'not BTF in little-endian order');
  }
  try {
    return readTypes(data);
  } catch (cause) {
    throw new CiliumError('InvalidArgument', 'damaged BTF', {}, cause);
  }
}

function readTypes(data: Buffer): Omit<ObjectTypes, 'variables'> {
  const headerBytes = data.readUInt32LE(4);
  const typesStart = headerBytes + data.readUInt32LE(8);
  const typesEnd = typesStart + data.readUInt32LE(12);
  const strings = data.subarray(headerBytes + data.readUInt32LE(16));
  const structs = new Map<string, BtfStruct>();
  const enums = new Map<string, Map<string, number>>();
  for (let at = typesStart; at < typesEnd;) {
    const name = cString(strings, data.readUInt32LE(at));
    const info = data.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const vlen = info & 0xffff;
    const body = at + 12;
    if (kind === KIND.struct && !structs.has(name)) {
      // With the kind flag set the upper eight bits are the width of a bit field.
      const offsetMask = info >>> 31 === 1 ? 0xffffff : 0xffffffff;
      const members = Array.from({ length: vlen }, (_, i) => ({
        name: cString(strings, data.readUInt32LE(body + i * 12)),
        offset: ((data.readUInt32LE(body + i * 12 + 8) & offsetMask) >>> 0) / 8,
      }));
      structs.set(name, { name, size: data.readUInt32LE(at + 8), members });
    } else if (kind === KIND.enum) {
      const values = new Map<string, number>();
      for (let i = 0; i < vlen; i++) {
        values.set(cString(strings, data.readUInt32LE(body + i * 8)), data.readInt32LE(body + i * 8 + 4));
      }
      if (name !== '') enums.set(name, values);
    }
    at = body + trailerBytes(kind, vlen);
  }
  return { structs, enums };
}
