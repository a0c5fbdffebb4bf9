// SPDX-License-Identifier: Apache-2.0

/** YAML policy text. A module of its own, so that commands with JSON do not load the YAML package. */
import { isMap, isScalar, isSeq, parseAllDocuments, type Document, type Node } from 'yaml';
import type { Path } from '../policy/validation-error.ts';
import { itemsIn, type PolicyDocument } from './policy-document.ts';
import type { TextLines, TextPosition } from './text-lines.ts';

/** An item's place: the document it is in and, if that is a list, its index there. */
interface ItemOrigin {
  readonly document: Document;
  readonly index: number | undefined;
}

/** Reads one or more YAML documents; throws `InvalidArgument` with the place of the first syntax error or unknown tag. */
export function parseYaml(lines: TextLines): PolicyDocument {
  const items: unknown[] = [];
  const origins: ItemOrigin[] = [];
  for (const document of documentsOf(lines)) {
    const value = valueOf(document, lines);
    const inList = Array.isArray(value);
    for (const [index, item] of itemsIn(value).entries()) {
      items.push(item);
      origins.push({ document, index: inList ? index : undefined });
    }
  }
  const locate = ([itemIndex, ...rest]: Path): TextPosition => {
    const origin = typeof itemIndex === 'number' ? origins[itemIndex] : undefined;
    if (origin === undefined) return { line: 1, column: 1 };
    const inDocument = origin.index === undefined ? rest : [origin.index, ...rest];
    return lines.positionAt(offsetOf(origin.document, inDocument));
  };
  return { text: lines, items, locate: (paths) => paths.map(locate) };
}

/** Plain data. Aliases may lead nowhere, multiply without end or lead back to themselves; then there is none. */
function valueOf(document: Document, lines: TextLines): unknown {
  try {
    const value: unknown = document.toJS();
    if (lines.text.includes('*')) JSON.stringify(value);
    return value;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const [reason] = error.message.split('\n');
    throw lines.problemAt(lines.positionAt(document.range?.[0] ?? 0), `no plain data: ${reason}`);
  }
}

function documentsOf(lines: TextLines): readonly Document[] {
  const documents = parseAllDocuments(lines.text, { prettyErrors: false });
  if (!Array.isArray(documents)) return []; // an empty stream is not an array of documents
  for (const document of documents) {
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw lines.problemAt(lines.positionAt(problem.pos[0]), problem.message);
  }
  return documents;
}

/** Follows the path as far as it goes and answers the offset of the last key or element found. */
function offsetOf(document: Document, path: Path): number {
  let node: Node | null = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const segment of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(segment));
      if (pair === undefined) break;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value as Node | null;
    } else if (isSeq(node) && typeof segment === 'number') {
      node = (node.items[segment] ?? null) as Node | null;
      offset = node?.range?.[0] ?? offset;
    } else {
      break;
    }
  }
  return offset;
}
