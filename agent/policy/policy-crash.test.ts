// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { openPolicy } from '../../tests/support/policy-writer.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';

const WRITER = join(import.meta.dirname, '../../tests/support/policy-writer.ts');
const WRITES_PER_ROUND = 150;

test('killed with -9 while it imports and compacts, the agent has all that was answered and at most one more', async (t) => {
  const folder = await temporaryFolder('policy-crash');
  t.after(() => rm(folder, { recursive: true }));
  let next = 0;
  for (let round = 0; round < 4; round++) {
    const writer = spawn(process.execPath, [WRITER, folder, String(next)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(writer, 'exit');
    const end = next + WRITES_PER_ROUND + round * 7;
    let answered = next - 1;
    for await (const line of createInterface(writer.stdout)) {
      answered = Number(line);
      if (answered === end) writer.kill('SIGKILL');
    }
    assert.deepEqual(await exited, [null, 'SIGKILL']);

    const policy = await openPolicy(folder);
    const [group, ...rules] = policy.rules() as { description: string; metadata: { labels: { number: string } } }[];
    const numbers = rules.map(({ description }) => Number(description));
    next = numbers.length;
    assert.ok(next === answered + 1 || next === answered + 2, `${answered} was answered, ${next} rules are there`);
    assert.deepEqual(numbers, [...numbers.keys()]);
    assert.equal(group?.metadata.labels.number, String(next - 1), 'a change is there as a whole');
    await policy.stop();
  }
});
