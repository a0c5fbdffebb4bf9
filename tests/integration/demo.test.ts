// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../lab/command.ts';
import { Lab } from '../../lab/lab.ts';
import { HOME } from '../../lab/node.ts';

test('privileged: the demo ends well, leaves its node up, and can be repeated', async (t) => {
  const lab = new Lab({ name: `t-${process.pid}-demo` });
  t.after(() => lab.down());
  for (const round of ['first', 'second']) {
    const demo = await run([process.execPath, join(HOME, 'lab/demo.ts'), lab.name]);
    assert.equal(demo.status, 0, `${round}: ${demo.stdout}${demo.stderr}`);
    assert.match(demo.stdout, /app3 +app1 +- +- +- +-\n/);
    assert.match(demo.stdout, /app2 \(\d+\) +app1 \(\d+\) .*:8080 +Policy denied/);
    assert.equal(await lab.node(1).docker(['ps', '--filter', 'name=app2', '--format', '{{.Names}}']), 'app2');
  }
});
