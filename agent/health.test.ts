// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { HealthClient } from '../api/health-client.ts';
import { healthStatus } from '../api/health-models.ts';
import { isCiliumError } from '../errors/cilium-error.ts';
import { IpAddress } from '../net/ip.ts';
import type { ClusterNode } from '../node/node.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { Health, type HealthDeps } from './health.ts';

function node(name: string, ...addresses: string[]): ClusterNode {
  return {
    name,
    cluster: 'default',
    addresses: addresses.map((text) => {
      const type =
        text.startsWith('10.') || text.startsWith('fd15') ? ('CiliumInternalIP' as const) : ('InternalIP' as const);
      return { type, ip: IpAddress.parse(text) };
    }),
    ipv4AllocCidr: undefined,
    ipv6AllocCidr: undefined,
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

const NODES = [
  node('node1', 'fd00::11', '192.168.60.11', '10.11.255.254'),
  node('node2', '192.168.60.12', 'fd15::1', '10.12.255.254'),
];

function health(deps: Partial<HealthDeps>): Health {
  return new Health({
    nodes: { local: NODES[0]!, list: () => NODES, onChange: () => () => undefined },
    port: 4240,
    socketPath: '/none',
    clock: new ManualClock(),
    log: silentLogger,
    ...deps,
  });
}

for (const [what, deps, reason] of [
  ['a node that is alone', { nodes: undefined }, /this node is alone: start the agents with --kvstore=etcd/],
  ['a node without health port', { port: 0 }, /they are off: start the agent with another --health-port than 0/],
] as const) {
  test(`${what} says on its socket why nodes are not probed`, async (t: TestContext) => {
    const folder = await temporaryFolder('health');
    const socketPath = join(folder, 'health.sock');
    const off = health({ ...deps, socketPath });
    await off.start();
    t.after(async () => {
      await off.stop();
      await rm(folder, { recursive: true });
    });
    assert.deepEqual(off.state, { state: 'Disabled' });
    assert.deepEqual(off.controllers, []);
    const client = new HealthClient(socketPath);
    assert.deepEqual(await client.hello(), { status: 'ok' });
    for (const call of [() => client.status(), () => client.probe()]) {
      await assert.rejects(call, (error) => isCiliumError(error, 'Unsupported') && reason.test(error.message));
    }
  });
}

test('nodes that nobody has asked yet are shown with all their addresses, IPv4 first', () => {
  const status = health({}).status();
  assert.deepEqual(healthStatus.parse(status), status);
  const empty = { 'secondary-addresses': [] };
  assert.deepEqual(status.nodes, [
    {
      name: 'node1',
      host: { 'primary-address': { ip: '192.168.60.11' }, 'secondary-addresses': [{ ip: 'fd00::11' }] },
      'health-endpoint': { ...empty, 'primary-address': { ip: '10.11.255.254' } },
    },
    {
      name: 'node2',
      host: { ...empty, 'primary-address': { ip: '192.168.60.12' } },
      'health-endpoint': { 'primary-address': { ip: '10.12.255.254' }, 'secondary-addresses': [{ ip: 'fd15::1' }] },
    },
  ]);
  assert.deepEqual([status.local, status.timestamp], [{ name: 'node1' }, undefined]);
});
