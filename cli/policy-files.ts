// SPDX-License-Identifier: Apache-2.0

/** The rules that a person names on the command line: files, folders, `-` for standard input; and where a problem stands in them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { problemAt, type PolicyDocument } from '../api/policy-document.ts';
import { parsePolicyText } from '../api/policy-text.ts';
import { CiliumError, describeError, isCiliumError } from '../errors/cilium-error.ts';
import { formatPath, type Problem } from '../policy/validation-error.ts';

const STDIN = '-';
const POLICY_FILE = /\.(json|ya?ml)$/i;

/** Of one import; finding the place of each takes a walk through its file. */
const SHOWN_PROBLEMS = 20;

export interface PolicyFiles {
  readonly documents: readonly PolicyDocument[];
  /** Of all documents, in order. */
  readonly rules: readonly unknown[];
}

/** Reads all of them, or throws an error that tells of every file that is malformed. */
export async function readPolicyFiles(paths: readonly string[], stdin: () => Readable): Promise<PolicyFiles> {
  const documents: PolicyDocument[] = [];
  const failures: string[] = [];
  for (const path of paths) {
    for (const file of await filesOf(path)) {
      const source = file === STDIN ? { name: 'stdin', text: await readAll(stdin()) } : await readSource(file);
      try {
        documents.push(await parsePolicyText(source));
      } catch (error) {
        failures.push(describeError(error));
      }
    }
  }
  if (failures.length > 0) throw new CiliumError('InvalidArgument', failures.join('\n'));
  const rules = documents.flatMap((document) => document.rules);
  if (rules.length === 0)
    throw new CiliumError('InvalidArgument', `No policy specified: no rule in ${paths.join(', ')}`);
  return { documents, rules };
}

/** The error with each of its problems at its file, line and column; an error that has no problems stays as it is. */
export function withPlaces(error: unknown, { documents }: PolicyFiles): unknown {
  if (!isCiliumError(error) || !Array.isArray(error.details.problems)) return error;
  const problems = error.details.problems as readonly Problem[];
  const texts = problems.slice(0, SHOWN_PROBLEMS).map((problem) => placeOf(problem, documents));
  if (problems.length > SHOWN_PROBLEMS) texts.push(`… and ${problems.length - SHOWN_PROBLEMS} more`);
  return new CiliumError(error.code, texts.join('\n'));
}

function placeOf({ path, message }: Problem, documents: readonly PolicyDocument[]): string {
  const [first, ...rest] = path;
  let index = typeof first === 'number' ? first : 0;
  for (const document of documents) {
    if (index < document.rules.length) {
      const local = [index, ...rest];
      return problemAt(document.source, document.locate(local), `${formatPath(local)}: ${message}`).message;
    }
    index -= document.rules.length;
  }
  return `${formatPath(path)}: ${message}`;
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

async function readSource(path: string): Promise<{ name: string; text: string }> {
  try {
    return { name: path, text: await readFile(path, 'utf8') };
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `cannot read ${path}`, {}, cause);
  }
}

async function readAll(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}
