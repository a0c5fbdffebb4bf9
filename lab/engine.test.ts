// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { enginePath } from './engine.ts';

test('the system engine needs no folder, an unpacked package is searched, a folder without dockerd is refused', (t) => {
  assert.deepEqual(enginePath(undefined), []);
  const dir = mkdtempSync(join(tmpdir(), 'engine-'));
  t.after(() => rmSync(dir, { recursive: true }));
  assert.throws(() => enginePath(dir), { code: 'NotFound' });
  mkdirSync(join(dir, 'usr/sbin'), { recursive: true });
  writeFileSync(join(dir, 'usr/sbin/dockerd'), '');
  assert.ok(enginePath(dir).includes(join(dir, 'usr/sbin')));
});
