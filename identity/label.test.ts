// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatLabel, parseLabel, parseSelectLabel, parseSelectorKey, selectsLabel } from './label.ts';
import { LabelSet } from './label-set.ts';

test('the source of a label ends at the first colon and the key at the first equals sign', () => {
  assert.deepEqual(parseLabel('k8s:a.b/c=d=e'), { source: 'k8s', key: 'a.b/c', value: 'd=e' });
  assert.deepEqual(parseLabel('container:a:b=c'), { source: 'container', key: 'a:b', value: 'c' });
  assert.deepEqual(parseLabel('solo'), { source: 'unspec', key: 'solo', value: '' });
  assert.deepEqual(parseLabel('x:=v'), { source: 'x', key: '', value: 'v' });
});

test('reserved labels have short forms', () => {
  const host = { source: 'reserved', key: 'host', value: '' };
  for (const text of ['$host', 'reserved:host', 'reserved.host', 'reserved:=host']) {
    assert.deepEqual(parseLabel(text), host, text);
  }
});

test('a key of a selector without a source means every source', () => {
  assert.deepEqual(parseSelectorKey('com.acme.v'), { source: 'any', key: 'com.acme.v' });
  assert.deepEqual(parseSelectorKey('k8s:role=x'), { source: 'k8s', key: 'role' });
});

test('a select label without a source picks every source, with one only that', () => {
  const label = parseLabel('ops:unit=shop');
  assert.equal(selectsLabel(parseSelectLabel('unit=shop'), label), true);
  assert.equal(selectsLabel(parseSelectLabel('ops:unit=shop'), label), true);
  assert.equal(selectsLabel(parseSelectLabel('dev:unit=shop'), label), false);
  assert.equal(selectsLabel(parseSelectLabel('unit'), label), false);
});

test('a label set is sorted by key and the last of equal keys counts', () => {
  const set = LabelSet.fromTexts(['k8s:b=1', 'container:a=1', 'k8s:b=2', 'container:b=3', 'reserved:init']);
  assert.deepEqual(set.toTexts(), ['container:a=1', 'container:b=3', 'k8s:b=2', 'reserved:init']);
  assert.equal(set.toString(), 'container:a=1;container:b=3;k8s:b=2;reserved:init=;');
  assert.equal(set.find('any', 'b')?.value, '3');
  assert.equal(set.find('k8s', 'b')?.value, '2');
  assert.equal(set.find('k8s', 'a'), undefined);
});

test('a value cannot pose as further labels in the text of a label set', () => {
  const set = LabelSet.of([{ source: 'container', key: 'note', value: 'x;container:id=app1' }]);
  assert.deepEqual([...LabelSet.parse(set.toString())], [...set]);
});

test('the text of a label set reads back to the same labels', () => {
  const key = fc.string({ unit: fc.constantFrom('a', 'b', '.', '/', ';', '%', '2', '5', '3', 'B'), minLength: 1 });
  const value = fc.string({ unit: fc.constantFrom('v', '=', ';', '%', '2', '5', '3', 'B', ':') });
  const label = fc
    .tuple(fc.constantFrom('container', 'k8s', 'reserved'), key, value)
    .map(([source, key, value]) => ({ source, key, value }));
  fc.assert(
    fc.property(fc.array(label, { maxLength: 5 }), (labels) => {
      const set = LabelSet.of(labels);
      assert.deepEqual([...LabelSet.parse(set.toString())], [...set]);
      for (const one of set) assert.deepEqual(parseLabel(formatLabel(one)), one);
    }),
  );
});
