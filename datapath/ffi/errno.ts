// SPDX-License-Identifier: Apache-2.0

/** Failed system calls as errors: the number becomes its symbolic name, and a code that says what to do about it. */
import { getSystemErrorMap } from 'node:util';
import { CiliumError, type ErrorCode, type ErrorDetails } from '../../errors/cilium-error.ts';

const NAMES = getSystemErrorMap();

/** Numbers that the kernel returns although libc has no name for them. */
const KERNEL_ONLY: Readonly<Record<number, string>> = { 524: 'ENOTSUPP' };

const CODES: Readonly<Record<string, ErrorCode>> = {
  EPERM: 'Precondition',
  EACCES: 'Precondition',
  ENOENT: 'NotFound',
  ENODEV: 'NotFound',
  EEXIST: 'AlreadyExists',
};

/** The symbolic name of a positive errno: 2 is "ENOENT". */
export function errnoName(errno: number): string {
  return KERNEL_ONLY[errno] ?? NAMES.get(-errno)?.[0] ?? `E${errno}`;
}

/** A system call that failed; `errno` is the symbolic name, also in `details`. */
export class SyscallError extends CiliumError {
  readonly errno: string;

  /** @param errno positive number or symbolic name */
  constructor(operation: string, errno: number | string, details: ErrorDetails = {}, code?: ErrorCode) {
    const name = typeof errno === 'number' ? errnoName(errno) : errno;
    super(code ?? CODES[name] ?? 'System', `${operation}: ${name}`, { ...details, errno: name });
    this.name = 'SyscallError';
    this.errno = name;
  }
}

/** True when `error` is a failed system call with one of these errnos. */
export function isErrno(error: unknown, ...names: readonly string[]): error is SyscallError {
  return error instanceof SyscallError && names.includes(error.errno);
}
