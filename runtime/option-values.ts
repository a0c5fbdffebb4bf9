// SPDX-License-Identifier: Apache-2.0

/** What an option's schema takes, in the words of help texts, documents and errors. */
import { z } from 'zod';
import { describeIssues } from './state-file.ts';

/** What is wrong is to be seen; all of a long value is not. */
const MAX_FOUND_CHARS = 100;
/** How schemas that have words of their own begin these. */
const EXPECTED = 'expected ';

/** "tunnel, native" or "1 to 65535"; undefined where the description says it. */
export function valuesOf(schema: z.ZodType): string | undefined {
  if (schema instanceof z.ZodEnum) return schema.options.join(', ');
  if (schema instanceof z.ZodBoolean) return 'true, false';
  if (schema instanceof z.ZodNumber) return `${schema.minValue!} to ${schema.maxValue!}`;
  return undefined;
}

/** "a number from 1 to 65535"; undefined where the schema's own error says it. */
export function formOf(schema: z.ZodType): string | undefined {
  const values = valuesOf(schema);
  if (schema instanceof z.ZodNumber) return `a number from ${values!}`;
  return values?.replace(/, (?=[^,]*$)/, ' or ');
}

/** "expected a number from 1 to 65535, found 99999". */
export function describeRefusal(schema: z.ZodType, value: unknown, issues: readonly z.core.$ZodIssue[]): string {
  const form = formOf(schema);
  const expected = form === undefined ? (ownWords(issues) ?? describeIssues(issues)) : EXPECTED + form;
  return `${expected}, found ${describeFound(value)}`;
}

/** The words of the schema, or of the first of several that might have fitted. */
function ownWords(issues: readonly z.core.$ZodIssue[]): string | undefined {
  for (const issue of issues) {
    const words = issue.code === 'invalid_union' ? ownWords(issue.errors.flat()) : issue.message;
    if (words?.startsWith(EXPECTED) === true) return words;
  }
  return undefined;
}

function describeFound(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) as string | undefined);
  if (text === undefined || text === '') return 'nothing';
  const shown = /^[\x21-\x7e]+$/.test(text) ? text : JSON.stringify(text);
  return shown.length > MAX_FOUND_CHARS ? `${shown.slice(0, MAX_FOUND_CHARS)}…` : shown;
}

/** The name that a person may have meant: the one with the fewest letters to change, if these are few. */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  const limit = Math.min(3, Math.floor(name.length / 3));
  let nearest: { name: string; changes: number } | undefined;
  for (const candidate of names) {
    const changes = lettersToChange(name, candidate);
    if (changes <= limit && changes < (nearest?.changes ?? Infinity)) nearest = { name: candidate, changes };
  }
  return nearest?.name;
}

/** How many letters have to be inserted, removed or replaced (the distance of Levenshtein), row by row. */
function lettersToChange(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_unused, column) => column);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}
