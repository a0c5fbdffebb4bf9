// SPDX-License-Identifier: Apache-2.0

/** How the agent begins and ends: refusals in one line, an orderly stop, and a start that takes over. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { HOME } from '../../lab/node.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const AGENT = join(HOME, 'bin/cilium-agent');
const lab = labForTests();
const node = new DockerNode(lab);

/** Starts an agent that has to refuse; what it said. */
async function refusal(argv: readonly string[]): Promise<string> {
  const { status, stderr } = await node.lab.run(argv);
  assert.equal(status, 1, stderr);
  assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  return stderr;
}

test('privileged: a wrong option, value or file is refused in one line that names it', async () => {
  assert.match(
    await refusal([AGENT, '--nonsense=1', '--mtu=abc']),
    /there is no option --nonsense; --mtu: .*found abc; cilium-agent --help/,
  );
  assert.match(await refusal([AGENT, '--ipv4-range=10.0.0.0/30']), /--ipv4-range.*at most \/28/);
  assert.match(await refusal([AGENT, '--routing-mode=native']), /--routing-mode=native needs --kvstore=etcd/);
  assert.match(await refusal([AGENT, '--config', '/nowhere']), /\/nowhere cannot be read/);
});

test('privileged: without root or a BPF file system the agent says what to do', async () => {
  assert.match(await refusal(['setpriv', '--reuid=65534', '--clear-groups', AGENT]), /needs root/);
  await node.lab.stopAgent();
  try {
    const elsewhere = ['--state-dir', '/run/s', '--run-dir', '/run/r', '--plugin-socket', '/run/p.sock'];
    assert.match(await refusal([AGENT, ...elsewhere, '--bpf-root', '/run']), /mount -t bpf bpf \/run/);
  } finally {
    await node.lab.startAgent();
  }
});

test('privileged: a second agent on the node is refused and does the first no harm', async () => {
  const elsewhere = ['--state-dir', '/run/s', '--run-dir', '/run/r', '--plugin-socket', '/run/p.sock'];
  assert.match(await refusal([AGENT, ...elsewhere]), /another cilium-agent runs/);
  await node.lab.exec(['test', '!', '-e', '/run/s']); // it wrote nothing
  assert.match(await node.lab.cilium(['status']), /Cilium: +Ok/);
});

test('privileged: a stopped agent leaves network and policy, and the next one takes them over', async () => {
  await node.network('net1', '--ipam-driver', 'cilium');
  for (const name of ['app1', 'app2', 'app3']) await node.container(name, 'net1');
  const address = (await node.inside('app1')).ipv4[0]!.replace(/\/.*/, '');
  await node.lab.cilium(['policy', 'import', join(HOME, 'examples/policies/l3-l4.json')]);
  const listed = await node.lab.cilium(['endpoint', 'list', '-o', 'json']);
  const check = async (when: string): Promise<void> => {
    assert.equal(await node.ask('app2', address), 'app1', when);
    assert.equal(await node.ask('app3', address), undefined, when);
  };
  await check('before');
  await node.lab.stopAgent('SIGTERM');
  assert.equal(existsSync(node.lab.agentSocket), false);
  await check('without an agent');
  await node.lab.startAgent();
  await check('after');
  const facts = (text: string): unknown =>
    (JSON.parse(text) as { id: number; status: Record<string, unknown> }[]).map(({ id, status }) => ({
      id,
      identity: status['identity'],
      networking: status['networking'],
      policy: (status['policy'] as Record<string, Record<string, unknown>>)['realized']!['policy-enabled'],
    }));
  assert.deepEqual(facts(await node.lab.cilium(['endpoint', 'list', '-o', 'json'])), facts(listed));
});

test('privileged: a run begun while the agent is away for some seconds succeeds', async () => {
  await node.lab.killAgent();
  const run = node.container('late', 'net1');
  await delay(3_000); // Docker tries again after 1, 3 and 7 seconds
  await node.lab.startAgent();
  await run;
  assert.equal(await node.ask('app3', (await node.inside('late')).ipv4[0]!.replace(/\/.*/, '')), 'late');
  await node.docker('rm', '-f', 'late');
});

test('privileged: an agent killed in the middle of a call fails that run and leaves nothing of it', async () => {
  const [links, leases] = [await node.links(), await node.leases()];
  // A stopped process takes the call in and does not answer: the kill comes while Docker waits.
  const agent = node.lab.agentPid!;
  process.kill(agent, 'SIGSTOP');
  const run = node.lab.run(['docker', 'run', '-d', '--name', 'cut', '--network', 'net1', '-l', 'id=cut', 'web']);
  await delay(1_000); // until Docker has sent its call
  await node.lab.killAgent();
  await node.lab.startAgent();
  const { status, stderr } = await run;
  if (status !== 0) assert.match(stderr, /Error response from daemon/);
  await node.docker('rm', '-f', 'cut');
  await eventually(async () => {
    assert.deepEqual(await node.links(), links);
    assert.deepEqual(await node.leases(), leases);
  });
});

test('privileged: when engine and agent are killed with their containers, the next ones collect what is left', async () => {
  assert.equal((await node.links()).length, 3);
  await node.lab.killAgent();
  await node.lab.killDockerd();
  await node.lab.startAgent();
  await node.lab.startDockerd();
  await eventually(async () => {
    assert.deepEqual(await node.links(), []);
    assert.equal((await node.lab.cilium(['endpoint', 'list', '-o', 'jsonpath={[*].id}'])).trim(), '');
  });
});
