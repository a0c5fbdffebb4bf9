// SPDX-License-Identifier: Apache-2.0

/** How policy gets in: folders of rules and resources, dry runs, CIDR groups, the watched directory; on a real node. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { WORLD } from '../../lab/addresses.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const root = mkdtempSync(join(tmpdir(), 'policy-input-'));
const watched = join(root, 'watched');
mkdirSync(watched);
const node = new DockerNode(labForTests({ agentArgs: ['--static-cnp-path', watched] }));

after(() => rmSync(root, { recursive: true }));
afterEach(async () => {
  await node.lab.startAgent();
  rmSync(watched, { recursive: true, force: true });
  mkdirSync(watched);
  // A directory that is another one and empty changes nothing; its rules can be deleted by hand.
  await eventually(async () => {
    await cilium('policy', 'delete', '--all');
    assert.match(await cilium('policy', 'get'), /^\[\]/);
  }, 30_000);
  await node.clean();
});

const cilium = (...args: string[]): Promise<string> => node.lab.cilium(args);

function write(name: string, text: string): string {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  return path;
}

/** Selects app1 and lets this peer in. */
const rule = (peer: string): string =>
  `- endpointSelector: {matchLabels: {id: app1}}\n  ingress:\n    - fromEndpoints: [{matchLabels: {id: ${peer}}}]\n`;

const group = (...prefixes: string[]): string => `apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: servers, labels: {tier: a}}
spec: {externalCIDRs: [${prefixes.join(', ')}]}
`;

const TO_GROUP = `apiVersion: v1
kind: List
items:
  - apiVersion: cilium.io/v2
    kind: CiliumClusterwideNetworkPolicy
    metadata: {name: to-servers}
    spec:
      endpointSelector: {matchLabels: {id: app2}}
      egress:
        - toCIDRSet: [{cidrGroupRef: servers}]
`;

async function startApps(): Promise<string> {
  await node.network('net', '--ipam-driver', 'cilium');
  for (const app of ['app1', 'app2', 'app3']) await node.container(app, 'net');
  return (await node.inside('app1')).ipv4[0]!.replace(/\/.*/, '');
}

async function reach(address: string): Promise<boolean[]> {
  return Promise.all(['app2', 'app3'].map(async (app) => (await node.ask(app, address)) === 'app1'));
}

test('privileged: a folder of rules and resources is one import, in force and shown as it can be imported again', async () => {
  const address = await startApps();
  const folder = join(root, 'mixed');
  write('mixed/a.yaml', rule('app2'));
  write('mixed/deep/b.json', JSON.stringify({ endpointSelector: { matchLabels: { id: 'app3' } }, ingress: [{}] }));
  const bad = write('mixed/c.yaml', TO_GROUP.replace('toCIDRSet', 'toCIDRSets'));
  const refused = await node.lab.run(['cilium', 'policy', 'import', folder]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /mixed\/c\.yaml:10:11: items\[0\]\.spec\.egress\[0\]\.toCIDRSets: unknown field/);
  assert.match(await cilium('policy', 'get'), /^\[\]/);

  write('mixed/c.yaml', TO_GROUP);
  write('mixed/d.yaml', group(`${WORLD.ipv4}/32`));
  const planned = await cilium('policy', 'import', folder, '--dry-run');
  assert.match(planned, /^add +CIDR group servers +.*mixed\/d\.yaml:1 /m);
  assert.match(planned, new RegExp(`^add +rule +${bad}:4 .*policy\\.name=to-servers`, 'm'));
  assert.match(await cilium('policy', 'get'), /^\[\]/);
  assert.deepEqual(await reach(address), [true, true]);

  await cilium('policy', 'import', folder);
  assert.deepEqual(
    await reach(address),
    [true, false].map((open, i) => (i === 0 ? false : open)),
  );
  const text = await cilium('policy', 'get', '-o', 'jsonpath={.policy}');
  const copy = write('copy.json', text);
  await cilium('policy', 'delete', '--all');
  await cilium('policy', 'import', copy);
  assert.equal(await cilium('policy', 'get', '-o', 'jsonpath={.policy}'), text);
});

test('privileged: a CIDR group is changed in force, and survives kill -9', async () => {
  await startApps();
  write('groups/rules.yaml', TO_GROUP);
  await cilium(
    'policy',
    'import',
    join(root, 'groups/rules.yaml'),
    write('groups/group.yaml', group('203.0.113.0/24')),
  );
  const id = await cilium('endpoint', 'get', 'container-name:app2', '-o', 'jsonpath={[0].id}');
  const open = async (): Promise<boolean> => (await node.ask('app2', WORLD.ipv4)) !== undefined;
  assert.equal(await open(), false);
  const allowed = async (): Promise<string[]> => {
    const ipcache = await cilium('bpf', 'ipcache', 'list');
    const entries = await cilium('bpf', 'policy', 'get', id, '-n');
    const numbers = new Set([...entries.matchAll(/^Allow +Egress +(\d+)/gm)].map((match) => match[1]));
    return [...ipcache.matchAll(/^(\S+) +identity=(\d+)/gm)]
      .filter((match) => numbers.has(match[2]))
      .map((match) => match[1]!);
  };
  assert.deepEqual(await allowed(), ['203.0.113.0/24']);
  await cilium('policy', 'import', write('groups/group.yaml', group('203.0.113.0/24', `${WORLD.ipv4}/32`)));
  assert.equal(await open(), true);
  await node.lab.killAgent();
  await node.lab.startAgent();
  assert.equal(await open(), true);
  await eventually(async () =>
    assert.deepEqual((await allowed()).sort(), [`${WORLD.ipv4}/32`, '203.0.113.0/24'].sort()),
  );
  await cilium('policy', 'delete', 'io.cilium.k8s.policy.derived-from=CiliumCIDRGroup', 'tier=a');
  assert.equal(await open(), false);
  assert.doesNotMatch(await cilium('policy', 'get'), /CiliumCIDRGroup"/);
});

test('privileged: the watched directory is in force, whatever happens to files and agent', async () => {
  const address = await startApps();
  write('watched/app1.yaml', rule('app2'));
  await eventually(async () => assert.deepEqual(await reach(address), [true, false]));
  assert.match(await cilium('policy', 'get', 'directory:policy-derived-from=Rule'), /"id": "app2"|app2/);
  const deletion = await node.lab.run(['cilium', 'policy', 'delete', 'policy-derived-from=Rule']);
  assert.match(deletion.stderr, /come from .*watched\/app1\.yaml, which the agent watches/);

  write('watched/app1.yaml', `${rule('app3')}  egres: []\n`);
  await eventually(async () =>
    assert.match(
      await cilium('status', '--all-controllers'),
      /static-cnp-path .*app1\.yaml:4:3: rules\[0\]\.egres: unknown field/,
    ),
  );
  assert.deepEqual(await reach(address), [true, false]);
  await node.lab.killAgent();
  await node.lab.startAgent();
  assert.deepEqual(await reach(address), [true, false], 'the last good rules survive a restart');

  await node.lab.killAgent();
  write('watched/app1.yaml', rule('app3'));
  await node.lab.startAgent();
  assert.deepEqual(await reach(address), [false, true], 'a change while the agent was down');
  const revision = await cilium('policy', 'get', '-o', 'jsonpath={.revision}');
  write('watched/app1.yaml', rule('app3'));
  write('watched/other.yaml', rule('app2'));
  await eventually(async () => assert.deepEqual(await reach(address), [true, true]));
  assert.equal(Number(await cilium('policy', 'get', '-o', 'jsonpath={.revision}')), Number(revision) + 1);

  rmSync(join(watched, 'app1.yaml'));
  await eventually(async () => assert.deepEqual(await reach(address), [true, false]));
  renameSync(watched, `${watched}.away`);
  await eventually(async () =>
    assert.match(
      await cilium('status', '--all-controllers'),
      /static-cnp-path .*watched cannot be read, the rules of 1 files/,
    ),
  );
  assert.deepEqual(await reach(address), [true, false]);
  renameSync(`${watched}.away`, watched);
});
