// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { wholeRules } from '../../tests/conformance/random-language.ts';
import { rules as narrowRules } from '../../tests/conformance/random-rules.ts';
import { re2 } from '../../runtime/re2.ts';
import { WHOLE_LANGUAGE } from '../language.ts';
import { ruleToJson } from '../rule-json.ts';
import type { Rule } from '../rule.ts';
import { PolicyValidationError, type Path } from '../validation-error.ts';
import { parseRules } from './rule.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
const rules = fc.oneof(narrowRules, wholeRules);
const LANGUAGE = { ...WHOLE_LANGUAGE, requires: true, nodes: true, extendedProtocols: true };

function parse(value: unknown): Rule[] | PolicyValidationError {
  try {
    return parseRules(value, { language: LANGUAGE, regex: re2 });
  } catch (error) {
    if (error instanceof PolicyValidationError) return error;
    throw error;
  }
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Every place in the document, the document itself first. */
function placesOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inner = Object.entries(value).flatMap(([key, item]) =>
    placesOf(item, [...path, Array.isArray(value) ? Number(key) : key]),
  );
  return [path, ...inner];
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (current, key) => (current as Record<string | number, unknown> | undefined)?.[key],
    value,
  );
}

function replaceAt(value: unknown, path: Path, replacement: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return replacement;
  const copy: Record<string | number, unknown> = Array.isArray(value)
    ? ([...(value as unknown[])] as unknown as Record<string | number, unknown>)
    : { ...(value as object) };
  copy[key] = replaceAt(copy[key], rest, replacement);
  return copy;
}

const ports = ['80', '0', 'web', '70000', '-1', '', '8080-9', '010'];
const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(null, [], {}, [{}], [[]], -1, 1e9, '', 'TCP', '10.0.0.0/8', '10.0.0.0/33', '::/0', ...ports),
  fc.constantFrom<unknown>({ http: [{ path: '(' }] }, { dns: [{}] }, { kafka: [{ role: 'x' }] }, { l7: [{ '': 'x' }] }),
);

test('what is printed reads back to the same rule', () => {
  fc.assert(
    fc.property(fc.array(rules, { maxLength: 3 }), (documents) => {
      const parsed = parse(documents);
      assert.ok(Array.isArray(parsed));
      const printed = plain(parsed.map(ruleToJson));
      assert.deepEqual(plain(parse(printed)), plain(parsed));
    }),
    { numRuns: RUNS },
  );
});

test('whatever stands anywhere in a document, it is read or refused with places that exist', () => {
  fc.assert(
    fc.property(fc.array(rules, { minLength: 1, maxLength: 2 }), fc.nat(), odd, (documents, pick, value) => {
      const places = placesOf(documents);
      const broken = replaceAt(documents, places[pick % places.length]!, value);
      const result = parse(broken);
      if (Array.isArray(result)) {
        plain(result.map(ruleToJson));
        return;
      }
      assert.ok(result.problems.length > 0);
      for (const { path } of result.problems) assert.notEqual(valueAt(broken, path), undefined, path.join('.'));
    }),
    { numRuns: 4 * RUNS },
  );
});

test('an unknown field is refused wherever it stands', () => {
  fc.assert(
    fc.property(rules, fc.nat(), (rule, pick) => {
      const objects = placesOf([rule]).filter((path) => {
        const value = valueAt([rule], path);
        return typeof value === 'object' && value !== null && !Array.isArray(value) && path.at(-1) !== 'matchLabels';
      });
      const place = [...objects[pick % objects.length]!, 'surprise'];
      const result = parse(replaceAt([rule], place, 1));
      assert.ok(result instanceof PolicyValidationError);
      assert.ok(result.problems.some(({ path }) => path.join() === place.join()));
    }),
    { numRuns: RUNS },
  );
});
