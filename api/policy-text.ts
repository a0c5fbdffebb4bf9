// SPDX-License-Identifier: Apache-2.0

/**
 * Policy text, JSON or YAML, to rules as plain data, and back from the path of a problem to line and column.
 *
 * The text is an array of rules or one rule; YAML may hold several documents. What the rules mean is the policy room's.
 */
import { JsonProblem, walkJson } from './json-scanner.ts';
import { problemAt, rulesIn, type PolicyDocument, type PolicySource, type TextPosition } from './policy-document.ts';

/** Reads policy text; throws `InvalidArgument` that begins with `NAME:LINE:COLUMN` when it is malformed. */
export async function parsePolicyText(source: PolicySource): Promise<PolicyDocument> {
  if (!isJson(source)) return (await import('./policy-yaml.ts')).parseYaml(source);
  return parseJson(source);
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

/** Where something stands in a text, given its offset. */
function positionAt(text: string, offset: number): TextPosition {
  const before = text.slice(0, offset);
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') };
}
