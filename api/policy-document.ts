// SPDX-License-Identifier: Apache-2.0

/** What is read from policy text, in whatever form, and how a place in it is told. */
import { CiliumError } from '../errors/cilium-error.ts';

/** The key of a member or the index of an element. */
export type PathSegment = string | number;

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
