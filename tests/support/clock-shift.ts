// SPDX-License-Identifier: Apache-2.0

/** Sets the wall clock of a single program wrong, at its start or while it runs; see clock-shift.c. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = join(import.meta.dirname, 'clock-shift.c');
const CACHE = join(import.meta.dirname, '../../.cache');
const LIBRARY = join(CACHE, 'clock-shift.so');
const FLAGS = ['-O2', '-shared', '-fPIC', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Wshadow', '-Werror'];
const NS_PER_MS = 1_000_000n;

export class ClockShift {
  readonly #file: string;

  /** Keeps what it needs in `folder`, which the program must be able to see. */
  constructor(folder: string) {
    this.#file = join(folder, 'clock-shift');
    writeFileSync(this.#file, Buffer.alloc(8));
  }

  /** Variables for the program. */
  environment(): Record<string, string> {
    return { LD_PRELOAD: build(), CLOCK_SHIFT_FILE: this.#file };
  }

  /** From now on the program's clock is this much ahead, behind when it is less than 0. */
  set(ms: number): void {
    const content = Buffer.alloc(8);
    content.writeBigInt64LE(BigInt(ms) * NS_PER_MS);
    writeFileSync(this.#file, content, { flag: 'r+' });
  }
}

/** The library, compiled when its source is newer. */
function build(): string {
  const built = statSync(LIBRARY, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built > statSync(SOURCE).mtimeMs) return LIBRARY;
  mkdirSync(CACHE, { recursive: true });
  const temporary = `${LIBRARY}.${process.pid}`;
  execFileSync('clang', [...FLAGS, '-o', temporary, SOURCE, '-ldl']);
  renameSync(temporary, LIBRARY);
  return LIBRARY;
}
