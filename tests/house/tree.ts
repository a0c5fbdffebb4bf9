// SPDX-License-Identifier: Apache-2.0

/** The project's own files, as the house rules see them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');
/** What is installed, built or kept between runs. */
const NOT_OURS = new Set(['node_modules', 'dist', 'build', '.git', '.cache']);

/** Paths of all files, relative to the root, sorted. */
export function ownFiles(): string[] {
  return readdirSync(ROOT, { withFileTypes: true })
    .flatMap((top) => (NOT_OURS.has(top.name) ? [] : top.isDirectory() ? filesBelow(join(ROOT, top.name)) : [top.name]))
    .sort();
}

export function readOwn(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Top-level folders that hold programs. */
export function roomNames(): string[] {
  const sources = ownFiles().filter((path) => /\.(ts|c)$/.test(path) && path.includes('/'));
  return [...new Set(sources.map((path) => path.slice(0, path.indexOf('/'))))];
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : entry.isFile() ? [relative(ROOT, path)] : [];
  });
}
