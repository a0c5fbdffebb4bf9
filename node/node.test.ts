// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import {
  addressesOf,
  decodeNode,
  encodeNode,
  lastUsable,
  nodeRanges,
  router,
  sameNode,
  tunnelEndpoint,
} from './node.ts';

const KEY = 'cilium/state/nodes/v1/default/node1';

/** What an agent of Cilium 1.19 writes. */
const THEIRS = {
  Name: 'node1',
  Cluster: 'default',
  IPAddresses: [
    { Type: 'InternalIP', IP: '192.168.60.11' },
    { Type: 'CiliumInternalIP', IP: '10.11.255.254' },
    { Type: 'CiliumInternalIP', IP: 'fd11::ffff:ffff' },
    { Type: 'Hostname', IP: 'node1.example' },
  ],
  IPv4AllocCIDR: { IP: '10.11.0.0', Mask: '//8AAA==' },
  IPv4SecondaryAllocCIDRs: [{ IP: '10.50.1.0', Mask: '////AA==' }],
  IPv6AllocCIDR: { IP: 'fd11::', Mask: '////////////////AAAAAA==' },
  IPv6SecondaryAllocCIDRs: null,
  IPv4HealthIP: '10.11.7.7',
  IPv6HealthIP: '',
  ClusterID: 0,
  Source: 'local',
  Labels: { 'some.label/of': 'no use' },
  NodeIdentity: 1,
  BootID: 'b-1',
};

test('a node of Cilium is understood', () => {
  const node = decodeNode(KEY, JSON.stringify(THEIRS));
  assert.equal(tunnelEndpoint(node, 4)?.toString(), '192.168.60.11');
  assert.equal(tunnelEndpoint(node, 6), undefined);
  assert.equal(router(node, 6)?.toString(), 'fd11::ffff:ffff');
  assert.deepEqual(nodeRanges(node).map(String), ['10.11.0.0/16', 'fd11::/96', '10.50.1.0/24']);
  assert.equal(node.ipv4HealthIp?.toString(), '10.11.7.7');
  assert.equal(node.ipv6HealthIp, undefined);
  assert.equal(addressesOf(node, 'Hostname').length, 0);
});

test('what we write is what we read, and has all the members that Cilium writes', () => {
  const node = decodeNode(KEY, JSON.stringify(THEIRS));
  const text = encodeNode(node);
  assert.ok(sameNode(decodeNode(KEY, text), node));
  const written = JSON.parse(text) as typeof THEIRS;
  for (const name of [
    'IPv4AllocCIDR',
    'IPv6AllocCIDR',
    'IPv4SecondaryAllocCIDRs',
    'IPv6SecondaryAllocCIDRs',
  ] as const) {
    assert.deepEqual(written[name], THEIRS[name], name);
  }
  assert.deepEqual(written.IPAddresses, THEIRS.IPAddresses.slice(0, 3));
});

test('how a node routes is a member of our own; a node that says nothing of it, or nonsense, is a node', () => {
  const node = decodeNode(KEY, JSON.stringify(THEIRS));
  assert.equal(node.routing, undefined);
  assert.ok(!encodeNode(node).includes('Docker'));
  for (const routing of [
    { mode: 'tunnel', tunnelPort: 8472, underlay: 4 },
    { mode: 'native', tunnelPort: 1, underlay: 6 },
  ] as const) {
    assert.deepEqual(decodeNode(KEY, encodeNode({ ...node, routing })).routing, routing);
    assert.ok(!sameNode(node, { ...node, routing }));
  }
  for (const Docker of [7, null, {}, { RoutingMode: 'geneve', TunnelPort: 8472, Underlay: 'ipv4' }]) {
    const odd = decodeNode(KEY, JSON.stringify({ ...THEIRS, Docker }));
    assert.ok(sameNode(odd, node));
  }
});

test('addresses at which no node can be reached are left out', () => {
  const IPAddresses = ['0.0.0.0', '127.0.0.1', 'fe80::1', '224.0.0.1', '::1', '192.168.60.11'].map((IP) => {
    return { Type: 'InternalIP', IP };
  });
  const node = decodeNode(KEY, JSON.stringify({ ...THEIRS, IPAddresses }));
  assert.deepEqual(
    node.addresses.map(({ ip }) => ip.toString()),
    ['192.168.60.11'],
  );
});

test('addresses as 1.1 wrote them', () => {
  const IPAddresses = [{ AddressType: 'InternalIP', IP: '192.168.60.11' }];
  assert.equal(
    tunnelEndpoint(decodeNode(KEY, JSON.stringify({ ...THEIRS, IPAddresses })), 4)?.toString(),
    '192.168.60.11',
  );
});

for (const [what, change, complaint] of [
  ['a mask with holes', { IPv4AllocCIDR: { IP: '10.11.0.0', Mask: '/wD/AA==' } }, 'IPv4AllocCIDR'],
  ['a mask of the other family', { IPv6AllocCIDR: { IP: 'fd11::', Mask: '//8AAA==' } }, 'IPv6AllocCIDR'],
  ['a range of the other family', { IPv4AllocCIDR: THEIRS.IPv6AllocCIDR }, 'IPv4AllocCIDR: expected an IPv4 range'],
  ['a range as large as the world', { IPv4AllocCIDR: { IP: '0.0.0.0', Mask: 'AAAAAA==' } }, '/8 or longer'],
  ['no address', { IPv4HealthIP: 'somewhere' }, 'IPv4HealthIP'],
  ['no name', { Name: undefined }, 'Name'],
  ['the name of another', { Name: 'node2' }, 'belongs to cilium/state/nodes/v1/default/node2'],
  ['the cluster of another', { Cluster: 'other' }, 'belongs to'],
] as const) {
  test(`refused, and named: ${what}`, () => {
    assert.throws(
      () => decodeNode(KEY, JSON.stringify({ ...THEIRS, ...change })),
      (error) =>
        isCiliumError(error, 'InvalidArgument') && error.message.includes(complaint) && error.message.includes(KEY),
    );
  });
}

test('what is no JSON is refused', () => {
  assert.throws(
    () => decodeNode(KEY, 'node1'),
    (error) => isCiliumError(error, 'InvalidArgument'),
  );
});

test('the router is the last address that a device can have', () => {
  for (const [range, address] of [
    ['10.11.0.0/16', '10.11.255.254'],
    ['10.11.0.0/31', '10.11.0.1'],
    ['fd11::/64', 'fd11::ffff:ffff:ffff:ffff'],
  ] as const) {
    assert.ok(lastUsable(Prefix.parse(range)).equals(IpAddress.parse(address)), range);
  }
});
