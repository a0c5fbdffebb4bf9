// SPDX-License-Identifier: Apache-2.0

/**
 * Policy text, JSON or YAML, to rules as plain data, and back from the path of a problem to line and column.
 *
 * The text is an array of rules or one rule; YAML may hold several documents. What the rules mean is the policy room's.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import { JsonProblem, walkJson, type PathSegment } from './json-scanner.ts';

export interface PolicySource {
  /** As the person gave it: the name of a file, or "stdin". */
  readonly name: string;
  readonly text: string;
}

/** Both count from 1. */
export interface TextPosition {
  readonly line: number;
  readonly column: number;
}

export interface PolicyDocument {
  readonly source: PolicySource;
  readonly rules: readonly unknown[];
  /**
   * Where the value with a path from the list of rules down, such as [2, 'ingress', 0, 'toPorts'], stands: the place of its
   * key. For what is not there, the nearest thing around it that is.
   */
  locate(path: readonly PathSegment[]): TextPosition;
}

/** Reads policy text; throws `InvalidArgument` that begins with `NAME:LINE:COLUMN` when it is malformed. */
export async function parsePolicyText(source: PolicySource): Promise<PolicyDocument> {
  if (!isJson(source)) return (await import('./policy-yaml.ts')).parseYaml(source);
  return parseJson(source);
}

/** Makes the error for a problem at a place, with the line it is in and a mark below. */
export function problemAt(source: PolicySource, position: TextPosition, message: string): CiliumError {
  const line = source.text.split('\n', position.line)[position.line - 1]?.replace(/\r$/, '') ?? '';
  const shown = line.length > 120 ? '' : `\n${line}\n${line.slice(0, position.column - 1).replace(/[^\t]/g, ' ')}^`;
  const place = `${source.name}:${position.line}:${position.column}`;
  return new CiliumError('InvalidArgument', `${place}: ${message}${shown}`, { ...position });
}

/** The rules in a value that is an array of them, one, or none. */
export function rulesIn(value: unknown): readonly unknown[] {
  if (value === null || value === undefined) return [];
  return Array.isArray(value) ? (value as readonly unknown[]) : [value];
}

/** Where something stands in a text, given its offset. */
export function positionAt(text: string, offset: number): TextPosition {
  const before = text.slice(0, offset);
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') };
}

/** By its name if that tells, else by how it begins. */
function isJson({ name, text }: PolicySource): boolean {
  if (/\.ya?ml$/i.test(name)) return false;
  return /\.json$/i.test(name) || /^\s*[[{"]/.test(text);
}

function parseJson(source: PolicySource): PolicyDocument {
  const text = source.text.replace(/^\uFEFF/, '');
  if (text.trim() === '') return { source, rules: [], locate: () => ({ line: 1, column: 1 }) };
  try {
    walkJson(text);
  } catch (error) {
    if (!(error instanceof JsonProblem)) throw error;
    throw problemAt(source, positionAt(text, error.offset), error.message);
  }
  const value: unknown = JSON.parse(text);
  const isOneRule = !Array.isArray(value);
  return {
    source,
    rules: rulesIn(value),
    locate(path) {
      const wanted = isOneRule ? path.slice(1) : path;
      let nearest = 0;
      walkJson(text, (at, offset) => {
        if (at.length <= wanted.length && at.every((segment, i) => segment === wanted[i])) nearest = offset;
      });
      return positionAt(text, nearest);
    },
  };
}
