// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { enginePath, provideEngine } from './engine.ts';

test("the system's engine needs no folder", async () => {
  assert.deepEqual(enginePath(undefined), []);
  await provideEngine(undefined);
});

test('an unpacked package is searched for its programs, a folder without dockerd is refused', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'engine-'));
  t.after(() => rmSync(dir, { recursive: true }));
  await assert.rejects(provideEngine(dir), { code: 'NotFound' });
  mkdirSync(join(dir, 'usr/sbin'), { recursive: true });
  writeFileSync(join(dir, 'usr/sbin/dockerd'), '');
  await provideEngine(dir);
  assert.ok(enginePath(dir).includes(join(dir, 'usr/sbin')));
});
