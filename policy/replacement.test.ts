// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseLabel, selectsLabel } from '../identity/label.ts';
import { parseRules } from './parse/rule.ts';
import { replacedRules } from './replacement.ts';
import type { Rule } from './rule.ts';

const ruleWith = (...labels: string[]): Rule =>
  parseRules([{ endpointSelector: {}, ingress: [{}], labels: labels.map(parseLabel) }])[0]!;

const labels = fc.uniqueArray(fc.constantFrom('a:x=1', 'a:x=2', 'b:x=1', 'any:x=1', 'b:y', 'any:y'), { maxLength: 3 });
const rules = fc.array(labels, { maxLength: 10 }).map((sets) => sets.map((set) => ruleWith(...set)));

test('the rules that go are those that have all labels of some new rule, or all labels named', () => {
  fc.assert(
    fc.property(rules, rules, fc.option(labels), fc.boolean(), (stored, imported, named, replace) => {
      const has = (rule: Rule, wanted: readonly { source: string; key: string; value: string }[]) =>
        wanted.every((select) => rule.labels.some((label) => selectsLabel(select, label)));
      const expected = stored.filter(
        (rule) =>
          (named !== null && has(rule, named.map(parseLabel))) ||
          (replace && imported.some((added) => added.labels.length > 0 && has(rule, added.labels))),
      );
      const replaceWithLabels = named === null ? {} : { replaceWithLabels: named.map(parseLabel) };
      const replaced = replacedRules(stored, imported, { replace, ...replaceWithLabels });
      assert.deepEqual(
        stored.filter((rule) => replaced.has(rule)),
        expected,
      );
      assert.equal(replaced.size, expected.length);
    }),
  );
});

test('rules that are named go, whatever their labels', () => {
  const [one, two] = [ruleWith('a:x=1'), ruleWith('a:x=1')];
  assert.deepEqual([...replacedRules([one, two], [], { replaceRules: new Set([two]) })], [two]);
});
