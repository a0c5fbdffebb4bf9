// SPDX-License-Identifier: Apache-2.0

/** A policy that does not fit into an endpoint's map: said at once, never half in force, and over when it shrinks. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DockerNode } from './docker-node.ts';
import { labForTests } from './support.ts';

const node = new DockerNode(labForTests());
const NETWORK = 'overflow';
/** Entries: 200 prefixes × 100 ports. One slot takes 16,384. */
const PREFIXES = 200;
const PORTS = 100;

interface EndpointModel {
  readonly id: number;
  readonly status: {
    readonly state: string;
    readonly 'external-identifiers': { readonly 'container-name'?: string };
    readonly policy: Record<'spec' | 'realized', { readonly 'policy-revision': number }>;
    readonly health: { readonly overallHealth: string };
    readonly log: readonly { readonly message: string }[];
  };
}

function serverRule(ports: readonly number[], label: string): object {
  const toPorts = ports.map((port) => ({ ports: [{ port: String(port), protocol: 'TCP' }] }));
  return {
    endpointSelector: { matchLabels: { id: 'server' } },
    ingress: [{ fromEndpoints: [{ matchLabels: { id: 'client' } }], toPorts }],
    labels: [label],
  };
}

const TOO_LARGE = {
  endpointSelector: { matchLabels: { id: 'server' } },
  ingress: [
    {
      fromCIDR: Array.from({ length: PREFIXES }, (_, n) => `10.200.${n}.0/24`),
      toPorts: Array.from({ length: PORTS }, (_, n) => ({ ports: [{ port: String(2000 + n), protocol: 'TCP' }] })),
    },
  ],
  labels: ['size=large'],
};

async function policy(verb: string, ...rules: object[]): Promise<{ status: number | null; stderr: string }> {
  const file = join(node.lab.machine.dir, 'overflow.json');
  writeFileSync(file, JSON.stringify(rules));
  return await node.lab.run(['cilium', 'policy', verb, ...(rules.length > 0 ? [file] : ['size=large'])]);
}

async function endpoint(container: string): Promise<EndpointModel> {
  const all = JSON.parse(await node.lab.cilium(['endpoint', 'list', '-o', 'json'])) as EndpointModel[];
  const found = all.find(({ status }) => status['external-identifiers']['container-name'] === container);
  assert.ok(found, `no endpoint of ${container}`);
  const [shown] = JSON.parse(
    await node.lab.cilium(['endpoint', 'get', String(found.id), '-o', 'json']),
  ) as EndpointModel[];
  return shown ?? found;
}

async function mapOf(id: number): Promise<string> {
  return await node.lab.cilium(['bpf', 'policy', 'get', String(id)]);
}

test('privileged: a policy that does not fit is said at once, and the last complete one stays in force', async () => {
  await node.network(NETWORK, '--ipam-driver', 'cilium');
  await node.container('server', NETWORK);
  await node.container('client', NETWORK);
  const address = await node.inspect('{{(index .NetworkSettings.Networks "overflow").IPAddress}}', 'server');
  const asks = async () => await node.ask('client', address);
  assert.equal((await policy('import', serverRule([8080], 'size=small'))).status, 0);
  assert.equal(await asks(), undefined, 'port 80 is closed');
  assert.equal((await policy('import', serverRule([80], 'size=small'))).status, 0);
  assert.equal(await asks(), 'server');

  const before = await endpoint('server');
  const map = await mapOf(before.id);
  const refused = await policy('import', TOO_LARGE);
  assert.equal(refused.status, 1);
  assert.match(
    refused.stderr,
    /^Error: policy revision \d+ is not in force on endpoints \d+ \(it keeps revision \d+, complete: /,
  );
  assert.match(refused.stderr, /the policy needs 200\d\d map entries, and 16384 fit/);
  const { id, status } = await endpoint('server');
  assert.equal(status.state, 'not-ready');
  assert.equal(status.health.overallHealth, 'Failure');
  assert.match(status.log[0]!.message, /20\d\d\d map entries, and 16384 fit/);
  const { spec, realized } = status.policy;
  assert.equal(realized['policy-revision'], before.status.policy.realized['policy-revision']);
  assert.ok(realized['policy-revision'] < spec['policy-revision']);
  assert.equal(await mapOf(id), map, 'not one entry changed');
  assert.equal(await asks(), 'server');
  const why = await node.lab.cilium(['policy', 'explain', '10.200.0.1', 'server', '--dport', '2000']);
  assert.match(why, /^Ingress of server: ALLOWED$/m);
  assert.match(
    why,
    /^ {2}ATTENTION: the kernel says DENIED .* than the rules: entry allow ingress, identity \d+, 2000\/TCP$/m,
  );
  assert.match(why, /^ {2}.*20\d\d\d map entries, and 16384 fit/m);
  const client = await endpoint('client');
  assert.equal(client.status.state, 'ready');
  assert.equal(client.status.policy.realized['policy-revision'], spec['policy-revision'], 'others are not held up');
});

test('privileged: a new container with such a policy does not start, and a restart of the agent changes nothing', async () => {
  const refusal = await node.refusal('run', '-d', '--network', NETWORK, '-l', 'id=server', '-l', 'second=yes', 'web');
  assert.match(refusal, /map entries, and 16384 fit/);
  const before = await mapOf((await endpoint('server')).id);
  await node.lab.killAgent();
  await node.lab.startAgent();
  const { id, status } = await endpoint('server');
  assert.equal(status.state, 'not-ready');
  assert.equal(await mapOf(id), before);
});

test('privileged: when the policy shrinks it is in force again', async () => {
  assert.equal((await policy('delete')).status, 0);
  const { status } = await endpoint('server');
  assert.equal(status.state, 'ready');
  assert.equal(status.health.overallHealth, 'OK');
  assert.equal(status.policy.realized['policy-revision'], status.policy.spec['policy-revision']);
  assert.equal((await policy('import', serverRule([8080], 'size=later'))).status, 0);
  await node.clean();
});
