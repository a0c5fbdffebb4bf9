// SPDX-License-Identifier: Apache-2.0

/** The `cilium` command on a node: what it shows is what the kernel does, with the agent and without it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test, type TestContext } from 'node:test';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const node = new DockerNode(labForTests());

afterEach(async () => {
  await node.lab.startAgent();
  await node.lab.run(['cilium', 'policy', 'delete', '--all']);
  await node.clean();
});

const cilium = (...args: string[]): Promise<string> => node.lab.cilium(args);

/** Selects app1 and lets in what carries the label id=<peer>, on port 80 only. */
function ruleFor(peer: string): object {
  return {
    endpointSelector: { matchLabels: { id: 'app1' } },
    ingress: [
      {
        fromEndpoints: [{ matchLabels: { id: peer } }],
        toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
      },
    ],
    labels: [{ key: 'for', value: peer, source: 'test' }],
  };
}

function policyFile(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'cli-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'policy.json');
  writeFileSync(path, text);
  return path;
}

async function startApps(): Promise<{ address: string; identityOf: (app: string) => Promise<string> }> {
  await node.network('net', '--ipam-driver', 'cilium');
  for (const app of ['app1', 'app2', 'app3']) await node.container(app, 'net');
  const filter = (app: string): string =>
    `jsonpath={[?(@.status.external-identifiers.container-name=="${app}")].status`;
  return {
    address: await cilium('endpoint', 'list', '-o', `${filter('app1')}.networking.addressing[0].ipv4}`),
    identityOf: (app) => cilium('endpoint', 'list', '-o', `${filter(app)}.identity.id}`),
  };
}

/** Runs `cilium monitor` until the test ends; the answer gives what it has printed so far. */
async function monitor(t: TestContext, ...args: string[]): Promise<() => string> {
  const child = node.lab.spawn(['cilium', 'monitor', ...args], { stdio: 'pipe' });
  t.after(() => child.kill('SIGKILL'));
  let shown = '';
  let told = '';
  child.stdout!.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (told += chunk.toString()));
  await eventually(() => assert.match(told, /Press Ctrl-C to quit/));
  return () => shown;
}

test('privileged: an imported rule is in force when the command is back, and every view agrees on it', async (t) => {
  const { address, identityOf } = await startApps();
  const shown = await monitor(t, '-t', 'drop', '-t', 'policy-verdict');
  const imported = await cilium('policy', 'import', policyFile(t, JSON.stringify(ruleFor('app2'))));
  assert.equal(await node.ask('app2', address), 'app1');
  assert.equal(await node.ask('app3', address), undefined);

  const [app1, app2, app3] = await Promise.all(['app1', 'app2', 'app3'].map(identityOf));
  const id = await cilium('endpoint', 'get', 'container-name:app1', '-o', 'jsonpath={[0].id}');
  await eventually(() => {
    assert.match(
      shown(),
      new RegExp(`^xx drop \\(Policy denied\\) .* to endpoint ${id}, .* identity ${app3}->${app1}: `, 'm'),
    );
    const verdict = `Policy verdict log: .* local EP ID ${id}, remote ID ${app2}, proto 6, ingress, action allow, `;
    assert.match(shown(), new RegExp(`^${verdict}auth: disabled, match L3-L4, .*:80 tcp SYN$`, 'm'));
  });
  assert.match(
    await cilium('endpoint', 'list'),
    new RegExp(`^${id} +Enabled +Disabled +${app1} +container:id=app1 `, 'm'),
  );
  assert.match(await cilium('identity', 'get', app1!), /^ID +LABELS\n\d+ +container:id=app1$/);
  assert.match(await cilium('bpf', 'policy', 'get', id), /^Allow +Ingress +container:id=app2 +80\/TCP +NONE /m);
  assert.match(await cilium('bpf', 'policy', 'get', id, '-n'), new RegExp(`^Allow +Ingress +${app2} +80/TCP `, 'm'));
  assert.match(await cilium('bpf', 'ipcache', 'list'), new RegExp(`^${address}/32 +identity=${app1} `, 'm'));
  assert.match(
    await cilium('bpf', 'ct', 'list', 'global'),
    new RegExp(`^TCP OUT .* -> ${address}:80 expires=.*=${app2} `, 'm'),
  );
  assert.match(await cilium('map', 'get', 'cilium_lxc'), new RegExp(`^${address} +id=${id} +sec_id=${app1} `, 'm'));
  assert.match(await cilium('map', 'list'), /^cilium_lxc +\d+ +65535 +\d+ +hash$/m);
  const revision = await cilium('policy', 'get', 'test:for=app2', '-o', 'jsonpath={.revision}');
  assert.equal(imported, `Revision: ${revision}`);
});

test('privileged: a refused import names file, line and field, and changes nothing', async (t) => {
  const { address } = await startApps();
  const rules = [ruleFor('app2'), { ...ruleFor('app3'), ingress: [{ fromCIDR: ['10.0.0.0/33'] }] }];
  const path = policyFile(t, JSON.stringify(rules, undefined, 2));
  const { status, stdout, stderr } = await node.lab.run(['cilium', 'policy', 'import', path]);
  assert.deepEqual([status, stdout], [1, '']);
  assert.match(
    stderr,
    /policy\.json:\d+:\d+: rules\[1\]\.ingress\[0\]\.fromCIDR\[0\]: .*\n +"10\.0\.0\.0\/33"\n +\^\n$/,
  );
  assert.match(await cilium('policy', 'get'), /^\[\]\nRevision: \d+$/);
  assert.equal(await node.ask('app3', address), 'app1');
});

test('privileged: rules are replaced and deleted by their labels, and the kernel follows at once', async (t) => {
  const { address } = await startApps();
  const reached = () => Promise.all(['app2', 'app3'].map(async (app) => (await node.ask(app, address)) === 'app1'));
  await cilium('policy', 'import', policyFile(t, JSON.stringify([ruleFor('app2')])));
  assert.deepEqual(await reached(), [true, false]);
  await cilium(
    'policy',
    'import',
    policyFile(t, JSON.stringify([ruleFor('app3')])),
    '--replace-with-labels',
    'test:for=app2',
  );
  assert.deepEqual(await reached(), [false, true]);
  await cilium('policy', 'delete', 'test:for=app3');
  assert.deepEqual(await reached(), [true, true]);
  await cilium('config', 'PolicyEnforcement=always');
  assert.deepEqual(await reached(), [false, false]);
  await cilium('config', 'PolicyEnforcement=default');
  assert.deepEqual(await reached(), [true, true]);
});

test('privileged: without an agent the maps are read all the same, and the rest says what to do', async () => {
  const { address, identityOf } = await startApps();
  const identity = await identityOf('app1');
  await node.lab.killAgent();
  assert.match(await cilium('bpf', 'endpoint', 'list'), new RegExp(`^${address}:0 +id=\\d+ +sec_id=${identity} `, 'm'));
  assert.match(
    await cilium('bpf', 'ipcache', 'list', '-o', 'json'),
    new RegExp(`"${address}/32": \\[\\s+"identity=${identity} `),
  );
  const policies = await node.lab.run(['cilium', 'bpf', 'policy', 'list']);
  assert.equal(policies.status, 0);
  assert.match(policies.stdout, /^Endpoint ID: \d+\nPath: .*\n\nPOLICY .*\nAllow +Ingress +ANY +ANY /);
  const { status, stderr } = await node.lab.run(['cilium', 'status', '--brief']);
  assert.equal(status, 1);
  assert.match(stderr, /^cilium: daemon unreachable\nError: cannot reach the agent at .*\nIs the agent running\?/);
  assert.match(await cilium('version'), /^Client: .*\nDaemon: Not responding$/);
});

test('privileged: a monitor goes on when the agent was killed and started again', async (t) => {
  const { address } = await startApps();
  const shown = await monitor(t, '-t', 'trace', '-j');
  const events = async () => {
    await node.ask('app2', address);
    const lines = shown().trim().split('\n');
    return lines
      .filter((line) => line.includes(`"dst":"${address}"`))
      .map((line) => JSON.parse(line) as { type: string });
  };
  const before = await eventually(async () => {
    const seen = await events();
    assert.equal(seen[0]?.type, 'trace');
    return seen.length;
  });
  await node.lab.killAgent();
  await node.lab.startAgent();
  await eventually(async () => assert.ok((await events()).length > before));
});

test('privileged: a label set by hand changes the identity of a running container', async () => {
  await startApps();
  assert.equal(
    await cilium('endpoint', 'labels', 'container-name:app3', '-a', 'container:role=db'),
    'container:id=app3   Enabled\ncontainer:role=db   Enabled',
  );
  const labels = 'jsonpath={[0].status.identity.labels}';
  assert.equal(
    await cilium('endpoint', 'get', 'container-name:app3', '-o', labels),
    '["container:id=app3","container:role=db"]',
  );
  await cilium('endpoint', 'labels', 'container-name:app3', '-d', 'role=db');
  assert.equal(await cilium('endpoint', 'get', 'container-name:app3', '-o', labels), '["container:id=app3"]');
});
