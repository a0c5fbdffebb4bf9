// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterNodeStatus } from '../api/node-models.ts';
import { ipListEntry } from '../api/cluster-models.ts';
import { Ipcache } from '../ipcache/ipcache.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import type { ClusterNode } from '../node/node.ts';
import { ClusterView, containerNames } from './cluster-view.ts';

function node(
  name: string,
  cluster: string,
  addresses: readonly [ClusterNode['addresses'][number]['type'], string][],
): ClusterNode {
  return {
    name,
    cluster,
    addresses: addresses.map(([type, ip]) => ({ type, ip: IpAddress.parse(ip) })),
    ipv4AllocCidr: Prefix.parse('10.11.0.0/16'),
    ipv6AllocCidr: undefined,
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

const NODES = [
  node('node1', 'default', [
    ['InternalIP', '192.168.60.11'],
    ['InternalIP', 'fd00::11'],
    ['CiliumInternalIP', '10.11.255.254'],
  ]),
  { ...node('node2', 'east', []), routing: { mode: 'tunnel', tunnelPort: 8472, underlay: 6 } as const },
];

function view(ipcache = new Ipcache()): ClusterView {
  const remote = [
    { address: IpAddress.parse('10.12.0.7'), docker: { names: ['web', 'c0ffee'], network: 'net' } },
    { address: IpAddress.parse('10.12.0.8') },
  ];
  return new ClusterView({ nodes: () => NODES, ipcache, names: () => containerNames([], remote) });
}

test('nodes are shown with what they have, this one as local, those of other clusters with its name', () => {
  const status = view().nodes();
  assert.deepEqual(clusterNodeStatus.parse(status), status);
  assert.deepEqual(status, {
    self: 'node1',
    'nodes-added': [
      {
        name: 'node1',
        'primary-address': {
          ipv4: { enabled: true, ip: '192.168.60.11', 'alloc-range': '10.11.0.0/16' },
          ipv6: { enabled: true, ip: 'fd00::11' },
        },
        'secondary-addresses': [{ ip: '10.11.255.254', 'address-type': 'CiliumInternalIP' }],
        source: 'local',
      },
      {
        name: 'east/node2',
        'primary-address': { ipv4: { enabled: true, 'alloc-range': '10.11.0.0/16' }, ipv6: { enabled: false } },
        'secondary-addresses': [],
        source: 'kvstore',
        routing: { mode: 'tunnel', 'tunnel-port': 8472, underlay: 'ipv6' },
      },
    ],
    'nodes-removed': [],
  });
});

test('addresses are shown with node, name and source, all or those inside of a prefix', () => {
  const ipcache = new Ipcache();
  const host = IpAddress.parse('192.168.60.12');
  ipcache.upsert(Prefix.parse('0.0.0.0/0'), { identity: 9 }, 'agent-local');
  ipcache.upsert(Prefix.parse('10.12.0.0/16'), { identity: 0, tunnelEndpoint: host }, 'cluster');
  ipcache.upsert(Prefix.parse('10.12.0.7/32'), { identity: 300, tunnelEndpoint: host }, 'kvstore');
  ipcache.upsert(Prefix.parse('10.12.0.8/32'), { identity: 301, tunnelEndpoint: host }, 'kvstore');
  const shown = (range?: string) => view(ipcache).addresses(range === undefined ? undefined : Prefix.parse(range));
  const all = shown();
  assert.deepEqual(
    all.map((entry) => ipListEntry.parse(entry)),
    all,
  );
  assert.deepEqual(
    all.map(({ cidr }) => cidr),
    ['0.0.0.0/0', '10.12.0.0/16', '10.12.0.7/32', '10.12.0.8/32'],
  );
  assert.deepEqual(all[0], { cidr: '0.0.0.0/0', identity: 9, encryptKey: 0, metadata: { source: 'agent-local' } });
  const web = { cidr: '10.12.0.7/32', identity: 300, hostIP: '192.168.60.12', encryptKey: 0 };
  assert.deepEqual(shown('10.12.0.7/32'), [{ ...web, metadata: { source: 'kvstore', name: 'web' } }]);
  assert.deepEqual(
    shown('10.12.0.0/16').map(({ metadata }) => metadata.name),
    [undefined, 'web', undefined],
  );
  assert.deepEqual(shown('172.16.0.0/12'), []);
});
