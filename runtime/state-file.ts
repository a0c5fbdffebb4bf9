// SPDX-License-Identifier: Apache-2.0

/**
 * Files that survive a crash: a reader sees the whole old content or the whole new one, never half of it.
 *
 * Order is the caller's: of two writes of one path that overlap, either may be the last (see SerialQueue).
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';

/** State may name containers and labels: readable by the agent's user only. */
const STATE_FILE_MODE = 0o600;
/** What an unfinished write leaves behind when the process dies in it. */
const TEMPORARY_SUFFIX = /\.[0-9a-f]{12}\.tmp$/;
/** Writes of this process that are under way: no leftovers. Several components keep their files in one folder. */
const underWay = new Set<string>();
/** A schema may report hundreds of problems; a person reads the first few. */
const MAX_PROBLEMS = 5;

/** Writes to a temporary file beside `path`, fsyncs, renames it over `path` and fsyncs the folder, which must exist. */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode: number = STATE_FILE_MODE,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  underWay.add(resolve(temporary));
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw systemError(`write ${path}`, path, cause);
  } finally {
    underWay.delete(resolve(temporary));
  }
}

/** `writeFileAtomic` of the value as indented JSON, for people to read. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

/**
 * Reads and validates a JSON file; `undefined` when there is none.
 * A file that is not what the schema says gives `Precondition`: it names the file, each field and the way out.
 */
export async function readJsonFile<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readTextFile(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corruptFile(path, text.trim() === '' ? 'it is empty' : 'it is not valid JSON (truncated?)', cause);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw corruptFile(path, describeIssues(result.error.issues));
}

/** The text of a file, `undefined` when there is none. */
export async function readTextFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return undefined;
    throw systemError(`read ${path}`, path, cause);
  }
}

/** Makes a folder for state, with those above it, and clears away what writes cut short by a crash left in it. */
export async function prepareStateFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      const path = resolve(folder, name);
      if (TEMPORARY_SUFFIX.test(name) && !underWay.has(path)) await rm(path, { force: true });
    }
  } catch (cause) {
    throw systemError(`prepare ${folder}`, folder, cause);
  }
}

/** Makes renames, creations and removals in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The error for a state file whose content cannot be used. */
export function corruptFile(path: string, what: string, cause?: unknown): CiliumError {
  return new CiliumError(
    'Precondition',
    `${path} cannot be used: ${what}. Restore it from a backup, or move it away to start without what it held`,
    { path },
    cause,
  );
}

/** "field.0.name: expected string" for each problem a schema found, the first few of them. */
export function describeIssues(issues: readonly z.core.$ZodIssue[]): string {
  const lines = issues.slice(0, MAX_PROBLEMS).map((issue) => {
    const path = issue.path.map(String).join('.');
    return path === '' ? issue.message : `${path}: ${issue.message}`;
  });
  const more = issues.length - lines.length;
  return lines.join('; ') + (more > 0 ? `; and ${more} more` : '');
}

/** True for an error of a system call with this symbolic number. */
export function isErrno(error: unknown, errno: string): boolean {
  return error instanceof Error && 'code' in error && error.code === errno;
}

function systemError(what: string, path: string, cause: unknown): CiliumError {
  const errno = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return new CiliumError('System', what, { path, errno }, cause);
}
