// SPDX-License-Identifier: Apache-2.0

/** The rules that a person names on the command line: files, folders, `-` for standard input; and where a problem stands in them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { describeProblems, sourceOf, type PolicyDocument } from '../api/policy-document.ts';
import { parsePolicyText } from '../api/policy-text.ts';
import { CiliumError, describeError, isCiliumError } from '../errors/cilium-error.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import type { Problem } from '../policy/validation-error.ts';

const STDIN = '-';
const STDIN_NAME = 'stdin';
const POLICY_FILE = /\.(json|ya?ml)$/i;

export interface PolicyFiles {
  readonly documents: readonly PolicyDocument[];
  /** One for each document, in the same order, as an import sends them. */
  readonly sources: readonly PolicySource[];
}

/** Reads all of them, or throws an error that tells of every file that is malformed. */
export async function readPolicyFiles(paths: readonly string[], stdin: () => Readable): Promise<PolicyFiles> {
  const documents: PolicyDocument[] = [];
  const failures: string[] = [];
  for (const path of paths) {
    for (const file of await filesOf(path)) {
      const isStdin = file === STDIN;
      const text = isStdin ? await readAll(stdin()) : await readText(file);
      try {
        documents.push(await parsePolicyText(isStdin ? STDIN_NAME : file, text));
      } catch (error) {
        failures.push(describeError(error));
      }
    }
  }
  const files = { documents, sources: documents.map((document) => sourceOf(document, fileOf(document))) };
  if (failures.length > 0)
    throw new CiliumError('InvalidArgument', [...failures, ...(await faultsOf(files))].join('\n'));
  const isEmpty = ({ items }: PolicySource): boolean => items.every(({ lines }) => lines?.length === 0);
  if (files.sources.every(isEmpty))
    throw new CiliumError('InvalidArgument', `No policy specified: no rule in ${paths.join(', ')}`);
  return files;
}

/** What is wrong with files that could be read, for a person who has to mend others anyway. */
async function faultsOf(files: PolicyFiles): Promise<string[]> {
  const { checkPolicy } = await import('./policy-check.ts');
  try {
    checkPolicy(files.sources, { l7: true });
    return [];
  } catch (error) {
    return [withPlaces(error, files).message];
  }
}

/** The error with each of its problems at its file, line and column; one that has no problems is thrown again. */
export function withPlaces(error: unknown, { documents }: PolicyFiles): CiliumError {
  if (!isCiliumError(error) || !Array.isArray(error.details.problems)) throw error;
  const problems = error.details.problems as readonly Problem[];
  return new CiliumError(error.code, describeProblems(problems, documents).join('\n'));
}

/** By its full name a file is found from anywhere, the agent's folder included. */
function fileOf({ text: { name } }: PolicyDocument): string {
  return name === STDIN_NAME ? name : resolve(name);
}

/** A folder stands for the policy files in it and below it, in the order of their names. */
async function filesOf(path: string): Promise<string[]> {
  if (path === STDIN || !(await isFolder(path))) return [path];
  const names = await readdir(path, { recursive: true });
  const files = names.filter((name) => POLICY_FILE.test(name) && !/(^|\/)\.git(\/|$)/.test(name)).sort();
  if (files.length === 0)
    throw new CiliumError('InvalidArgument', `No policy specified: no .json or .yaml file in ${path}`);
  return files.map((name) => join(path, name));
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `cannot read ${path}`, {}, cause);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `cannot read ${path}`, {}, cause);
  }
}

async function readAll(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}
