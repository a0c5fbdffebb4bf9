// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpAddress } from '../net/ip.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { Collector, type CollectorDeps } from './collector.ts';
import type { NetworkInfo } from './docker.ts';

const OLD = 'a'.repeat(64);
const NEW = 'b'.repeat(64);

function network(endpointIds: string[]): NetworkInfo {
  return {
    Id: 'n1',
    Name: 'net',
    Driver: 'cilium',
    Internal: false,
    IPAM: {
      Driver: 'cilium',
      Config: [{ Subnet: '10.1.0.0/24', Gateway: '10.1.0.1', AuxiliaryAddresses: { router: '10.1.0.9' } }],
    },
    Options: {},
    Containers: Object.fromEntries(
      endpointIds.map((EndpointID) => [
        EndpointID,
        { Name: 'c', EndpointID, IPv4Address: '10.1.0.2/32', IPv6Address: '' },
      ]),
    ),
  };
}

function setUp(docker: () => Promise<NetworkInfo[]>) {
  const deleted: string[] = [];
  const links = ['eth0', 'lxcaaaaaaaaaaaa', 'lxccccccccccccc', 'tmpcccccccccccc'];
  const uses: string[][] = [];
  const endpoint = (dockerEndpointId: string, last: number) => ({
    id: last,
    facts: { dockerEndpointId, ifName: `lxc${dockerEndpointId.slice(0, 12)}` },
    addresses: [IpAddress.parse(`10.1.0.${last}`)],
  });
  const endpoints = [endpoint(OLD, 2), endpoint(NEW, 3)];
  const deps = {
    docker: { networksOf: docker },
    networks: { collect: () => Promise.resolve([]) },
    endpoints: {
      list: () => endpoints,
      delete: (id: string) => {
        deleted.push(id);
        endpoints.splice(
          endpoints.findIndex(({ facts }) => facts.dockerEndpointId === id),
          1,
        );
        return Promise.resolve();
      },
    },
    ipam: {
      collect: ({ pools, addresses }: { pools: unknown[]; addresses: unknown[] }) => {
        uses.push([...pools, ...addresses].map(String));
        return { pools: [], addresses: [] };
      },
    },
    links: {
      list: () => links.map((name) => ({ name })),
      deleteLink: (name: string) => {
        deleted.push(name);
        return Promise.resolve(true);
      },
    },
    collectConnections: () => Promise.resolve(),
    intervalS: 60,
    clock: new ManualClock(),
    log: silentLogger,
  };
  // The fakes have what the collector uses of the real classes, whose types have more.
  return { collector: new Collector(deps as unknown as CollectorDeps), deleted, uses };
}

test('what Docker does not know goes at the second look', async () => {
  const { collector, deleted } = setUp(() => Promise.resolve([network([NEW])]));
  await collector.collect();
  assert.deepEqual(deleted, []);
  await collector.collect();
  assert.deepEqual(deleted, ['lxccccccccccccc', 'tmpcccccccccccc', OLD]);
});

test('what was missing once and is back stays', async () => {
  const known = [[NEW], [OLD, NEW], [NEW]];
  const { collector, deleted } = setUp(() => Promise.resolve([network(known.shift() ?? [])]));
  for (let look = 0; look < 3; look++) await collector.collect();
  assert.ok(!deleted.includes(OLD));
});

test('nothing that Docker would have to know goes while Docker does not answer', async () => {
  const { collector, deleted, uses } = setUp(() => Promise.reject(new Error('no Docker')));
  await assert.rejects(collector.collect(), /no Docker/);
  await assert.rejects(collector.collect(), /no Docker/);
  assert.deepEqual(deleted, ['lxccccccccccccc', 'tmpcccccccccccc']);
  assert.deepEqual(uses, []);
});

test('leases are kept for pools, containers and auxiliary addresses', async () => {
  const { collector, uses } = setUp(() => Promise.resolve([network([OLD, NEW])]));
  await collector.collect();
  assert.deepEqual(uses, [['10.1.0.0/24', '10.1.0.2', '10.1.0.3', '10.1.0.2', '10.1.0.2', '10.1.0.9']]);
});
