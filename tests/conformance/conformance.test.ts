// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { CaseFile } from './case.ts';
import { runCase } from './runner.ts';

const FOLDER = join(import.meta.dirname, 'policy');

for (const name of readdirSync(FOLDER).filter((file) => file.endsWith('.json'))) {
  const { title, cases } = JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as CaseFile;
  test(`the engine passes ${name} (${title})`, () => {
    for (const one of cases) assert.deepEqual(runCase(one), [], `${one.id} ${one.name}`);
  });
}
