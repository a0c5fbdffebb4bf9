// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { z } from 'zod';
import { isCiliumError } from '../errors/cilium-error.ts';
import { Journal } from './journal.ts';

function makeFile(t: TestContext): { path: string; folder: string; open: () => Journal<number> } {
  const folder = mkdtempSync(join(tmpdir(), 'drv-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'x.jsonl');
  return { path, folder, open: () => new Journal(path, z.number()) };
}

test('what was appended is there when it is opened again, also without close', (t) => {
  const { open, path } = makeFile(t);
  const first = open();
  assert.deepEqual(first.open(), []);
  first.append(1, false);
  first.append(2, true);
  const second = open();
  assert.deepEqual(second.open(), [1, 2]);
  second.append(3, false);
  assert.equal(second.lines, 3);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(open().open(), [1, 2, 3]);
});

test('a line that was cut short by a crash is dropped, and the next one is whole', (t) => {
  const { open, path } = makeFile(t);
  writeFileSync(path, '1\n2\n33');
  const journal = open();
  assert.deepEqual(journal.open(), [1, 2]);
  journal.append(4, false);
  assert.equal(readFileSync(path, 'utf8'), '1\n2\n4\n');
});

for (const [what, line] of [
  ['not JSON', '{"a'],
  ['not what it should be', '"text"'],
]) {
  test(`a line that is ${what} is an error that names file and line`, (t) => {
    const { open, path } = makeFile(t);
    writeFileSync(path, `1\n${line}\n3\n`);
    assert.throws(
      () => open().open(),
      (error) =>
        isCiliumError(error, 'Precondition') && error.message.includes(path) && error.message.includes('line 2'),
    );
  });
}

test('rewriting replaces all lines, leaves no other file, and appending goes on', (t) => {
  const { open, path, folder } = makeFile(t);
  const journal = open();
  journal.open();
  for (const value of [1, 2, 3]) journal.append(value, false);
  journal.rewrite([7]);
  journal.append(8, false);
  assert.equal(journal.lines, 2);
  assert.equal(readFileSync(path, 'utf8'), '7\n8\n');
  assert.deepEqual(readdirSync(folder), ['x.jsonl']);
});

test('a closed journal refuses', (t) => {
  const { open } = makeFile(t);
  const journal = open();
  journal.open();
  journal.close();
  journal.close();
  assert.throws(() => journal.append(1, false), /not open/);
});

test('a failed append leaves the file as it was', (t) => {
  const { open, path } = makeFile(t);
  const journal = open();
  journal.open();
  journal.append(1, false);
  const circular: { self?: unknown } = {};
  circular.self = circular;
  assert.throws(() => journal.append(circular, false));
  assert.equal(readFileSync(path, 'utf8'), '1\n');
});
