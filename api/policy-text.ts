// SPDX-License-Identifier: Apache-2.0

/**
 * Policy text, JSON or YAML, to plain data, and back from the path of a problem to line and column.
 *
 * The text is an array of rules and resources, or one of them; YAML may hold several documents. What they mean is the
 * policy room's.
 */
import type { Path } from '../policy/validation-error.ts';
import { JsonProblem, walkJson } from './json-scanner.ts';
import { itemsIn, type PathSegment, type PolicyDocument } from './policy-document.ts';
import { TextLines, type TextPosition } from './text-lines.ts';

/** Reads policy text; throws `InvalidArgument` that begins with the place when it is malformed. */
export async function parsePolicyText(name: string, text: string): Promise<PolicyDocument> {
  const lines = new TextLines(name, text.replace(/^\uFEFF/, ''));
  return isJson(lines) ? parseJson(lines) : (await import('./policy-yaml.ts')).parseYaml(lines);
}

/** By its name if that tells, else by how it begins. */
function isJson({ name, text }: TextLines): boolean {
  if (/\.ya?ml$/i.test(name)) return false;
  return /\.json$/i.test(name) || /^\s*[[{"]/.test(text);
}

function parseJson(lines: TextLines): PolicyDocument {
  const { text } = lines;
  if (text.trim() === '')
    return { text: lines, items: [], locate: (paths) => paths.map(() => ({ line: 1, column: 1 })) };
  const items: number[] = [];
  try {
    walkJson(text, (path, offset) => {
      if (path.length === 1) items.push(offset);
    });
  } catch (error) {
    if (!(error instanceof JsonProblem)) throw error;
    throw lines.syntaxError(error.offset, error.message);
  }
  const value: unknown = JSON.parse(text);
  const isList = Array.isArray(value);
  return {
    text: lines,
    items: itemsIn(value),
    locate(paths) {
      if (!isList) {
        return locateAll(
          lines,
          paths.map((path) => path.slice(1)),
        );
      }
      const known = paths.map((path) => (path.length === 1 ? items[Number(path[0])] : undefined));
      const isKnown = (offset: number | undefined): offset is number => offset !== undefined;
      return known.every(isKnown) ? known.map((offset) => lines.positionAt(offset)) : locateAll(lines, paths);
    },
  };
}

/** A path wanted, or the beginning of some; the offset is that of its value once the walk has met it. */
interface Wanted {
  offset?: number;
  readonly inside: Map<PathSegment, Wanted>;
}

/** All in one walk through the text. */
function locateAll(lines: TextLines, paths: readonly Path[]): TextPosition[] {
  const root: Wanted = { inside: new Map() };
  const trails = paths.map((path) => {
    const trail = [root];
    for (const segment of path) {
      const { inside } = trail.at(-1)!;
      const next: Wanted = inside.get(segment) ?? { inside: new Map() };
      inside.set(segment, next);
      trail.push(next);
    }
    return trail;
  });
  walkJson(lines.text, (path, offset) => {
    let wanted: Wanted | undefined = root;
    for (const segment of path) {
      wanted = wanted.inside.get(segment);
      if (wanted === undefined) return;
    }
    wanted.offset = offset;
  });
  return trails.map((trail) => lines.positionAt(trail.findLast(({ offset }) => offset !== undefined)?.offset ?? 0));
}
