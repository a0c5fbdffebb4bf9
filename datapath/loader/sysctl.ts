// SPDX-License-Identifier: Apache-2.0

/** Kernel settings of this network namespace, by their path below /proc/sys: "net/ipv4/ip_forward". */
import { readFileSync, writeFileSync } from 'node:fs';
import { CiliumError } from '../../errors/cilium-error.ts';

const ROOT = '/proc/sys';

/** Undefined when the kernel has no such setting. */
export function readSysctl(path: string): string | undefined {
  try {
    return readFileSync(`${ROOT}/${path}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Writes unless it has the value already; returns whether it was changed. */
export function writeSysctl(path: string, value: string): boolean {
  if (readSysctl(path) === value) return false;
  try {
    writeFileSync(`${ROOT}/${path}`, value);
  } catch (cause) {
    const message = `cannot set ${ROOT}/${path} to ${value}; is /proc/sys mounted read-only?`;
    throw new CiliumError('Precondition', message, { path, value }, cause);
  }
  return true;
}
