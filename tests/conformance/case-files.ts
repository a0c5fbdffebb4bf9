// SPDX-License-Identifier: Apache-2.0

/** The case files of a folder and the folders in it. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import type { Case } from './case.ts';

const FORMAT = 'cilium-policy-conformance/1';

export interface LoadedCases {
  /** Relative to the folder. */
  readonly file: string;
  readonly title: string;
  readonly cases: readonly Case[];
  /** Why the file cannot be used. */
  readonly problem?: string;
}

/** In order of their names; a path of one file is that file. JSON of another kind is left out. */
export function loadCases(path: string): LoadedCases[] {
  if (!statSync(path).isDirectory()) return [loadFile(path, basename(path))].filter((file) => file !== undefined);
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && entry.name.endsWith('.json'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .flatMap((file) => loadFile(file, relative(path, file)) ?? []);
}

function loadFile(path: string, file: string): LoadedCases | undefined {
  const broken = (problem: string): LoadedCases => ({ file, title: '', cases: [], problem });
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return broken(`cannot be read: ${String(error)}`);
  }
  const { format, title, cases } = (content ?? {}) as Record<string, unknown>;
  if (format === undefined && cases === undefined) return undefined;
  if (format !== FORMAT) return broken(`expected format ${FORMAT}, found ${JSON.stringify(format)}`);
  if (!Array.isArray(cases)) return broken('expected a list of cases');
  return { file, title: String(title), cases: cases as Case[] };
}
