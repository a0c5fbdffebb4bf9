// SPDX-License-Identifier: Apache-2.0

/** A loaded BPF program, and the clsact hooks of devices that programs are attached to. */
import { isErrno } from './errno.ts';
import { Handle } from './handle.ts';
import * as libbpf from './libbpf.ts';
import { closeFd } from './libc.ts';
import { NativeMemory } from './native.ts';

export const TC_INGRESS = 1;
export const TC_EGRESS = 2;
export type TcDirection = typeof TC_INGRESS | typeof TC_EGRESS;

/** Where our filters stand on every clsact hook, so that attaching again replaces atomically and never adds. */
const TC_HANDLE = 1;
const TC_PRIORITY = 1;
const BPF_TC_F_REPLACE = 1;

const ENOENT = -2;
const ENODEV = -19;
const EEXIST = -17;
const EINVAL = -22;

const HOOK_BYTES = 24;
const TC_OPTS_BYTES = 32;
const INFO_BYTES = 232;
/** The kernel allows a program 64 maps. */
const MAX_PROGRAM_MAPS = 64;

export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Hash of the instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** Kernel ids of the maps that it uses. */
  readonly mapIds: readonly number[];
  /** Instructions that the verifier walked through when the program was loaded. */
  readonly verifiedInstructions: number;
}

export class BpfProgram extends Handle {
  readonly #fd: number;

  /** Takes over `fd`. */
  constructor(name: string, fd: number) {
    super('program', name);
    this.#fd = fd;
  }

  /** The program pinned at `path`; undefined when nothing is. */
  static openPinned(name: string, path: string): BpfProgram | undefined {
    const fd = libbpf.objectGet(path);
    if (fd === ENOENT) return undefined;
    return new BpfProgram(name, libbpf.check(fd, `open pinned program ${path}`, { path }));
  }

  get fd(): number {
    this.assertOpen();
    return this.#fd;
  }

  info(): ProgramInfo {
    const mapIds = new NativeMemory(`map ids of ${this.name}`, MAX_PROGRAM_MAPS * 4);
    try {
      const info = Buffer.alloc(INFO_BYTES);
      info.writeUInt32LE(MAX_PROGRAM_MAPS, 52);
      info.writeBigUInt64LE(mapIds.address, 56);
      libbpf.check(libbpf.objectInfo(this.fd, info, [INFO_BYTES]), `read info of program ${this.name}`);
      const mapCount = Math.min(info.readUInt32LE(52), MAX_PROGRAM_MAPS);
      return {
        id: info.readUInt32LE(4),
        tag: info.toString('hex', 8, 16),
        name: info.toString('latin1', 64, info.indexOf(0, 64)),
        mapIds: Array.from({ length: mapCount }, (_, i) => mapIds.bytes.readUInt32LE(i * 4)),
        verifiedInstructions: info.readUInt32LE(216),
      };
    } finally {
      mapIds.close();
    }
  }

  pin(path: string): void {
    libbpf.check(libbpf.objectPin(this.fd, path), `pin program ${this.name} at ${path}`, { path });
  }

  testRun(input: libbpf.TestRunInput): libbpf.TestRunResult {
    return libbpf.progTestRun(this.fd, input);
  }

  /** Attaches to a device, in the place of the program that we had there. */
  attach(ifindex: number, direction: TcDirection): void {
    const facts = { program: this.name, ifindex };
    const created = libbpf.tcHookCreate(hook(ifindex, direction));
    if (created !== EEXIST) libbpf.check(created, `create clsact of device ${ifindex}`, facts);
    const options = tcOptions();
    options.writeInt32LE(this.fd, 8);
    options.writeUInt32LE(BPF_TC_F_REPLACE, 12);
    const attached = libbpf.tcAttach(hook(ifindex, direction), options);
    libbpf.check(attached, `attach ${this.name} to device ${ifindex}`, facts);
  }

  protected release(): void {
    closeFd(this.#fd);
  }
}

/** Takes away the program that we had there; false when there was none. */
export function detachProgram(ifindex: number, direction: TcDirection): boolean {
  const result = libbpf.tcDetach(hook(ifindex, direction), tcOptions());
  if (result === ENOENT || result === EINVAL || result === ENODEV) return false;
  libbpf.check(result, `detach from device ${ifindex}`, { ifindex });
  return true;
}

/** The id of the program that we have there; undefined when there is none. */
export function attachedProgramId(ifindex: number, direction: TcDirection): number | undefined {
  const options = tcOptions();
  try {
    libbpf.check(libbpf.tcQuery(hook(ifindex, direction), options), `query device ${ifindex}`, { ifindex });
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EINVAL', 'ENODEV')) return undefined;
    throw error;
  }
  return options.readUInt32LE(16);
}

function hook(ifindex: number, direction: TcDirection): Buffer {
  const buffer = Buffer.alloc(HOOK_BYTES);
  buffer.writeUInt32LE(HOOK_BYTES);
  buffer.writeInt32LE(ifindex, 8);
  buffer.writeUInt32LE(direction, 12);
  return buffer;
}

function tcOptions(): Buffer {
  const buffer = Buffer.alloc(TC_OPTS_BYTES);
  buffer.writeUInt32LE(TC_OPTS_BYTES);
  buffer.writeUInt32LE(TC_HANDLE, 20);
  buffer.writeUInt32LE(TC_PRIORITY, 24);
  return buffer;
}
