// SPDX-License-Identifier: Apache-2.0

/**
 * Brings one compiled object into the kernel: layouts compared, constants set, maps adopted from their pins or made and
 * pinned, programs checked by the verifier and pinned.
 *
 * A pinned map is adopted when type, sizes and flags are what the object wants. Otherwise (another version, another
 * configured size) it is replaced and its contents are lost: flows are judged as new, containers stay closed until the
 * agent has written their records again. Programs that are attached keep the old map until they are replaced.
 */
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Logger } from '../../runtime/logger.ts';
import { type ObjectVariable, readObjectTypes } from '../btf/btf.ts';
import { compareLayouts } from '../btf/layout.ts';
import { BpfMap, type MapSpec } from '../ffi/bpf-map.ts';
import { BpfObject } from '../ffi/bpf-object.ts';
import type { BpfProgram } from '../ffi/bpf-program.ts';
import { ALL_LAYOUTS } from '../maps/layouts.ts';

const CONFIG_SECTION = '.rodata.config';
const CONFIG_PREFIX = 'config_';

/** Values of the CONFIG variables by their name; bytes for arrays and what is in network order. */
export type ObjectConfig = Readonly<Record<string, number | Uint8Array>>;

export interface LoadRequest {
  readonly objectPath: string;
  readonly mapDir: string;
  readonly programDir: string;
  readonly config: ObjectConfig;
  /** Entries (bytes for the event ring) of maps that differ from what the C says. */
  readonly mapSizes: Readonly<Record<string, number>>;
  readonly log: Logger;
}

/** Handles on the object's programs, by name; their maps are to be had from the pins. */
export function loadObject(request: LoadRequest): Map<string, BpfProgram> {
  const { objectPath } = request;
  const types = readObjectTypes(readObject(objectPath));
  const problems = compareLayouts(ALL_LAYOUTS, types);
  if (problems.length > 0) {
    const message = `${objectPath} was built for another agent (${problems[0]}); rebuild with "make build"`;
    throw new CiliumError('Precondition', message, { problems });
  }
  return loadPrograms(request, types.variables);
}

function loadPrograms(request: LoadRequest, variables: readonly ObjectVariable[]): Map<string, BpfProgram> {
  const { objectPath, mapDir, programDir, config, mapSizes, log } = request;
  const object = BpfObject.open(objectPath);
  const programs = new Map<string, BpfProgram>();
  try {
    for (const name of object.mapNames.filter(isShared)) {
      prepareMap(object, name, `${mapDir}/${name}`, mapSizes[name], log);
    }
    writeConfig(object, variables, config);
    object.load();
    for (const name of object.programNames) {
      const program = object.program(name);
      programs.set(name, program);
      pinProgram(program, `${programDir}/${name}`);
    }
    return programs;
  } catch (error) {
    for (const program of programs.values()) program.close();
    throw error;
  } finally {
    object.close();
  }
}

export function readObject(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new CiliumError('Precondition', `cannot read ${path}; build it with "make build"`, { path }, cause);
  }
}

/** Maps of the datapath as a whole; others are one program's scratch space and are made anew with it. */
export function isShared(mapName: string): boolean {
  return mapName.startsWith('cilium_');
}

function prepareMap(object: BpfObject, name: string, path: string, size: number | undefined, log: Logger): void {
  if (size !== undefined) object.setMaxEntries(name, size);
  object.setPinPath(name, path);
  const pinned = BpfMap.openPinned(name, path);
  if (pinned === undefined) return;
  const reason = describeDifference(pinned.info, object.mapSpec(name));
  pinned.close();
  if (reason === undefined) return;
  log.warn('Replace pinned map, its contents are lost', { map: name, reason });
  rmSync(path);
}

/** What keeps a pinned map from being adopted; undefined when nothing does. */
export function describeDifference(pinned: MapSpec, wanted: MapSpec): string | undefined {
  const fields = ['type', 'keySize', 'valueSize', 'maxEntries', 'flags'] as const;
  const different = fields.find((field) => pinned[field] !== wanted[field]);
  return different && `${different} is ${pinned[different]}, ${wanted[different]} is wanted`;
}

function writeConfig(object: BpfObject, variables: readonly ObjectVariable[], config: ObjectConfig): void {
  for (const { name, section, offset, size } of variables) {
    if (section !== CONFIG_SECTION || !name.startsWith(CONFIG_PREFIX)) continue;
    const key = name.slice(CONFIG_PREFIX.length);
    const value = config[key];
    if (value === undefined) throw new CiliumError('Internal', `${object.name} wants a value for ${name}`);
    object.initialValue(section).set(encodeConfigValue(key, value, size), offset);
  }
}

/** The bytes of one constant; throws `Internal` when the value does not fit the variable. */
export function encodeConfigValue(name: string, value: number | Uint8Array, size: number): Uint8Array {
  if (typeof value !== 'number') {
    if (value.length === size) return value;
    throw new CiliumError('Internal', `constant ${name} has ${size} bytes, not ${value.length}`);
  }
  if (size > 4 || !Number.isInteger(value) || value < 0 || value >= 2 ** (8 * size)) {
    throw new CiliumError('Internal', `constant ${name} of ${size} bytes cannot hold ${value}`);
  }
  const bytes = Buffer.alloc(size);
  bytes.writeUIntLE(value, 0, size);
  return bytes;
}

/** Pins in the place of an older program in one step. */
function pinProgram(program: BpfProgram, path: string): void {
  const fresh = `${path}_new`; // a bpffs allows no dots
  rmSync(fresh, { force: true });
  program.pin(fresh);
  renameSync(fresh, path);
}
