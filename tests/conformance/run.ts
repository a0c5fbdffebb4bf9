// SPDX-License-Identifier: Apache-2.0

/** `node tests/conformance/run.ts [DIR]`: runs every case file of a folder, prints what fails, then the count. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CaseFile } from './case.ts';
import { runCase } from './runner.ts';

const folder = process.argv[2] ?? join(import.meta.dirname, 'policy');
let passed = 0;
let failed = 0;

for (const name of readdirSync(folder).sort()) {
  if (!name.endsWith('.json')) continue;
  const file = JSON.parse(readFileSync(join(folder, name), 'utf8')) as CaseFile;
  for (const test of file.cases) {
    const differences = attempt(() => runCase(test));
    if (differences.length === 0) passed++;
    else failed++;
    for (const { what, expected, found } of differences) {
      console.log(`${name} ${test.id} (${test.name})\n  ${what}`);
      console.log(`  expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function attempt(action: () => ReturnType<typeof runCase>): ReturnType<typeof runCase> {
  try {
    return action();
  } catch (error) {
    return [{ what: 'the run', expected: 'a verdict', found: String(error) }];
  }
}
