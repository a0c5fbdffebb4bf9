// SPDX-License-Identifier: Apache-2.0

/** What is read from policy text, in whatever form, and how a place in it is told. */
import { placesIn, type PolicySource } from '../policy/resources/policy-item.ts';
import { formatPath, type Path, type Problem } from '../policy/validation-error.ts';
import type { TextLines, TextPosition } from './text-lines.ts';

/** The key of a member or the index of an element. */
export type PathSegment = string | number;

export interface PolicyDocument {
  readonly text: TextLines;
  /** Rules, resources and lists of resources, as plain data. */
  readonly items: readonly unknown[];
  /**
   * Where the values with these paths stand: the places of their keys. A path begins with the item's index, such as
   * `[2, 'ingress', 0, 'toPorts']`. For what is not there: the nearest thing around it that is.
   */
  locate(paths: readonly Path[]): TextPosition[];
}

/** Of one import; a person reads no more. */
const MAX_SHOWN_PROBLEMS = 100;

/** The items in a value that is an array of them, one, or none. */
export function itemsIn(value: unknown): readonly unknown[] {
  if (value === null || value === undefined) return [];
  return Array.isArray(value) ? (value as readonly unknown[]) : [value];
}

/** The document as an import carries it: with the lines of its rules, and the name of its file if it has one. */
export function sourceOf(document: PolicyDocument, file: string | undefined): PolicySource {
  const { items } = document;
  const places = items.map((value, index) => placesIn(value).map((path) => [index, ...path]));
  const lines = document.locate(places.flat()).map(({ line }) => line);
  let next = 0;
  return {
    ...(file === undefined ? {} : { file }),
    items: items.map((value, index) => ({ value, lines: lines.slice(next, (next += places[index]!.length)) })),
  };
}

/** Problems at file, line, column and field. Their paths begin with the item's number, counted over all documents. */
export function describeProblems(problems: readonly Problem[], documents: readonly PolicyDocument[]): string[] {
  const texts: string[] = [];
  let [first, unshown] = [0, 0];
  for (const document of documents) {
    const end = first + document.items.length;
    const own = problems
      .filter(({ path: [item] }) => typeof item === 'number' && item >= first && item < end)
      .map(({ path: [item, ...rest], message }) => ({ path: [(item as number) - first, ...rest], message }));
    const shown = own.slice(0, MAX_SHOWN_PROBLEMS - texts.length);
    unshown += own.length - shown.length;
    const positions = shown.length === 0 ? [] : document.locate(shown.map(({ path }) => path));
    for (const [index, { path, message }] of shown.entries()) {
      const field = fieldName(document.items[path[0] as number], path);
      texts.push(document.text.problemAt(positions[index]!, `${field}: ${message}`).message);
    }
    first = end;
  }
  return unshown === 0 ? texts : [...texts, `… and ${unshown} more`];
}

/** `rules[2].ingress[0]` in a rule, `spec.ingress[0]` in a resource: its place tells which. */
function fieldName(item: unknown, path: Path): string {
  const inside = path.slice(1);
  const isResource = typeof item === 'object' && item !== null && 'kind' in item;
  return isResource && inside.length > 0 ? formatPath(inside) : formatPath(path);
}
