// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from './command.ts';
import { HOME } from './node.ts';

test('commands on a lab that does not exist say so, with what makes it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'labs-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const env = { ...process.env, LAB_DIR: dir };
  for (const command of [['status'], ['exec', '1', '--', 'true'], ['cut', 'node1'], ['heal']]) {
    const { status, stdout, stderr } = await run([join(HOME, 'bin/lab'), '--name', 'nope', ...command], { env });
    assert.deepEqual([status, stdout], [1, ''], command.join(' '));
    assert.match(stderr, /^lab: there is no lab "nope" on this machine: bin\/lab --name nope up makes it\n$/);
  }
});
