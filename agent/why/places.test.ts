// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteAddress } from '../../ipcache/shared/remote-addresses.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import type { ClusterNode } from '../../node/node.ts';
import { Places, placeText } from './places.ts';

function node(number: number, more: Partial<ClusterNode> = {}): ClusterNode {
  return {
    name: `node${number}`,
    cluster: 'default',
    addresses: [{ type: 'InternalIP', ip: IpAddress.parse(`192.168.251.${number}`) }],
    ipv4AllocCidr: Prefix.parse(`10.${15 + number}.0.0/16`),
    ipv6AllocCidr: Prefix.parse(`fd15:${number}::/64`),
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
    ...more,
  };
}

function remote(address: string, onNode: number, names: readonly string[], identity = 300): RemoteAddress {
  const host = IpAddress.parse(`192.168.251.${onNode}`);
  return { address: IpAddress.parse(address), host, identity, docker: { names, network: 'net' } };
}

const REMOTE = [
  remote('10.17.0.2', 2, ['app1', 'web']),
  remote('fd15:2::2', 2, ['app1', 'web']),
  remote('10.18.0.2', 3, ['app2', 'web', 'app1'], 301),
  remote('10.18.0.3', 3, ['twin'], 302),
  remote('10.17.0.3', 2, ['twin'], 302),
];

function places(nodes = [node(1), node(2), node(3)], addresses = REMOTE): Places {
  return new Places({ nodes: () => nodes, remote: () => addresses });
}

test('an address is on the node in whose range it is, or whose own it is', () => {
  const own = { ipv4SecondaryAllocCidrs: [Prefix.parse('10.99.1.0/24')], cluster: 'east', addresses: [] };
  const all = places([node(1), node(2), node(3, own)]);
  const found = (text: string) => {
    const at = all.nodeOf(IpAddress.parse(text));
    return at && `${placeText(at.place)}${at.isLocal ? ' here' : ''}`;
  };
  assert.equal(found('10.16.0.9'), 'node1 (192.168.251.1) here');
  assert.equal(found('fd15:2::9'), 'node2 (192.168.251.2)');
  assert.equal(found('192.168.251.2'), 'node2 (192.168.251.2)');
  assert.equal(found('10.99.1.7'), 'east/node3');
  assert.equal(found('10.99.2.7'), undefined);
  assert.equal(places([]).nodeOf(IpAddress.parse('10.16.0.9')), undefined);
});

test('a container of another node is found by its name before those that have it as an alias, in either family', () => {
  const text = (name: string, family: 4 | 6) => places().addressOf(name, family)?.toString();
  assert.equal(text('app1', 4), '10.17.0.2');
  assert.equal(text('app1', 6), 'fd15:2::2');
  assert.equal(text('app2', 6), '10.18.0.2');
  assert.equal(text('app9', 4), undefined);
  assert.equal(places().nameAt(IpAddress.parse('10.18.0.2')), 'app2');
  assert.equal(places().nameAt(IpAddress.parse('10.18.0.9')), undefined);
});

test('a name of several containers is refused with their addresses', () => {
  assert.throws(() => places().addressOf('twin', 4), {
    code: 'InvalidArgument',
    message: '"twin" is the name of several containers on other nodes: give the address of one (10.17.0.3, 10.18.0.3)',
  });
  assert.throws(() => places().addressOf('web', 4), /\(10\.17\.0\.2, 10\.18\.0\.2, fd15:2::2\)/);
  const many = Array.from({ length: 12 }, (_, i) => remote(`10.17.0.${i + 10}`, 2, [`web${i}`, 'web']));
  assert.throws(() => places(undefined, many).addressOf('web', 4), /, 10\.17\.0\.19 and 2 more\)/);
});

test('nodes are named that have containers of an identity', () => {
  const names = (identity: number) => places().nodesWith(identity).map(placeText);
  assert.deepEqual(names(302), ['node2 (192.168.251.2)', 'node3 (192.168.251.3)']);
  assert.deepEqual(names(300), ['node2 (192.168.251.2)']);
  assert.deepEqual(names(77), []);
});
