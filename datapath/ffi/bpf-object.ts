// SPDX-License-Identifier: Apache-2.0

/** A compiled object on its way into the kernel: opened, adjusted (map sizes, pins, constants), loaded once. */
import { CiliumError } from '../../errors/cilium-error.ts';
import { SyscallError } from './errno.ts';
import { Handle } from './handle.ts';
import * as libbpf from './libbpf.ts';
import { BpfMap, type MapSpec } from './bpf-map.ts';
import { BpfProgram } from './bpf-program.ts';
import { duplicateFd } from './libc.ts';

/** What of the log goes into a one-line error; the whole stands in `details.log`. */
const LOG_SUMMARY_LINES = 3;

export class BpfObject extends Handle {
  readonly #pointer: bigint;
  readonly #maps = new Map<string, bigint>();
  readonly #programs = new Map<string, bigint>();

  private constructor(name: string, pointer: bigint) {
    super('object', name);
    this.#pointer = pointer;
    for (let map = libbpf.objectNextMap(pointer, null); map !== null; map = libbpf.objectNextMap(pointer, map)) {
      this.#maps.set(libbpf.objectMapName(map), map);
    }
    for (let p = libbpf.objectNextProgram(pointer, null); p !== null; p = libbpf.objectNextProgram(pointer, p)) {
      this.#programs.set(libbpf.programName(p), p);
    }
  }

  static open(path: string): BpfObject {
    const { result: pointer, log } = libbpf.captureLog(() => libbpf.objectOpen(path, null));
    if (pointer === null) {
      throw new CiliumError('System', `open BPF object ${path}${summarize(log)}`, { path, log });
    }
    return new BpfObject(path, pointer);
  }

  /** Names of the maps that the C declares, without those that libbpf makes for global data. */
  get mapNames(): string[] {
    this.assertOpen();
    return [...this.#maps].filter(([, map]) => !libbpf.objectMapIsInternal(map)).map(([name]) => name);
  }

  get programNames(): string[] {
    this.assertOpen();
    return [...this.#programs.keys()];
  }

  /** What the map will be when it is created. */
  mapSpec(name: string): MapSpec {
    const map = this.#map(name);
    return {
      type: libbpf.objectMapType(map),
      keySize: libbpf.objectMapKeySize(map),
      valueSize: libbpf.objectMapValueSize(map),
      maxEntries: libbpf.objectMapMaxEntries(map),
      flags: libbpf.objectMapFlags(map),
    };
  }

  /** Before `load`: how many entries the map has. */
  setMaxEntries(name: string, maxEntries: number): void {
    libbpf.check(libbpf.objectMapSetMaxEntries(this.#map(name), maxEntries), `resize ${name}`, { maxEntries });
  }

  /** Before `load`: take the map from this pin, or make the pin when there is none. */
  setPinPath(name: string, path: string): void {
    libbpf.check(libbpf.objectMapSetPinPath(this.#map(name), path), `pin ${name} at ${path}`, { path });
  }

  /** Before `load`: the initial bytes of a section of global data (".rodata.config"), to be written to in place. */
  initialValue(section: string): Uint8Array {
    const map = [...this.#maps].find(([name, pointer]) => libbpf.objectMapIsInternal(pointer) && name === section)?.[1];
    const size: [number] = [0];
    const data = map === undefined ? null : libbpf.objectMapInitialValue(map, size);
    if (data === null) throw new CiliumError('NotFound', `${this.name} has no section ${section}`);
    return libbpf.memoryAt(data, size[0]);
  }

  /** Creates or adopts the maps and has the verifier check the programs. */
  load(): void {
    this.assertOpen();
    const { result, log } = libbpf.captureLog(() => libbpf.objectLoad(this.#pointer));
    if (result < 0) throw new SyscallError(`load ${this.name}${summarize(log)}`, -result, { path: this.name, log });
  }

  /** A handle of its own on a loaded map: it outlives the object. */
  map(name: string): BpfMap {
    return new BpfMap(name, duplicateFd(libbpf.objectMapFd(this.#map(name))));
  }

  /** A handle of its own on a loaded program: it outlives the object. */
  program(name: string): BpfProgram {
    this.assertOpen();
    const program = this.#programs.get(name);
    if (program === undefined) throw new CiliumError('NotFound', `${this.name} has no program ${name}`);
    return new BpfProgram(name, duplicateFd(libbpf.programFd(program)));
  }

  protected release(): void {
    libbpf.objectClose(this.#pointer);
  }

  #map(name: string): bigint {
    this.assertOpen();
    const map = this.#maps.get(name);
    if (map === undefined) throw new CiliumError('NotFound', `${this.name} has no map ${name}`);
    return map;
  }
}

/** The lines of libbpf's log that say most: what libbpf gave as the reason, and the verifier's last words. */
function summarize(log: string): string {
  const lines = log
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(--|processed \d+|libbpf: failed to load object)/.test(line));
  const tail = lines.slice(-LOG_SUMMARY_LINES).join('; ');
  return tail === '' ? '' : ` (${tail})`;
}
