// SPDX-License-Identifier: Apache-2.0

/**
 * Whatever is imported, it is taken or refused with a reason that names a place; nothing crashes or hangs, and what is
 * known to be wrong is not taken. PROPERTY_RUNS sets how many texts and documents are tried.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { describeProblems, sourceOf } from '../../api/policy-document.ts';
import { parsePolicyText } from '../../api/policy-text.ts';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { WHOLE_LANGUAGE } from '../../policy/language.ts';
import { parseSources } from '../../policy/resources/policy-source.ts';
import { ruleToJson } from '../../policy/rule-json.ts';
import { PolicyValidationError } from '../../policy/validation-error.ts';
import { re2 } from '../../runtime/re2.ts';
import { wholeRules } from '../conformance/random-language.ts';
import { randomResources } from './random-resources.ts';
import { mutations } from './wrong-rules.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
const LANGUAGE = { ...WHOLE_LANGUAGE, requires: true, nodes: true };

/** As `cilium policy import` does it. Gives what was taken, or the sentences that say why not. */
async function importText(name: string, text: string): Promise<{ rules: number } | { refused: string[] }> {
  try {
    const document = await parsePolicyText(name, text);
    try {
      const source = JSON.parse(JSON.stringify(sourceOf(document, name))) as ReturnType<typeof sourceOf>;
      const { rules } = parseSources([source], { language: LANGUAGE, regex: re2 });
      JSON.stringify(rules.map(ruleToJson));
      return { rules: rules.length };
    } catch (error) {
      if (!(error instanceof PolicyValidationError)) throw error;
      return { refused: describeProblems(error.problems, [document]) };
    }
  } catch (error) {
    if (!isCiliumError(error) || error.code === 'Internal') throw error;
    return { refused: [error.message] };
  }
}

const documents = fc.oneof(
  fc.array(wholeRules, { minLength: 1, maxLength: 2 }),
  fc.array(fc.oneof(randomResources, wholeRules), { minLength: 1, maxLength: 3 }),
);

const texts: fc.Arbitrary<{ name: string; text: string }> = fc.oneof(
  documents.map((items) => ({ name: 'rules.json', text: JSON.stringify(items, null, 1) })),
  documents.map((items) => ({ name: 'rules.yaml', text: stringify(items, { aliasDuplicateObjects: false }) })),
  documents.map((items) => ({
    name: 'rules.yml',
    text: items.map((item) => stringify(item, { aliasDuplicateObjects: false })).join('---\n'),
  })),
);

/** What breaks grammars, or is more than a reader expects. */
const TOKENS = [
  ...'{}[]":,\\-&*!|>%@`#?\t\0\u2028\ud800\uFEFF'.split(''),
  'null',
  'true',
  '1e999',
  '-0',
  '"__proto__":',
  '__proto__: ',
  '\n---\n',
  '\n...\n',
  '&a ',
  '*a ',
  '<<: *a\n',
  '!!binary ',
  '!x ',
  '[[[[[[[[',
  '? - ',
  '\r\n',
  '\\u0000',
  '\\ud800',
];

const edits = fc.array(
  fc.oneof(
    fc.record({ at: fc.nat(), kind: fc.constant('insert' as const), token: fc.constantFrom(...TOKENS) }),
    fc.record({ at: fc.nat(), kind: fc.constant('delete' as const), length: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ at: fc.nat(), kind: fc.constant('double' as const), length: fc.integer({ min: 1, max: 200 }) }),
    fc.record({ at: fc.nat(), kind: fc.constant('swap' as const), length: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ at: fc.nat(), kind: fc.constant('cut' as const) }),
  ),
  { minLength: 1, maxLength: 4 },
);

function edited(text: string, changes: ReturnType<typeof edits.generate>['value']): string {
  return changes.reduce((current, change) => {
    const at = change.at % (current.length + 1);
    const [before, after] = [current.slice(0, at), current.slice(at)];
    switch (change.kind) {
      case 'insert':
        return before + change.token + after;
      case 'delete':
        return before + after.slice(change.length);
      case 'double':
        return before + after.slice(0, change.length) + after;
      case 'swap':
        return before + after.slice(change.length, 2 * change.length) + after.slice(0, change.length);
      case 'cut':
        return before;
    }
  }, text);
}

test('what is printed as JSON or YAML is taken', async () => {
  await fc.assert(
    fc.asyncProperty(texts, async ({ name, text }) => {
      assert.deepEqual(Object.keys(await importText(name, text)), ['rules'], text);
    }),
    { numRuns: Math.ceil(RUNS / 5) },
  );
});

test('a text with anything done to it is taken or refused with a reason', async () => {
  await fc.assert(
    fc.asyncProperty(texts, edits, async ({ name, text }, changes) => {
      const result = await importText(name, edited(text, changes));
      if (!('refused' in result)) return;
      assert.ok(result.refused.length > 0);
      for (const sentence of result.refused) assert.match(sentence, /^rules\.(json|ya?ml):\d+(:\d+)?: ./);
    }),
    { numRuns: RUNS },
  );
});

test('bytes of any kind are taken or refused with a reason', async () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array).toString('utf8'));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('a.json', 'a.yaml', '-'),
      fc.oneof(bytes, fc.string({ unit: 'binary' })),
      async (name, text) => {
        await importText(name, text);
      },
    ),
    { numRuns: Math.ceil(RUNS / 2) },
  );
});

const DEEP = 100_000;
const HOSTILE: readonly [what: string, name: string, text: string][] = [
  ['lists in lists', 'a.json', '['.repeat(DEEP)],
  ['objects in objects', 'a.json', '{"a":'.repeat(DEEP)],
  ['closed lists in lists', 'a.json', '['.repeat(DEEP) + ']'.repeat(DEEP)],
  ['lists in lists, as YAML', 'a.yaml', '['.repeat(5000)],
  ['closed lists in lists, as YAML', 'a.yaml', '['.repeat(2000) + ']'.repeat(2000)],
  ['sequences in sequences', 'a.yaml', '- '.repeat(2000)],
  ['aliases that multiply', 'a.yaml', bomb(9)],
  ['a list that holds itself', 'a.yaml', '&a [*a]'],
  ['a rule that holds itself', 'a.yaml', '&a {endpointSelector: {}, ingress: [*a]}'],
  ['a list as a key', 'a.yaml', '? [a, b]\n: c\n'],
  ['an unknown anchor', 'a.yaml', '- *nobody\n'],
  ['a number that no number can hold', 'a.json', `[${'9'.repeat(5000)}]`],
  ['a key a million characters long', 'a.json', `[{"${'k'.repeat(1_000_000)}":1}]`],
  ['ten thousand unknown members', 'a.json', `[{${Array.from({ length: 10_000 }, (_, i) => `"k${i}":1`).join()}}]`],
  ['ten thousand faults', 'a.json', `[{"endpointSelector":{},"ingress":[{"fromCIDR":[${'"x",'.repeat(9_999)}"x"]}]}]`],
  ['a prototype', 'a.json', '[{"__proto__":{"endpointSelector":{}},"constructor":1,"ingress":[{}]}]'],
  [
    'names of built-in members as data',
    'a.json',
    '[{"endpointSelector":{"matchLabels":{"constructor":"x","toString":"y"}},"ingress":[{}]}]',
  ],
];

function bomb(levels: number): string {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i <= levels; i++) lines.push(`a${i}: &a${i} [${`*a${i - 1}, `.repeat(10)}]`);
  return lines.join('\n');
}

for (const [what, name, text] of HOSTILE) {
  test(`${what}: no crash`, async () => {
    const result = await importText(name, text);
    if ('refused' in result) assert.ok(result.refused.join('').length < 100_000, 'the answer is no bomb either');
  });
}

test('a rule that is known to be wrong is refused at the place that is wrong', () => {
  fc.assert(
    fc.property(wholeRules, mutations, (rule, mutation) => {
      const { document, path } = mutation(rule);
      try {
        parseSources([{ items: [{ value: document }] }], { language: LANGUAGE, regex: re2 });
      } catch (error) {
        if (!(error instanceof PolicyValidationError)) throw error;
        const places = error.problems.map((problem) => problem.path.join('.'));
        const wanted = ['0', ...path].join('.');
        assert.ok(
          places.some((place) => place.startsWith(wanted)),
          `${wanted} not in ${places.join(' ')}`,
        );
        return;
      }
      assert.fail('it was taken');
    }),
    { numRuns: RUNS },
  );
});
