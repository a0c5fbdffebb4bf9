// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { requirePrograms } from './requirements.ts';

test('a tree without programs for the kernel is refused with what to do', (t) => {
  const home = mkdtempSync(join(tmpdir(), 'lab-home-'));
  t.after(() => rmSync(home, { recursive: true }));
  assert.throws(() => requirePrograms(`${home}/`), {
    code: 'Precondition',
    message: new RegExp(`no bpf-src/build/bpf_lxc\\.o: run 'make build' in ${home}, or`),
  });
  mkdirSync(join(home, 'bpf-src/build'), { recursive: true });
  writeFileSync(join(home, 'bpf-src/build/bpf_lxc.o'), '');
  requirePrograms(home);
});
