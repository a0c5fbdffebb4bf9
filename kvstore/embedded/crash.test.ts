// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { silentLogger } from '../../runtime/logger.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { EmbeddedKvstore } from './embedded-kvstore.ts';
import { EmbeddedEngine } from './engine.ts';

const WRITER = join(import.meta.dirname, '../../tests/support/kvstore-writer.ts');
/** Enough for several snapshots a round. */
const WRITES_PER_ROUND = 400;

test('killed with -9 while it writes and compacts, the store has all that was acknowledged and little more', async (t) => {
  const folder = await temporaryFolder('kvstore-crash');
  t.after(() => rm(folder, { recursive: true }));
  const acknowledged = new Set<number>();
  for (let round = 0; round < 4; round++) {
    const writer = spawn(process.execPath, [WRITER, folder, String(acknowledged.size)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(writer, 'exit');
    const end = acknowledged.size + WRITES_PER_ROUND + round * 7;
    for await (const line of createInterface(writer.stdout)) {
      acknowledged.add(Number(line));
      if (acknowledged.size === end) writer.kill('SIGKILL');
    }
    assert.deepEqual(await exited, [null, 'SIGKILL']);

    const engine = new EmbeddedEngine({ folder, log: silentLogger, minCompactionBytes: 8_192 });
    await engine.start();
    const { entries } = await new EmbeddedKvstore(engine).list('key/');
    const present = new Set(entries.map(({ key }) => Number(key.slice('key/'.length))));
    for (const number of acknowledged) assert.ok(present.has(number), `round ${round} lost ${number}`);
    assert.ok(present.size <= acknowledged.size + 3, 'only what was under way may be there besides');
    for (const { value, key } of entries) assert.equal(value.length, Number(key.slice('key/'.length)) % 200);
    await engine.stop();
    for (const number of present) acknowledged.add(number);
  }
});
