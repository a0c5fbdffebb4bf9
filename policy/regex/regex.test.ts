// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Regex, regexProblem } from './regex.ts';

function matches(pattern: string, text: string): boolean {
  return new Regex(pattern).matches(text);
}

test('the whole text must match', () => {
  assert.equal(matches('GET|HEAD', 'GET'), true);
  assert.equal(matches('GET|HEAD', 'GETHEAD'), false);
  assert.equal(matches('/v1/items(/[0-9]+)?', '/v1/items/42'), true);
  assert.equal(matches('/v1/items(/[0-9]+)?', '/v1/items/'), false);
  assert.equal(matches('', ''), true);
  assert.equal(matches('/a.b', '/axb'), true);
});

test('what RE2 has beyond JavaScript is understood', () => {
  assert.equal(matches('(?i)get', 'GeT'), true);
  assert.equal(matches('a(?i:b)c', 'aBc'), true);
  assert.equal(matches('a(?i:b)c', 'aBC'), false);
  assert.equal(matches('\\Qa.b\\E+', 'a.bb'), true);
  assert.equal(matches('[[:alpha:]]+[[:^digit:]]', 'abc-'), true);
  assert.equal(matches('\\pL\\x41\\x{1F600}\\101', 'éA😀A'), true);
  assert.equal(matches('(?P<name>a)\\z', 'a'), true);
  assert.equal(matches('[]a]+', ']a'), true);
  assert.equal(matches('a{,2}', 'a{,2}'), true);
  assert.equal(matches('(?s).', '\n'), true);
  assert.equal(matches('.', '\n'), false);
  assert.equal(matches('a{2,3}', 'aaa'), true);
  assert.equal(matches('(a{0})b', 'b'), true);
});

test('what RE2 does not have is refused', () => {
  for (const pattern of [
    '[',
    '(a',
    'a)',
    '*',
    'a**',
    'a|*',
    '(?=x)',
    '(?<!x)',
    '(a)\\1',
    'a{1001}',
    'a{3,2}',
    '[z-a]',
    '[[:nope:]]',
    '\\',
    '\\y',
    '\\p{Nope}',
    '\\xZZ',
    '(?z)',
    '((a{1000}){1000})',
    '('.repeat(2000) + ')'.repeat(2000),
  ]) {
    assert.notEqual(regexProblem(pattern), undefined, pattern.slice(0, 20));
  }
});

test('a pattern that would blow up a backtracking engine is done at once', () => {
  const text = 'a'.repeat(5000);
  assert.equal(matches('(a*)*b', text), false);
  assert.equal(matches('(a|aa)+$', `${text}b`), false);
  assert.equal(matches('(.*)(.*)(.*)(.*)(.*)[^a]', text), false);
  assert.equal(matches('((((){1000}){1000}){1000}){1000}', ''), true);
});

test('it agrees with the engine of the language on what both understand', () => {
  const atom = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\w', '\\.', '(?:ab)', '(a|b)', '(|a)', '^', '$', '\\b');
  const piece = fc
    .tuple(atom, fc.constantFrom('', '', '*', '+', '?', '{2}', '{0,2}', '{1,}', '*?'))
    .map(([what, times]) => (/^(\^|\$|\\b)$/.test(what) ? what : what + times));
  const pattern = fc
    .array(fc.array(piece, { maxLength: 4 }), { minLength: 1, maxLength: 3 })
    .map((options) => options.map((pieces) => pieces.join('')).join('|'));
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', ' '), maxLength: 6 });
  fc.assert(
    fc.property(pattern, text, (source, input) => {
      assert.equal(matches(source, input), new RegExp(`^(?:${source})$`, 'u').test(input));
    }),
    { numRuns: 2000 },
  );
});

test('no text makes the parser do anything but parse or refuse', () => {
  const unit = fc.constantFrom(...'ab()[]{}|*+?^$.\\-:,<>=!PQEpx01iz'.split(''));
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 20 }), (source) => {
      regexProblem(source);
    }),
    { numRuns: 5000 },
  );
});
