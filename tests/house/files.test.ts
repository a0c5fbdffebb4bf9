// SPDX-License-Identifier: Apache-2.0

/** House rules about files: licence, names, sizes, leftovers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownFiles, readOwn, roomNames } from './tree.ts';

const files = ownFiles();
const sources = files.filter((path) => /\.([cm]?[jt]s|c|h|sh)$|^bin\/|(^|\/)Makefile$|^\.ci\//.test(path));
const typescript = files.filter((path) => path.endsWith('.ts'));
/** A reason to look for a seam, says the style; here is where looking ends. */
const MAX_LINES = 500;

/** Fails with the list of those that break the rule. */
function noneOf(paths: readonly string[], rule: string): void {
  assert.deepEqual(paths, [], rule);
}

test('every source file names its licence in its first lines', () => {
  assert.ok(sources.length > 100, 'the rule looks at files');
  const kernel = 'SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause';
  const wrong = sources.filter((path) => {
    const head = readOwn(path).split('\n', 3).join('\n');
    const expected =
      path.startsWith('bpf-src/') && /\.[ch]$/.test(path) ? kernel : 'SPDX-License-Identifier: Apache-2.0';
    return !head.includes(expected);
  });
  noneOf(wrong, 'Apache-2.0, and for what runs in the kernel GPL-2.0-only OR BSD-2-Clause');
});

test('TypeScript files have kebab-case names', () => {
  const name = /(^|\/)[a-z0-9]+(-[a-z0-9]+)*(\.[a-z]+)*\.ts$/;
  noneOf(
    typescript.filter((path) => !name.test(path)),
    'kebab-case.ts',
  );
});

test('no TypeScript file is longer than a person reads in one go', () => {
  noneOf(
    typescript.filter((path) => readOwn(path).split('\n').length > MAX_LINES),
    `${MAX_LINES} lines`,
  );
});

test('every room has a README that can be read at once', () => {
  const wrong = roomNames().filter((room) => {
    if (!files.includes(`${room}/README.md`)) return true;
    const lines = readOwn(`${room}/README.md`).trim().split('\n');
    return !lines[0]!.startsWith('# ') || lines.length < 3 || lines.length > 60;
  });
  noneOf(wrong, 'what it is, its main types, what it may import, how it is tested');
});

test('every room with TypeScript is in the rules of who may import whom, and they are checked for it', () => {
  const rooms = roomNames().filter((room) => typescript.some((path) => path.startsWith(`${room}/`)));
  const rules = readOwn('.dependency-cruiser.cjs');
  const scripts = (JSON.parse(readOwn('package.json')) as { scripts: Record<string, string> }).scripts;
  const checked = scripts['rules']!.split(' ');
  const outside = ['tests', 'tools']; // nothing imports them
  noneOf(
    rooms.filter((room) => !outside.includes(room) && !(checked.includes(room) && rules.includes(`  ${room}: `))),
    'a row in .dependency-cruiser.cjs, and an argument of "npm run rules"',
  );
});

test('only what talks to a person writes to the console', () => {
  const silent = typescript.filter((path) => !/^(cli|lab|tools|tests)\/|\.test\.ts$/.test(path));
  noneOf(
    silent.filter((path) => /\bconsole\.\w+\(/.test(readOwn(path))),
    'components log through runtime/logger.ts',
  );
});

test('nothing is left for later in a comment', () => {
  const mark = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\\b`);
  noneOf(
    sources.filter((path) => mark.test(readOwn(path))),
    'do it, or write it down as an issue',
  );
});

test('tests do not leave out other tests', () => {
  noneOf(
    typescript.filter((path) => path.endsWith('.test.ts') && /\b(test|it|describe)\.(only|todo)\(/.test(readOwn(path))),
    'no only, no todo',
  );
});
