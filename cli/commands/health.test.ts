// SPDX-License-Identifier: Apache-2.0

/** `cilium-health`, and what `cilium status` shows of the other nodes. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fakePath } from '../../agent/rest/fake/fake-health.ts';
import { healthStatus, type HealthStatus } from '../../api/health-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { runCommand, startNode, type FakeNode } from '../../tests/support/fake-node.ts';
import { CILIUM_HEALTH } from '../health-program.ts';

const NOT_IN_A_CLUSTER = new CiliumError('Unsupported', 'nodes are probed in a cluster only');

/** The last lines of `cilium status`, from `Cluster health:` on. */
async function clusterHealth({ run }: FakeNode, ...argv: string[]): Promise<string[]> {
  const { stdout, stderr } = await run('status', ...argv);
  assert.equal(stderr, '');
  return stdout.slice(stdout.indexOf('Cluster health:')).split('\n');
}

function joinCluster({ services }: FakeNode): void {
  services.statusResponse.cluster = { ciliumHealth: { state: 'Ok' }, self: 'node1', nodes: services.nodeList };
  // A line without further cells, as in full: columns end there.
  services.statusResponse['identity-range'] = { 'min-identity': 256, 'max-identity': 65_535 };
  services.statusResponse.routing = {
    'inter-host-routing-mode': 'Tunnel',
    'intra-host-routing-mode': 'BPF',
    'tunnel-protocol': 'vxlan',
  };
}

function nodesOf(node: FakeNode): HealthStatus['nodes'] {
  return (node.health.response as HealthStatus).nodes;
}

test('cilium-health status shows how fast each node answers, this one first', async (t) => {
  const { runHealth, health } = await startNode(t);
  const { stdout, status } = await runHealth('status');
  assert.equal(status, 0);
  assert.deepEqual(stdout.split('\n'), [
    'Probe time:       2026-01-05T10:01:12.000Z',
    'Probe interval:   1m5.916737s',
    'Nodes:            1/2 reachable',
    '  node1 (localhost):',
    '    Host connectivity to 192.168.60.11:',
    '      ICMP to stack:   OK, RTT=41.2µs',
    '      HTTP to agent:   OK, RTT=612.345µs',
    '    Endpoint connectivity to 10.11.255.254:',
    '      ICMP to stack:   OK, RTT=44µs',
    '      HTTP to agent:   OK, RTT=700µs',
    '  node2:',
    '    Host connectivity to 192.168.60.12:',
    '      ICMP to stack:   OK, RTT=312.456µs',
    '      HTTP to agent:   OK, RTT=1.2ms',
    '    Endpoint connectivity to 10.12.255.254:',
    '      ICMP to stack:   no ICMP echo within 3000 ms',
    '      HTTP to agent:   no answer',
    '',
  ]);
  assert.equal(health.probes, 0);
});

test('cilium-health status --verbose, --succinct and -o show more, less and all', async (t) => {
  const node = await startNode(t);
  assert.match(
    (await node.runHealth('status', '--verbose')).stdout,
    /Host connectivity to fd00::11:\n +ICMP to stack: +OK/,
  );
  assert.deepEqual((await node.runHealth('status', '--succinct')).stdout.split('\n').slice(3), [
    '  Name                IP              Node   Endpoints',
    '  node1 (localhost)   192.168.60.11   2/2    1/1',
    '  node2               192.168.60.12   1/1    0/1',
    '',
  ]);
  const json = JSON.parse((await node.runHealth('status', '-o', 'json')).stdout) as unknown;
  assert.deepEqual(healthStatus.parse(json), node.health.response);
  const { stdout } = await node.runHealth(
    'status',
    '-o',
    'jsonpath={.nodes[1].health-endpoint.primary-address.icmp.status}',
  );
  assert.equal(stdout, 'no ICMP echo within 3000 ms\n');
});

test('cilium-health status --probe asks all nodes first', async (t) => {
  const { runHealth, health } = await startNode(t);
  assert.match((await runHealth('status', '--probe')).stdout, /1\/2 reachable/);
  assert.equal(health.probes, 1);
});

test('cilium-health says what has not been asked yet', async (t) => {
  const node = await startNode(t);
  const [, second] = nodesOf(node);
  second!.host = { 'primary-address': { ip: '192.168.60.12' }, 'secondary-addresses': [] };
  delete (node.health.response as HealthStatus).timestamp;
  const { stdout } = await node.runHealth('status');
  assert.match(stdout, /^Probe time: +never$/m);
  assert.match(
    stdout,
    /192\.168\.60\.12:\n {6}ICMP to stack: {3}Not probed yet\n {6}HTTP to agent: {3}Not probed yet\n/,
  );
});

test('cilium-health ping asks the agent, which may be named by --host', async (t) => {
  const { runHealth, folder } = await startNode(t);
  assert.deepEqual(await runHealth('ping'), { stdout: 'OK\n', stderr: '', status: 0 });
  const named = await runCommand(['ping', '-H', `unix://${folder}/health.sock`], { program: CILIUM_HEALTH });
  assert.equal(named.stdout, 'OK\n');
  const away = await runCommand(['ping'], { program: CILIUM_HEALTH, env: { CILIUM_SOCK: '/none/cilium.sock' } });
  assert.match(away.stderr, /^Error: cannot reach the agent at \/none\/health\.sock: .*\nIs the agent running\?/);
  assert.equal(away.status, 1);
});

test('cilium-health of a node without a cluster says so', async (t) => {
  const { runHealth, health } = await startNode(t);
  health.response = NOT_IN_A_CLUSTER;
  for (const argv of [['status'], ['status', '--probe']]) {
    const { stderr, status } = await runHealth(...argv);
    assert.deepEqual([stderr, status], ['Error: nodes are probed in a cluster only\n', 1]);
  }
});

test('status shows how many nodes answer, and which do not', async (t) => {
  const node = await startNode(t);
  joinCluster(node);
  assert.deepEqual(await clusterHealth(node), [
    'Cluster health:          1/2 reachable   (2026-01-05T10:01:12.000Z)   (Probe interval: 1m5.916737s)',
    '  Name    IP              Node   Endpoints',
    '  node2   192.168.60.12   1/1    0/1',
    '',
  ]);
  const { stdout } = await node.run('status');
  assert.match(stdout, /^Cilium health daemon: {4}Ok +$/m);
  assert.match(stdout, /^Routing: +Network: Tunnel \[vxlan\] +Host: BPF$/m);
  assert.deepEqual((await clusterHealth(node, '--all-nodes')).slice(1), [
    '  Name                IP              Node   Endpoints',
    '  node1 (localhost)   192.168.60.11   2/2    1/1',
    '  node2               192.168.60.12   1/1    0/1',
    '',
  ]);
  assert.deepEqual((await clusterHealth(node, '--verbose')).slice(1, 5), [
    '  node1 (localhost):',
    '    Host connectivity to 192.168.60.11:',
    '      ICMP to stack:   OK, RTT=41.2µs',
    '      HTTP to agent:   OK, RTT=612.345µs',
  ]);
  const json = JSON.parse((await node.run('status', '-o', 'json')).stdout) as { cluster: unknown };
  assert.deepEqual(json.cluster, node.services.statusResponse.cluster);
});

test('status shows ten nodes that do not answer, or all', async (t) => {
  const node = await startNode(t);
  joinCluster(node);
  const nodes = nodesOf(node);
  const silent = { 'primary-address': fakePath('192.0.2.1', { icmp: 'no', http: 'no' }), 'secondary-addresses': [] };
  for (let i = 3; i <= 12; i++) nodes.push({ name: `node${i}`, host: silent, 'health-endpoint': silent });
  const shown = await clusterHealth(node);
  assert.match(shown[0]!, /1\/12 reachable/);
  assert.deepEqual([shown.length, shown.at(-2)], [14, '  ...'], 'summary, header, ten nodes, dots, end');
  assert.equal((await clusterHealth(node, '--all-health')).length, 14, 'summary, header, eleven nodes, end');
});

test('status of a node without a cluster, and of one whose health does not answer', async (t) => {
  const node = await startNode(t);
  assert.doesNotMatch((await node.run('status')).stdout, /health/);
  joinCluster(node);
  node.services.statusResponse.cluster = { ciliumHealth: { state: 'Disabled' }, self: 'node1', nodes: [] };
  assert.deepEqual(await clusterHealth(node), ['Cluster health:          Probe disabled', '']);
  assert.doesNotMatch((await node.run('status')).stdout, /health daemon/);
  joinCluster(node);
  await rm(join(node.folder, 'health.sock'));
  assert.match(
    (await clusterHealth(node))[0]!,
    /^Cluster health: +Warning {3}cannot reach the agent at .*health\.sock/,
  );
  node.services.statusResponse.cluster.ciliumHealth = { state: 'Warning', msg: 'port 4240 is taken' };
  assert.equal((await node.run('status', '--brief')).stdout, 'error in cilium-health: port 4240 is taken\n');
});
