// SPDX-License-Identifier: Apache-2.0

/** Parts of the policy language that need more than labels and numbers, on a real Docker Engine. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, test, type TestContext } from 'node:test';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const node = new DockerNode(labForTests({ agentArgs: ['--l7-rules=drop', '--network-label=true'] }));

afterEach(async () => {
  await node.lab.run(['cilium', 'policy', 'delete', '--all']);
  await node.clean();
});

const id = (value: string): object => ({ matchLabels: { id: value } });
const ports = (...names: string[]): object[] => [{ ports: names.map((port) => ({ port, protocol: 'TCP' })) }];
const NAMED = 'io.cilium.port.http';

async function importRules(...rules: object[]): Promise<void> {
  await node.lab.cilium(['policy', 'import', '-'], { input: JSON.stringify(rules) });
}

async function start(name: string, ...args: string[]): Promise<string> {
  await node.container(name, 'net', ...args);
  return (await node.inside(name)).ipv4[0]!.replace(/\/.*/, '');
}

/** On which of the two ports of the web server somebody gets an answer. */
async function open(from: string, address: string): Promise<number[]> {
  const answers = await Promise.all(
    [80, 8080].map(async (port) => [port, await node.ask(from, address, port)] as const),
  );
  return answers.flatMap(([port, answer]) => (answer === undefined ? [] : [port]));
}

/** What `cilium monitor` has shown since this was called. */
async function monitorDrops(t: TestContext): Promise<() => string> {
  const child = node.lab.spawn(['cilium', 'monitor', '-t', 'drop'], { stdio: 'pipe' });
  t.after(() => child.kill('SIGKILL'));
  const texts = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]!.on('data', (chunk: Buffer) => (texts[stream] += chunk.toString()));
  }
  await eventually(() => assert.match(texts.stderr, /Press Ctrl-C to quit/));
  return () => texts.stdout;
}

test('privileged: a port name in an ingress rule is the port that the label of each subject says', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await importRules({ endpointSelector: {}, ingress: [{ toPorts: ports('http') }] });
  await start('client');
  const high = await start('high', '-l', `${NAMED}=8080/tcp`);
  const low = await start('low', '-l', `${NAMED}=80`);
  const unnamed = await start('unnamed');
  const udp = await start('udp', '-l', `${NAMED}=80/udp`);
  assert.deepEqual(await Promise.all([high, low, unnamed, udp].map((address) => open('client', address))), [
    [8080],
    [80],
    [],
    [],
  ]);
  await node.lab.stopAgent();
  await node.lab.startAgent();
  assert.deepEqual(await Promise.all([high, low, unnamed].map((address) => open('client', address))), [
    [8080],
    [80],
    [],
  ]);
});

test('privileged: a port name in an egress rule is the port of whoever has that name, as long as they agree', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await start('client');
  const unnamed = await start('unnamed');
  await importRules({ endpointSelector: id('client'), egress: [{ toPorts: ports('http') }] });
  assert.deepEqual(await open('client', unnamed), [], 'nobody has the name');
  const server = await start('server', '-l', `${NAMED}=8080`);
  assert.deepEqual(await Promise.all([server, unnamed].map((address) => open('client', address))), [[8080], [8080]]);
  const other = await start('other', '-l', `${NAMED}=80`);
  assert.deepEqual(await Promise.all([server, other].map((address) => open('client', address))), [[], []]);
  assert.match(readFileSync(node.lab.agentLog, 'utf8'), /A port name has two numbers.*http/);
  await node.docker('rm', '-f', 'server');
  await eventually(async () => assert.deepEqual(await open('client', other), [80]));
  await node.docker('rm', '-f', 'other');
  await eventually(async () => assert.deepEqual(await open('client', unnamed), []));
});

test('privileged: a container whose label names no port does not start, and is told why', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  const run = ['run', '--rm', '--network', 'net', '-l'];
  assert.match(
    await node.refusal(...run, `${NAMED}=http`, 'busybox', 'true'),
    /label "container:io\.cilium\.port\.http=http": expected a port from 1 to 65535.*correct the label/,
  );
  assert.match(await node.refusal(...run, 'io.cilium.port.=80', 'busybox', 'true'), /expected a port name/);
});

test('privileged: with --l7-rules=drop what a proxy would judge is dropped, and the rest of the rules goes on', async (t) => {
  await node.network('net', '--ipam-driver', 'cilium');
  await start('client');
  const server = await start('server');
  const http = { ...ports('80')[0], rules: { http: [{ method: 'GET', path: '/.*' }] } };
  await importRules(
    {
      endpointSelector: id('server'),
      ingress: [{ fromEndpoints: [id('client')], toPorts: [http] }, { toPorts: ports('8080') }],
    },
    { endpointSelector: id('server'), ingress: [{ fromEndpoints: [id('client')] }], labels: ['plain'] },
  );
  const drops = await monitorDrops(t);
  assert.deepEqual(await open('client', server), [8080], 'an allow beside it frees nothing from the proxy');
  await eventually(() => assert.match(drops(), /^xx drop \(Socket lookup failed\) .*:80 tcp SYN/m));
  assert.match(await node.lab.cilium(['policy', 'get']), /"http"/);
  await node.lab.cilium(['policy', 'delete', '--all']);
  assert.deepEqual(await open('client', server), [80, 8080]);
  // A deny is the stronger reason.
  await importRules({
    endpointSelector: id('server'),
    ingress: [{ toPorts: [http] }],
    ingressDeny: [{ fromEndpoints: [id('client')] }],
  });
  assert.deepEqual(await open('client', server), []);
  await eventually(() => assert.match(drops(), /^xx drop \(Policy denied by denylist\) .*:80 tcp SYN/m));
});

test('privileged: an agent that refuses rules for proxies keeps those that it has', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await start('client');
  const server = await start('server');
  const rule = {
    endpointSelector: id('server'),
    ingress: [{ toPorts: [{ ...ports('80')[0], rules: { http: [{ path: '/(a|b)+' }] } }] }],
  };
  await importRules(rule);
  await node.lab.stopAgent();
  await node.lab.startAgent(['--l7-rules=refuse']);
  try {
    assert.deepEqual(await open('client', server), []);
    const again = await node.lab.run(['cilium', 'policy', 'import', '-'], { input: JSON.stringify([rule]) });
    assert.equal(again.status, 1);
    assert.match(again.stderr, /toPorts\[0\]\.rules: this needs a proxy.*--l7-rules=drop/);
    assert.match(await node.lab.cilium(['policy', 'get']), /\/\(a\|b\)\+/);
  } finally {
    await node.lab.stopAgent();
    await node.lab.startAgent();
  }
});

test('privileged: requirements of Cilium 1.1 narrow whom the other rules let in', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  const server = await start('server');
  await start('plain', '-l', 'team=a');
  await start('prod', '-l', 'team=a', '-l', 'env=prod');
  const required = { matchLabels: { env: 'prod' } };
  await importRules({
    endpointSelector: id('server'),
    ingress: [{ fromRequires: [required] }, { fromEndpoints: [{ matchLabels: { team: 'a' } }] }],
  });
  const reached = await Promise.all(['plain', 'prod'].map((from) => node.ask(from, server)));
  assert.deepEqual(reached, [undefined, 'server']);
});

test("privileged: with --network-label rules can name the network that a container's interface is on", async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await node.network('other', '--ipam-driver', 'cilium');
  const server = await start('server');
  await start('near');
  await node.container('far', 'other');
  const near = { matchLabels: { 'docker:network': 'net' } };
  await importRules({ endpointSelector: id('server'), ingress: [{ fromEndpoints: [near] }] });
  assert.deepEqual(await Promise.all(['near', 'far'].map((from) => node.ask(from, server))), ['server', undefined]);
  const labels = 'jsonpath={[?(@.status.external-identifiers.container-name=="far")].status.identity.labels}';
  assert.match(await node.lab.cilium(['endpoint', 'list', '-o', labels]), /docker:network=other/);
});
