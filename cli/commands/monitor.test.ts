// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { MonitorListener } from '../../agent/rest/services.ts';
import { dropRecord, traceRecord, verdictRecord } from '../fake/records.ts';
import { runCommand, startNode, type Result } from '../../tests/support/fake-node.ts';

/** Runs `cilium monitor` while `act` makes events, then presses Ctrl-C. */
async function watch(
  t: TestContext,
  argv: readonly string[],
  act: (listener: MonitorListener) => void,
): Promise<Result> {
  const node = await startNode(t);
  const abort = new AbortController();
  let written = 0;
  const env = { CILIUM_SOCK: join(node.folder, 'cilium.sock') };
  const result = runCommand(['monitor', ...argv], { env, interrupted: abort.signal, onOutput: () => written++ });
  while (node.services.listeners.size === 0) await new Promise(setImmediate);
  const [listener] = node.services.listeners;
  act(listener!);
  listener!.lost(77); // shown by every filter: the sign that all before it has arrived
  while (written === 0) await new Promise(setImmediate);
  abort.abort();
  return result;
}

const DROP = dropRecord({ reason: 133, source: 29, destination: 173 });
const TRACE = traceRecord({ point: 0, reason: 0, source: 29, destination: 173 });
const VERDICT = verdictRecord({ source: 173, destination: 173, remoteIdentity: 2, verdict: 0, match: 4 });

function makeAll(listener: MonitorListener): void {
  for (const record of [DROP, TRACE, VERDICT]) listener.record(record);
  listener.agent({ type: 'Policy updated', message: { revision: 4, rule_count: 1 } });
}

test('every event is a line, Ctrl-C ends it, and what is not an event goes to standard error', async (t) => {
  const { stdout, stderr, status } = await watch(t, [], makeAll);
  assert.equal(status, 0);
  assert.equal(
    stderr,
    'Listening for events on 2 CPUs with 512x4096 of shared memory\nPress Ctrl-C to quit\n\n' +
      'Received an interrupt, disconnecting from monitor...\n\n',
  );
  const starts = [
    'xx drop',
    '-> endpoint 173',
    'Policy verdict log',
    '>> Policy updated: {"revision":4,"rule_count":1}',
  ];
  const shown = stdout.split('\n');
  for (const [i, start] of starts.entries()) assert.ok(shown[i]?.startsWith(start), `${shown[i]} starts with ${start}`);
  assert.deepEqual(shown.slice(starts.length), ['Lost 77 events', '']);
});

const filters: [argv: string[], shown: string[]][] = [
  [['-t', 'drop'], ['xx']],
  [
    ['-t', 'drop', '--type', 'agent'],
    ['xx', '>>'],
  ],
  [
    ['-t', 'trace,policy-verdict'],
    ['->', 'Policy'],
  ],
  [
    ['--from', '29'],
    ['xx', '->'],
  ],
  [
    ['--to', '173'],
    ['xx', '->', 'Policy'],
  ],
  [['--from', '173', '--to', '173'], ['Policy']],
  [
    ['--related-to', '29'],
    ['xx', '->'],
  ],
  [['--related-to', '173', '-t', 'trace'], ['->']],
  [['--from', '1', '--from', '173'], ['Policy']],
  [['--from', '9'], []],
];
for (const [argv, expected] of filters) {
  test(`monitor ${argv.join(' ')} shows ${expected.join(', ') || 'nothing'}`, async (t) => {
    const { stdout } = await watch(t, argv, makeAll);
    assert.deepEqual(
      stdout.split('\n').map((line) => line.split(' ')[0]),
      [...expected, 'Lost', ''],
    );
  });
}

test('monitor -j prints one JSON object a line', async (t) => {
  const { stdout } = await watch(t, ['-j'], makeAll);
  const types = stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { type: string }).type);
  assert.deepEqual(types, ['drop', 'trace', 'policy-verdict', 'agent', 'lost']);
});

test('monitor -vv shows headers, with --hex bytes', async (t) => {
  assert.match(
    (await watch(t, ['-vv', '-t', 'drop'], makeAll)).stdout,
    /^-{78}\nMARK .* DROP: 74 bytes.*\nEthernet\t\{/,
  );
  assert.match((await watch(t, ['-vv', '--hex', '-t', 'drop'], makeAll)).stdout, /\n00000030 {2}/);
});

test('a record that is not understood is shown as bytes', async (t) => {
  const { stdout } = await watch(t, [], (listener) => listener.record(Buffer.from([9, 9])));
  assert.match(stdout, /^Unknown event: 0909\n/);
});

for (const [argv, message] of [
  [['-t', 'drops'], /Known types: drop, trace, policy-verdict, agent\./],
  [['--from', 'x'], /Expected the number of an endpoint\./],
] as const) {
  test(`monitor ${argv.join(' ')} is refused`, async () => {
    const { stderr, status } = await runCommand(['monitor', ...argv]);
    assert.equal(status, 1);
    assert.match(stderr, message);
  });
}

test('monitor without an agent is an error', async () => {
  const { stderr, status } = await runCommand(['monitor'], { env: { CILIUM_SOCK: '/none' } });
  assert.equal(status, 1);
  assert.match(stderr, /Is the agent running\?/);
});
