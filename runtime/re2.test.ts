// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Session } from 'node:inspector/promises';
import { setFlagsFromString } from 'node:v8';
import fc from 'fast-check';
import { isCiliumError } from '../errors/cilium-error.ts';
import { re2 } from './re2.ts';

const loaded = (): boolean => Object.keys(createRequire(import.meta.url).cache).some((path) => /\bre2js\b/.test(path));

// Stays the first test: it looks at what the import of this module has loaded.
test('the package is loaded with the first pattern', () => {
  assert.equal(loaded(), false);
  re2.compile('a');
  assert.equal(loaded(), true);
});

function matches(pattern: string, text: string): boolean {
  return re2.compile(pattern).matches(text);
}

test('the whole text must match', () => {
  assert.equal(matches('GET|HEAD', 'GET'), true);
  assert.equal(matches('GET|HEAD', 'GETHEAD'), false);
  assert.equal(matches('/v1/items(/[0-9]+)?', '/v1/items/42'), true);
  assert.equal(matches('/v1/items(/[0-9]+)?', '/v1/items/'), false);
  assert.equal(matches('', ''), true);
  assert.equal(matches('a\\z', 'a\n'), false);
  assert.equal(matches('a$', 'a\n'), false);
});

test('a match at the start has the length of the first alternative that leads to one', () => {
  assert.equal(re2.compile('net\\.').prefixLength('net.edge'), 4);
  assert.equal(re2.compile('a|ab').prefixLength('ab'), 1);
  assert.equal(re2.compile('ab$').prefixLength('abc'), undefined);
  assert.equal(re2.compile('b').prefixLength('ab'), undefined);
  assert.equal(re2.compile('').prefixLength('a'), 0);
});

test('what RE2 has beyond JavaScript is understood', () => {
  const cases: [string, string, boolean][] = [
    ['(?i)get', 'GeT', true],
    ['a(?i:b)c', 'aBC', false],
    ['\\Qa.b\\E+', 'a.bb', true],
    ['[[:alpha:]]+[[:^digit:]]', 'abc-', true],
    ['\\pL\\x41\\x{1F600}\\101', 'éA😀A', true],
    ['\\pN{2}', '5٣', true],
    ['\\p{Greek}\\P{Greek}', 'αa', true],
    ['(?P<name>a)', 'a', true],
    ['[]a]+', ']a', true],
    ['a{,2}', 'a{,2}', true],
    ['a{01}', 'a{01}', true],
    ['(?i)[a-z]', 'ſ', true],
    ['(?s).', '\n', true],
    ['.', '\n', false],
    ['a{1000}', 'a'.repeat(1000), true],
    ['(a{0})b', 'b', true],
    ['^^a$$', 'a', true],
    ['\\bx\\b', 'x', true],
    ['.', '😀', true],
  ];
  for (const [pattern, text, expected] of cases) assert.equal(matches(pattern, text), expected, pattern);
});

test('what RE2 does not have is refused, with a reason', () => {
  const cases: [string, RegExp][] = [
    ['[', /missing closing \]/],
    ['(a', /missing closing \)/],
    ['a)', /unexpected \)/],
    ['*', /missing argument to repetition operator/],
    ['a**', /invalid nested repetition operator/],
    ['a|*', /missing argument/],
    ['(?=x)', /invalid or unsupported Perl syntax/],
    ['(?<!x)', /invalid named capture/],
    ['(a)\\1', /invalid escape sequence/],
    ['a{1001}', /invalid repeat count/],
    ['a{3,2}', /invalid repeat count/],
    ['(a{2}){501}', /invalid repeat count/],
    ['[z-a]', /invalid character class range/],
    ['[[:nope:]]', /invalid character class range/],
    ['\\', /trailing backslash/],
    ['\\y', /invalid escape sequence/],
    ['\\p{Nope}', /invalid character class range/],
    ['\\x{110000}', /invalid escape sequence/],
    ['(?z)', /invalid or unsupported Perl syntax/],
    ['(?P<n>a)(?P<n>b)', /duplicate capture group name/],
    ['('.repeat(2000) + ')'.repeat(2000), /nests too deeply/],
    ['a{1000}'.repeat(11), /too large/],
    ['a'.repeat(16_385), /too large/],
    [`[${'é'.repeat(1000)}`, /missing closing/],
  ];
  for (const [pattern, reason] of cases) {
    assert.throws(
      () => re2.compile(pattern),
      (error) => isCiliumError(error, 'InvalidArgument') && reason.test(error.message) && error.message.length < 150,
      pattern.slice(0, 20),
    );
  }
});

test('it agrees with the engine of JavaScript on what both understand', () => {
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
  const unit = fc.constantFrom(...'ab()[]{}|*+?^$.\\-:,<>=!PQEpx01iz'.split(''), '\ud83d', 'é');
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 20 }), (source) => {
      try {
        re2.compile(source).matches('ab');
      } catch (error) {
        if (!isCiliumError(error, 'InvalidArgument')) throw error;
      }
    }),
    { numRuns: 5000 },
  );
});

/** How many times anything was done inside the package: calls of functions and turns of loops. Compiled code loses some. */
async function workOf(run: () => void): Promise<number> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    await session.post('Profiler.takePreciseCoverage');
    run();
    const { result } = await session.post('Profiler.takePreciseCoverage');
    const ranges = result
      .filter(({ url }) => url.includes('re2js'))
      .flatMap(({ functions }) => functions.flatMap((called) => called.ranges));
    return ranges.reduce((sum, { count }) => sum + count, 0);
  } finally {
    session.disconnect();
  }
}

// Stays the last test: the others would be slow without compilers.
test('work grows with the text and no faster, also where a backtracking engine would blow up', async () => {
  for (const compiler of ['opt', 'maglev', 'sparkplug']) setFlagsFromString(`--no-${compiler}`);
  const patterns = [
    '^(a+)+$',
    '(a*)*b',
    '(a|aa)+',
    '(.*)(.*)(.*)(.*)(.*)[^a]',
    '(x+x+)+y|a*(a?){50}a{50}b',
    '(?:a|\\pL|.)*c',
  ];
  const length = 4000;
  for (const pattern of patterns) {
    const regex = re2.compile(pattern);
    regex.matches(`${'a'.repeat(length)}!`); // builds what is built once
    const [once, twice] = [
      await workOf(() => regex.matches(`${'a'.repeat(length)}!`)),
      await workOf(() => regex.matches(`${'a'.repeat(2 * length)}!`)),
    ];
    assert.ok(once > length / 2, `${pattern}: ${once} steps are too few to have been counted`);
    assert.ok(twice < 2.5 * once, `${pattern}: ${once} steps, then ${twice} for twice the text`);
  }
});
