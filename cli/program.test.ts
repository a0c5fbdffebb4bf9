// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCommand, startNode } from '../tests/support/fake-node.ts';
import { CILIUM } from './program.ts';

test('without words the help names every command', async () => {
  const { stdout, status } = await runCommand([]);
  assert.equal(status, 0);
  for (const name of Object.keys(CILIUM.commands)) assert.match(stdout, new RegExp(`^ {2}${name}\\b`, 'm'), name);
});

for (const argv of [['help', 'policy'], ['policy', '--help'], ['policy']]) {
  test(`"${argv.join(' ')}" shows the help of the group`, async () => {
    const { stdout, stderr, status } = await runCommand(argv);
    assert.equal(status, 0);
    assert.equal(stderr, '');
    assert.match(stdout, /^Usage: cilium policy /);
    assert.match(stdout, /import \[options\] <path\.\.\.>/);
  });
}

const wrongUses: [argv: string[], error: RegExp, usage: RegExp][] = [
  [['polcy'], /^Error: unknown command 'polcy'\n/, /^Usage: cilium \[/],
  [['policy', 'improt'], /^Error: unknown command 'improt'\n/, /^Usage: cilium policy \[/],
  [['status', '--brif'], /^Error: unknown option '--brif'\n/, /^Usage: cilium status \[/],
  [['endpoint', 'labels'], /^Error: missing required argument 'id'\n/, /^Usage: cilium endpoint labels \[/],
  [['status', 'extra'], /^Error: too many arguments for 'status'/, /^Usage: cilium status \[/],
  [
    ['endpoint', 'list', '-o', 'xml'],
    /'xml' is invalid\. Use json, yaml or jsonpath=TEMPLATE\./,
    /^Usage: cilium endpoint list/,
  ],
  [
    ['policy', 'wait', 'soon'],
    /'soon' is invalid for argument 'revision'\. Expected a whole number\./,
    /^Usage: cilium policy wait/,
  ],
];
for (const [argv, error, usage] of wrongUses) {
  test(`"${argv.join(' ')}" is an error, with the usage on standard output`, async () => {
    const { stdout, stderr, status } = await runCommand(argv);
    assert.equal(status, 1);
    assert.match(stderr, error);
    assert.match(stdout, usage);
  });
}

test('without an agent a command says so and what to do', async () => {
  const { stdout, stderr, status } = await runCommand(['endpoint', 'list'], { env: { CILIUM_SOCK: '/nonexistent/s' } });
  assert.deepEqual([stdout, status], ['', 1]);
  assert.match(
    stderr,
    /^Error: cannot reach the agent at \/nonexistent\/s: connect ENOENT \/nonexistent\/s\nIs the agent running\? /,
  );
});

test('--host and CILIUM_HOST name the socket, before and after the command', async (t) => {
  const { folder, run } = await startNode(t);
  const host = `unix://${folder}/cilium.sock`;
  for (const argv of [
    ['--host', host, 'status', '--brief'],
    ['status', '--brief', '-H', host],
  ]) {
    assert.equal((await runCommand(argv)).stdout, 'OK\n', argv.join(' '));
  }
  assert.equal((await runCommand(['status', '--brief'], { env: { CILIUM_HOST: host } })).stdout, 'OK\n');
  const { stderr, status } = await run('status', '-H', 'localhost');
  assert.equal(status, 1);
  assert.equal(stderr, 'Error: "localhost" is not the address of an agent (expected unix:///PATH)\n');
});

test('--debug shows where an error comes from', async () => {
  const { stderr } = await runCommand(['--debug', 'identity', 'get']);
  assert.match(stderr, /^Error: give either .*\n.*InvalidArgument|CiliumError/);
  assert.match(stderr, /at .*identity\.ts/);
});
