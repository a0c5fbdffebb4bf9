// SPDX-License-Identifier: Apache-2.0

/** Compiles the traffic tool when its sources are newer than the program in .cache/. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SOURCES = import.meta.dirname;
const CACHE = join(SOURCES, '../../.cache');
const PROGRAM = join(CACHE, 'traffic');
// Static, so that the same program runs in a container that has no libc.
const FLAGS = ['-O2', '-g', '-static', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Wshadow', '-Werror'];

/** What the first of many that ask at once has begun. */
let building: Promise<string> | undefined;

/** The path of the program, compiled if need be; several processes may ask at once. */
export function buildTraffic(): Promise<string> {
  return (building ??= build());
}

async function build(): Promise<string> {
  const names = (await readdir(SOURCES)).filter((name) => /\.[ch]$/.test(name));
  const sources = names.map((name) => join(SOURCES, name));
  const changed = await Promise.all(sources.map(async (path) => (await stat(path)).mtimeMs));
  const built = await stat(PROGRAM).then(
    (facts) => facts.mtimeMs,
    () => 0,
  );
  if (built > Math.max(...changed)) return PROGRAM;
  await mkdir(CACHE, { recursive: true });
  const temporary = `${PROGRAM}.${process.pid}`;
  await run('clang', [...FLAGS, '-o', temporary, ...sources.filter((path) => path.endsWith('.c'))]);
  await rename(temporary, PROGRAM);
  return PROGRAM;
}
