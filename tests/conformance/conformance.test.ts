// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { loadCases } from './case-files.ts';
import { runCase } from './runner.ts';

const files = loadCases(join(import.meta.dirname, 'policy'));

for (const { file, title, cases, problem } of files) {
  test(`the engine passes ${file} (${title})`, () => {
    assert.equal(problem, undefined);
    for (const one of cases) assert.deepEqual(runCase(one), [], `${one.id} ${one.name}`);
  });
}

test('ids of cases are unique over all files', () => {
  const ids = files.flatMap(({ cases }) => cases.map(({ id }) => id));
  assert.deepEqual(
    ids.filter((id, index) => ids.indexOf(id) !== index),
    [],
  );
});
