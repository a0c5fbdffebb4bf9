// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import assert from 'node:assert/strict';

function run(t: TestContext, files: Readonly<Record<string, string>>): { status: number | null; lines: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'inner'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, 'run.ts'), folder], {
    encoding: 'utf8',
    env: { ...process.env, DATAPATH: '0' },
  });
  return { status, lines: stdout.trimEnd().split('\n') };
}

function file(...cases: unknown[]): string {
  return JSON.stringify({ format: 'cilium-policy-conformance/1', title: 'of a test', cases });
}

const good = { id: 'g', kind: 'label-parse', name: 'a label', input: 'a:b=c', source: 'a', key: 'b', value: 'c' };

test('folders in the folder count, and JSON that holds no cases does not', (t) => {
  const { status, lines } = run(t, { 'a.json': file(good), 'inner/b.json': file(good, good), 'c.json': '{"x":1}' });
  assert.deepEqual({ status, lines }, { status: 0, lines: ['3 passed, 0 failed'] });
});

test('a case that fails is shown with what was expected and found', (t) => {
  const { status, lines } = run(t, { 'a.json': file(good, { ...good, id: 'w', key: 'x' }) });
  assert.equal(status, 1);
  assert.deepEqual(lines, [
    'a.json w (a label)',
    '  label',
    '  expected {"source":"a","key":"x","value":"c"}, found {"source":"a","key":"b","value":"c"}',
    '1 passed, 1 failed',
  ]);
});

test('files that cannot be used are failures with their names', (t) => {
  const other = JSON.stringify({ format: 'something/2', cases: [] });
  const { status, lines } = run(t, { 'a.json': '{', 'b.json': other, 'c.json': other.replace('[]', '{}') });
  assert.equal(status, 1);
  assert.deepEqual(
    lines.map((line) => line.slice(0, 6)),
    ['a.json', 'b.json', 'c.json', '0 pass'],
  );
});

test('cases that make no sense fail, and those behind them are run', (t) => {
  const { status, lines } = run(t, {
    'a.json': file(
      null,
      5,
      { ...good, kind: 'riddle' },
      { ...good, kind: 'evaluate' },
      { ...good, kind: 'repository' },
      good,
    ),
  });
  assert.equal(status, 1);
  assert.equal(lines.at(-1), '1 passed, 5 failed');
  assert.ok(lines.some((line) => line.includes('found "riddle"')));
});

test('a folder without cases is no success', (t) => {
  const { status, lines } = run(t, {});
  assert.equal(status, 1);
  assert.equal(lines.at(-1), '0 passed, 0 failed');
});
