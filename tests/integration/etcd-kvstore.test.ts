// SPDX-License-Identifier: Apache-2.0

/** A node whose identities are in a real etcd: what stands there, and that traffic and policy do without it for a while. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { HOME } from '../../lab/node.ts';
import { nodeAddresses } from '../../lab/addresses.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const URL = 'http://127.0.0.1:2379';
const ON_ETCD = ['--kvstore=etcd', `--kvstore-opt=etcd.address=${URL}`];
/** Longer than requests, probes of connections and back-off take. */
const OUTAGE_MS = 20_000;

const lab = labForTests();
const node = new DockerNode(lab);
let etcdPid = 0;

/** On the node's own loopback, so its ports are free; it ends with the lab at the latest. */
async function startEtcd(): Promise<void> {
  const command = 'mkdir -p /run/etcd && cd /run/etcd && { setsid etcd --data-dir=data >>log 2>&1 & echo $!; }';
  etcdPid = Number(await node.lab.exec(['sh', '-c', command]));
  await eventually(() => etcdctl('get', 'x'));
}

function killEtcd(): void {
  process.kill(etcdPid, 'SIGKILL');
}

function etcdctl(...args: string[]): Promise<string> {
  return node.lab.exec(['env', 'ETCDCTL_API=3', 'etcdctl', `--endpoints=${URL}`, ...args]);
}

async function keys(prefix: string): Promise<Map<string, string>> {
  const lines = (await etcdctl('get', '--prefix', prefix)).trimEnd().split('\n');
  const pairs = lines.flatMap((line, i) =>
    i % 2 === 0 ? [[line.slice(prefix.length), lines[i + 1] ?? ''] as const] : [],
  );
  return new Map(pairs);
}

async function address(container: string): Promise<string> {
  return (await node.inside(container)).ipv4[0]!.replace(/\/.*/, '');
}

/** app2 may, app3 may not. */
async function checkPolicy(to: string, when: string): Promise<void> {
  assert.equal(await node.ask('app2', to), 'app1', when);
  assert.equal(await node.ask('app3', to), undefined, when);
}

test('privileged: identities stand in etcd as Cilium lays them out, with the node that uses them', async () => {
  await node.lab.stopAgent();
  await startEtcd();
  await node.lab.startAgent(ON_ETCD);
  await node.network('net1', '--ipam-driver', 'cilium');
  for (const name of ['app1', 'app2', 'app3']) await node.container(name, 'net1');
  await node.lab.cilium(['policy', 'import', join(HOME, 'examples/policies/l3-l4.json')]);
  await checkPolicy(await address('app1'), 'at first');

  const masters = await keys('cilium/state/identities/v1/id/');
  const slaves = await keys('cilium/state/identities/v1/value/');
  assert.deepEqual([...masters.values()].sort(), ['container:id=app1;', 'container:id=app2;', 'container:id=app3;']);
  const expected = [...masters].map(([id, labels]) => [`${labels}/${nodeAddresses(1).ipv4}`, id] as const);
  assert.deepEqual(new Map([...slaves].sort()), new Map(expected.sort()));
  const status = await node.lab.cilium(['status']);
  assert.match(
    status,
    /KVStore: +Ok +etcd: 1\/1 connected, leases=1, lock leases=1, has-quorum=true: http:\/\/127\.0\.0\.1:2379 - 3\.\S+ \(Leader\)/,
  );
});

test('privileged: while etcd is away traffic and policy go on, known labels start, and all is well afterwards', async () => {
  const to = await address('app1');
  killEtcd();
  const end = performance.now() + OUTAGE_MS;
  let asked = 0;
  while (performance.now() < end) {
    await checkPolicy(to, 'while etcd is away');
    asked++;
    if (asked === 3) await node.docker('run', '-d', '--name', 'twin', '-l', 'id=app2', '--network', 'net1', 'web');
    await delay(200);
  }
  assert.equal(await node.ask('twin', to), 'app1');
  const { stdout, status } = await node.lab.run(['cilium', 'status']);
  assert.equal(status, 1, 'a script sees it, too');
  assert.match(stdout, /Cilium: +Failure +Kvstore service is not ready: etcd: 0\/1 connected/);
  assert.match(stdout, /KVStore: +Failure +etcd: 0\/1 connected, .*has-quorum=(connect ECONNREFUSED|nobody answers)/);

  await startEtcd();
  await eventually(async () => assert.match(await node.lab.cilium(['status']), /KVStore: +Ok/), 30_000);
  await node.container('app4', 'net1');
  assert.equal(await node.ask('app4', to), undefined, 'new labels have an identity, and no rule');
  assert.ok([...(await keys('cilium/state/identities/v1/id/')).values()].includes('container:id=app4;'));
  await checkPolicy(to, 'afterwards');
});

test('privileged: the next agent finds its identities in etcd, and what nobody uses any more loses its node', async () => {
  const before = await keys('cilium/state/identities/v1/id/');
  await node.lab.killAgent();
  await node.lab.startAgent(ON_ETCD);
  await checkPolicy(await address('app1'), 'with the next agent');
  assert.deepEqual(await keys('cilium/state/identities/v1/id/'), before);
  await node.docker('rm', '-f', 'app3');
  await eventually(async () => {
    const used = [...(await keys('cilium/state/identities/v1/value/')).keys()].map((key) => key.replace(/\/.*/, ''));
    assert.ok(!used.includes('container:id=app3;') && used.includes('container:id=app1;'), used.join(' '));
  });
});
