// SPDX-License-Identifier: Apache-2.0

/** What the C must not do, however well it runs here. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const sources = ['bpf-src', 'bpf-src/lib'].flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => /\.[ch]$/.test(name))
    .map((name) => `${folder}/${name}`),
);

test('every function is inline or global: kernel 6.1 judges calls of static ones wrongly (lib/common.h)', () => {
  for (const path of sources) {
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      assert.ok(!/^static (?!__always_inline).*\(/.test(line), `${path}: ${line}`);
    }
  }
});
