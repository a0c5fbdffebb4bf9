// SPDX-License-Identifier: Apache-2.0

/** YAML policy text. A module of its own, so that commands with JSON do not load the YAML package. */
import { isMap, isScalar, isSeq, LineCounter, parseAllDocuments, type Document, type Node } from 'yaml';
import {
  problemAt,
  rulesIn,
  type PathSegment,
  type PolicyDocument,
  type PolicySource,
  type TextPosition,
} from './policy-document.ts';

/** A rule's place: the document it is in and, if that is a list, its index there. */
interface RuleOrigin {
  readonly document: Document;
  readonly index: number | undefined;
}

/** Reads one or more YAML documents; throws `InvalidArgument` with the place of the first syntax error or unknown tag. */
export function parseYaml(source: PolicySource): PolicyDocument {
  const lines = new LineCounter();
  const rules: unknown[] = [];
  const origins: RuleOrigin[] = [];
  for (const document of documentsOf(source, lines)) {
    const value: unknown = document.toJS();
    const inList = Array.isArray(value);
    for (const [index, rule] of rulesIn(value).entries()) {
      rules.push(rule);
      origins.push({ document, index: inList ? index : undefined });
    }
  }
  const locate = (path: readonly PathSegment[]): TextPosition => {
    const [ruleIndex, ...rest] = path;
    const origin = typeof ruleIndex === 'number' ? origins[ruleIndex] : undefined;
    if (origin === undefined) return { line: 1, column: 1 };
    const inDocument = origin.index === undefined ? rest : [origin.index, ...rest];
    const { line, col } = lines.linePos(offsetOf(origin.document, inDocument));
    return { line, column: col };
  };
  return { source, rules, locate };
}

function documentsOf(source: PolicySource, lineCounter: LineCounter): readonly Document[] {
  const documents = parseAllDocuments(source.text, { lineCounter, prettyErrors: false });
  if (!Array.isArray(documents)) return []; // an empty stream is not an array of documents
  for (const document of documents) {
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem === undefined) continue;
    const { line, col } = lineCounter.linePos(problem.pos[0]);
    throw problemAt(source, { line, column: col }, problem.message);
  }
  return documents;
}

/** Follows the path as far as it goes and answers the offset of the last key or element found. */
function offsetOf(document: Document, path: readonly PathSegment[]): number {
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
