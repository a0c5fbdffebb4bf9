// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { LabelSet } from './label-set.ts';
import { EndpointSelector, selectorKeyProblem, selectorValueProblem, type SelectorJson } from './selector.ts';

function selects(selector: SelectorJson, ...labels: string[]): boolean {
  return EndpointSelector.fromJson(selector).matches(LabelSet.fromTexts(labels));
}

test('a selector without requirements selects everything', () => {
  assert.equal(selects({}, 'reserved:world'), true);
  assert.equal(EndpointSelector.fromJson({}).isWildcard, true);
});

test('all requirements must hold', () => {
  const selector: SelectorJson = {
    matchLabels: { app: 'web' },
    matchExpressions: [{ key: 'env', operator: 'In', values: ['prod', 'stage'] }],
  };
  assert.equal(selects(selector, 'container:app=web', 'container:env=stage'), true);
  assert.equal(selects(selector, 'container:app=web', 'container:env=dev'), false);
  assert.equal(selects(selector, 'container:env=prod'), false);
});

test('a key with a source looks at labels of that source only', () => {
  assert.equal(selects({ matchLabels: { 'k8s:app': 'web' } }, 'container:app=web'), false);
  assert.equal(selects({ matchLabels: { 'any:app': 'web' } }, 'container:app=web'), true);
});

test('NotIn and DoesNotExist hold when the label is missing', () => {
  assert.equal(selects({ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['x'] }] }, 'container:b'), true);
  assert.equal(selects({ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['x'] }] }, 'container:a=x'), false);
  assert.equal(selects({ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] }, 'container:b'), true);
  assert.equal(selects({ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] }, 'container:a'), false);
});

test('an empty value is a value, not a wildcard', () => {
  assert.equal(selects({ matchLabels: { a: '' } }, 'container:a'), true);
  assert.equal(selects({ matchLabels: { a: '' } }, 'container:a=x'), false);
});

test('a prefix selects the labels of prefixes inside it', () => {
  const outer = EndpointSelector.ofLabel('cidr', '10.0.0.0/8');
  assert.equal(outer.matches(LabelSet.fromTexts(['cidr:10.1.0.0/16', 'reserved:world-ipv4'])), true);
  assert.equal(outer.matches(LabelSet.fromTexts(['cidr:0.0.0.0/1', 'reserved:world-ipv4'])), false);
  const v6 = EndpointSelector.ofLabel('cidr', '2001-db8--0/32');
  assert.equal(v6.matches(LabelSet.fromTexts(['cidr:2001-db8--1/128'])), true);
});

test('the text of a selector does not depend on the order of its requirements', () => {
  const a = EndpointSelector.fromJson({ matchLabels: { a: '1', b: '2' } });
  const b = EndpointSelector.fromJson({ matchLabels: { b: '2', 'any:a': '1' } });
  assert.equal(a.toString(), b.toString());
});

test('a selector prints the form it was read from, with sources', () => {
  const selector = EndpointSelector.fromJson({
    matchLabels: { app: 'web' },
    matchExpressions: [{ key: 'k8s:x', operator: 'Exists' }],
  });
  assert.deepEqual(selector.toJSON(), {
    matchLabels: { 'any:app': 'web' },
    matchExpressions: [{ key: 'k8s:x', operator: 'Exists' }],
  });
});

test('keys are Kubernetes qualified names, the source counted in', () => {
  for (const key of ['app', 'k8s:a.example/tier', '$host', 'any:com.acme.v', 'x'.repeat(59)]) {
    assert.equal(selectorKeyProblem(key), undefined, key);
  }
  for (const key of [
    '',
    'my team',
    'a/b/c',
    'Acme.Example/t',
    'k8s:k8s:t',
    'x'.repeat(60),
    'a.example/',
    '-a-',
    'k8s:',
  ]) {
    assert.notEqual(selectorKeyProblem(key), undefined, key);
  }
});

test('values are empty or names', () => {
  for (const value of ['', 'v', 'v'.repeat(63), 'a_b.c-d']) assert.equal(selectorValueProblem(value), undefined, value);
  for (const value of ['-x', 'x-', 'two words', 'v'.repeat(64)])
    assert.notEqual(selectorValueProblem(value), undefined);
});

test('a label that is required twice is printed twice', () => {
  const twice = EndpointSelector.ofLabel('any', 'a', '1').and(EndpointSelector.ofLabel('any', 'a', '2'));
  const again = EndpointSelector.fromJson(twice.toJSON());
  for (const selector of [twice, again]) assert.equal(selector.matches(LabelSet.fromTexts(['container:a=2'])), false);
});
