// SPDX-License-Identifier: Apache-2.0

/** Rules that resources mean, printed and read again. PROPERTY_RUNS sets how many are tried. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { re2 } from '../../runtime/re2.ts';
import { wholeRules } from '../../tests/conformance/random-language.ts';
import { randomPolicies } from '../../tests/fuzz/random-resources.ts';
import { WHOLE_LANGUAGE } from '../language.ts';
import { parseRules } from '../parse/rule.ts';
import { ruleToJson } from '../rule-json.ts';
import type { Rule } from '../rule.ts';
import { parseResource } from './resource.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 300);
const OPTIONS = { language: { ...WHOLE_LANGUAGE, nodes: true }, regex: re2 };

/** Without where it was written. */
function plain(rule: Rule): unknown {
  return JSON.parse(JSON.stringify({ ...rule, origin: undefined }));
}

function printed(rule: Rule): unknown {
  return JSON.parse(JSON.stringify(ruleToJson(rule)));
}

test('rules of resources read back from what is printed', () => {
  fc.assert(
    fc.property(randomPolicies, (value) => {
      const resource = parseResource(value, OPTIONS);
      assert.ok(resource.kind === 'policy' && resource.rules.length > 0);
      const again = parseRules(resource.rules.map(printed), OPTIONS);
      assert.deepEqual(again.map(plain), resource.rules.map(plain));
    }),
    { numRuns: RUNS },
  );
});

test('rules of the whole language read back from what is printed', () => {
  fc.assert(
    fc.property(wholeRules, (rule) => {
      const parsed = parseRules([rule], OPTIONS);
      const again = parseRules(parsed.map(printed), OPTIONS);
      assert.deepEqual(again.map(plain), parsed.map(plain));
    }),
    { numRuns: RUNS },
  );
});
