// SPDX-License-Identifier: Apache-2.0

/**
 * Takes the programs of an earlier agent from their pins when loading the object again would give the same.
 *
 * The verifier needs about a second for our programs. So once an object is loaded, a marker (an empty folder named after a
 * hash of the object and its settings) stands beside the pins, and the next start with the same hash adopts the pinned
 * programs, provided that the maps they use are those that are pinned now.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { BpfMap } from '../ffi/bpf-map.ts';
import { BpfProgram } from '../ffi/bpf-program.ts';
import { isShared, loadObject, type LoadRequest, readObject } from './object-loader.ts';

export interface PinFolders {
  readonly mapDir: string;
  readonly programDir: string;
  /** Holds the markers. */
  readonly markerDir: string;
}

/** Makes the folders below the bpffs where maps and programs are pinned. */
export function pinFolders(bpfRoot: string): PinFolders {
  const folders = {
    mapDir: `${bpfRoot}/tc/globals`,
    programDir: `${bpfRoot}/cilium/programs`,
    markerDir: `${bpfRoot}/cilium/loaded`,
  };
  for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folders;
}

export interface AdoptRequest extends LoadRequest {
  readonly markerDir: string;
  /** Those that the object has. */
  readonly programNames: readonly string[];
}

/** `loadObject`, or what it would give. */
export function adoptOrLoad(request: AdoptRequest): Map<string, BpfProgram> {
  const { objectPath, markerDir } = request;
  const prefix = `${basename(objectPath, '.o')}_`;
  const marker = `${markerDir}/${prefix}${fingerprint(request)}`;
  if (existsSync(marker)) {
    const adopted = adoptPrograms(request);
    if (adopted !== undefined) return adopted;
  }
  // Without a marker while pins and programs change: a start that dies half-way is not taken for a whole one.
  for (const name of readdirSync(markerDir)) if (name.startsWith(prefix)) rmdirSync(`${markerDir}/${name}`);
  const loaded = loadObject(request);
  mkdirSync(marker);
  return loaded;
}

/** Forgets the programs of an object that is not wanted any more; those that are attached go with their devices. */
export function dropPins(object: string, programNames: readonly string[], folders: PinFolders): void {
  for (const name of readdirSync(folders.markerDir)) {
    if (name.startsWith(`${basename(object, '.o')}_`)) rmdirSync(`${folders.markerDir}/${name}`);
  }
  for (const name of programNames) rmSync(`${folders.programDir}/${name}`, { force: true });
}

/** Everything that decides what the loaded programs are. */
function fingerprint({ objectPath, config, mapSizes }: LoadRequest): string {
  const settings = JSON.stringify([Object.entries(config).sort(), Object.entries(mapSizes).sort()]);
  return createHash('sha256').update(readObject(objectPath)).update(settings).digest('hex').slice(0, 16);
}

/** The pinned programs; undefined when one is missing, or uses a shared map that is not pinned any more. */
function adoptPrograms({ programNames, programDir, mapDir }: AdoptRequest): Map<string, BpfProgram> | undefined {
  const pinnedIds = new Set(readdirSync(mapDir).map((name) => pinnedMapId(mapDir, name)));
  const programs = new Map<string, BpfProgram>();
  for (const name of programNames) {
    const program = BpfProgram.openPinned(name, `${programDir}/${name}`);
    if (program !== undefined) programs.set(name, program);
    if (program?.info().mapIds.every((id) => pinnedIds.has(id) || !isSharedId(id)) === true) continue;
    for (const opened of programs.values()) opened.close();
    return undefined;
  }
  return programs;
}

function pinnedMapId(mapDir: string, name: string): number | undefined {
  const map = BpfMap.openPinned(name, `${mapDir}/${name}`);
  map?.close();
  return map?.info.id;
}

function isSharedId(id: number): boolean {
  const map = BpfMap.openId(`map ${id}`, id);
  map?.close();
  return map !== undefined && isShared(map.info.name);
}
