// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonProblem, walkJson } from './json-scanner.ts';

/** True when JSON.parse takes the text. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** What the scanner says: nothing, or its problem. */
function problemOf(text: string): JsonProblem | undefined {
  try {
    walkJson(text);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof JsonProblem, String(error));
    return error;
  }
}

/** Characters that mean something in JSON, and some that may not be there. */
const DAMAGE = Array.from('{}[]",:\\ 0-.e+tn\n\u0001');

/** JSON text with a few characters taken out, put in or doubled. */
const damaged = fc
  .tuple(fc.json({ maxDepth: 3 }), fc.array(fc.tuple(fc.nat(), fc.constantFrom(...DAMAGE), fc.boolean())))
  .map(([text, edits]) => {
    return edits.reduce((result, [position, character, replace]) => {
      const at = position % (result.length + 1);
      return result.slice(0, at) + character + result.slice(at + Number(replace));
    }, text);
  });

test('the scanner takes what JSON.parse takes, but for keys given twice, and points into the text otherwise', () => {
  fc.assert(
    fc.property(fc.oneof(fc.json(), damaged, fc.string()), (text) => {
      const problem = problemOf(text);
      if (problem?.message.includes('given twice') === true) return;
      assert.equal(problem === undefined, isJson(text), problem?.message);
      if (problem !== undefined) assert.ok(problem.offset >= 0 && problem.offset <= text.length);
    }),
    { numRuns: 2000 },
  );
});

test('the scanner finds every value at the place where it stands', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), (text) => {
      const root: unknown = JSON.parse(text);
      walkJson(text, (path, offset) => {
        const value = path.reduce<unknown>((at, segment) => (at as Record<string, unknown>)[segment], root);
        const key = path.at(-1);
        const expected = typeof key === 'string' ? JSON.stringify(key) : JSON.stringify(value)[0];
        const found = text.slice(offset);
        const matches = typeof key === 'string' ? isSameKey(found, key) : found[0] === expected;
        assert.ok(matches, `${path.join('.')} at ${offset} of ${text}`);
      });
    }),
  );
});

/** True when `text` begins with a JSON string that means `key`, however its characters are written. */
function isSameKey(text: string, key: string): boolean {
  const quoted = /^"(?:[^"\\]|\\.)*"/s.exec(text)?.[0];
  return quoted !== undefined && JSON.parse(quoted) === key;
}
