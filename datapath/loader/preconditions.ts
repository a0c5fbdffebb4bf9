// SPDX-License-Identifier: Apache-2.0

/** What the machine has to offer before anything is loaded. Each error is one line that says what to do. */
import { release } from 'node:os';
import { existsSync } from 'node:fs';
import { CiliumError } from '../../errors/cilium-error.ts';
import { isErrno } from '../ffi/errno.ts';
import { isBpfFs } from '../ffi/libc.ts';

/** The oldest on which every packet test has passed: Debian 12's. */
const MIN_KERNEL = [6, 1] as const;

export interface Machine {
  readonly uid: number;
  /** As `uname -r` says it. */
  readonly kernel: string;
}

function thisMachine(): Machine {
  return { uid: process.geteuid?.() ?? -1, kernel: release() };
}

/** Throws `Precondition`. */
export function checkPreconditions(bpfRoot: string, machine: Machine = thisMachine()): void {
  if (machine.uid !== 0) {
    throw new CiliumError('Precondition', 'cilium-agent needs root: start it with sudo', { uid: machine.uid });
  }
  const [major = 0, minor = 0] = machine.kernel.split('.').map((part) => parseInt(part, 10));
  if (major < MIN_KERNEL[0] || (major === MIN_KERNEL[0] && minor < MIN_KERNEL[1])) {
    const remedy = `install ${MIN_KERNEL.join('.')} or newer (Debian 12 or newer has it)`;
    const message = `kernel ${machine.kernel} is too old; ${remedy}`;
    throw new CiliumError('Precondition', message, { kernel: machine.kernel });
  }
  checkBpfFs(bpfRoot);
  if (!existsSync('/proc/sys/net/ipv4') || !existsSync('/proc/sys/net/ipv6')) {
    throw new CiliumError('Precondition', 'the kernel lacks IPv4 or IPv6: boot without ipv6.disable=1');
  }
}

/** Maps pinned anywhere else would die with the agent. */
function checkBpfFs(path: string): void {
  const remedy = `mount one: mount -t bpf bpf ${path}`;
  let found: boolean;
  try {
    found = isBpfFs(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new CiliumError('Precondition', `${path} does not exist; ${remedy} (after mkdir -p)`, { path }, error);
  }
  if (!found) throw new CiliumError('Precondition', `${path} is not a BPF file system; ${remedy}`, { path });
}
