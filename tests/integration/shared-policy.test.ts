// SPDX-License-Identifier: Apache-2.0

/** Containers with the same policy share a map in the kernel, part when a rule tells them apart, and are judged each by its own. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DockerNode } from './docker-node.ts';
import { labForTests } from './support.ts';

const node = new DockerNode(labForTests());
const NETWORK = 'shared';
const SERVERS = ['app1', 'app2', 'app3'];

async function addressOf(name: string): Promise<string> {
  return await node.inspect(`{{(index .NetworkSettings.Networks "${NETWORK}").IPAddress}}`, name);
}

/** The slot that the kernel's record of each server names. */
async function slots(): Promise<(string | undefined)[]> {
  const records = JSON.parse(await node.lab.cilium(['bpf', 'endpoint', 'list', '-o', 'json'])) as Record<
    string,
    string[]
  >;
  const addresses = await Promise.all(SERVERS.map(addressOf));
  return addresses.map((address) => /slot=(\d+)/.exec(records[`${address}:0`]![0]!)?.[1]);
}

/** Which servers let the client in. */
async function open(): Promise<string[]> {
  const answers = await Promise.all(SERVERS.map(async (name) => await node.ask('client', await addressOf(name))));
  return answers.filter((answer) => answer !== undefined);
}

async function allow(label: string, matchLabels: object, port: number): Promise<void> {
  const ingress = [{ toPorts: [{ ports: [{ port: String(port), protocol: 'TCP' }] }] }];
  const file = join(node.lab.machine.dir, 'shared.json');
  writeFileSync(file, JSON.stringify([{ endpointSelector: { matchLabels }, ingress, labels: [label] }]));
  await node.lab.cilium(['policy', 'import', file]);
}

test('privileged: one map for all that have the same policy, and one more for whom a rule tells apart', async () => {
  await node.network(NETWORK, '--ipam-driver', 'cilium');
  for (const name of SERVERS) await node.container(name, NETWORK, '-l', 'role=server');
  await node.container('client', NETWORK);
  assert.deepEqual(await open(), SERVERS, 'no rule, all open');
  await allow('rule=all', { role: 'server' }, 8080);
  assert.equal(new Set(await slots()).size, 1);
  assert.deepEqual(await open(), []);
  await allow('rule=2', { id: 'app2' }, 80);
  const [a, b, c] = await slots();
  assert.equal(a, c);
  assert.notEqual(a, b);
  assert.deepEqual(await open(), ['app2']);
});

test('privileged: a killed agent finds who shares what, and a rule that comes then is only for whom it is meant', async () => {
  const before = await slots();
  await node.lab.killAgent();
  assert.deepEqual(await open(), ['app2'], 'enforced without an agent');
  await node.lab.startAgent();
  assert.deepEqual(await open(), ['app2']);
  const [a, b, c] = await slots();
  assert.deepEqual([a === c, a === b], [true, false]);
  assert.equal(before.length, 3);
  await allow('rule=3', { id: 'app3' }, 80);
  assert.deepEqual(await open(), ['app2', 'app3']);
  assert.equal(new Set(await slots()).size, 3);
});

test('privileged: those that become alike share a map again', async () => {
  await node.lab.cilium(['policy', 'delete', 'rule=2']);
  await node.lab.cilium(['policy', 'delete', 'rule=3']);
  assert.deepEqual(await open(), []);
  assert.equal(new Set(await slots()).size, 1);
  await node.clean();
});
