// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError, type ErrorCode } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { checkNetworkRange, chooseRange, type RangeSource } from './claim.ts';
import type { ClusterNode } from './node.ts';

function nodeWith(name: string, ...ranges: string[]): ClusterNode {
  return {
    name,
    cluster: 'default',
    addresses: [{ type: 'InternalIP', ip: IpAddress.parse('192.0.2.9') }],
    ipv4AllocCidr: undefined,
    ipv6AllocCidr: undefined,
    ipv4SecondaryAllocCidrs: ranges.map((range) => Prefix.parse(range)),
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

const pool = (text: string, length: number): RangeSource => ({ pool: Prefix.parse(text), length, option: '--pool' });
const failsWith =
  (code: ErrorCode, ...texts: string[]) =>
  (error: unknown) =>
    isCiliumError(error, code) && texts.every((text) => error.message.includes(text));

test('a range that nobody overlaps is taken, wherever the search begins', () => {
  const others = [
    nodeWith('a', '10.0.0.0/24'),
    nodeWith('b', '10.0.1.128/25', '10.0.2.0/23'),
    nodeWith('c', '10.0.5.0/24'),
  ];
  for (const name of ['a', 'b', 'node1', 'node2']) {
    const found = new Set(
      [6, 7, 4].map(() => {
        const range = chooseRange(pool('10.0.0.0/21', 24), { name }, others);
        others.push(nodeWith('next', range.toString()));
        return range.toString();
      }),
    );
    assert.deepEqual([...found].sort(), ['10.0.4.0/24', '10.0.6.0/24', '10.0.7.0/24'], name);
    others.length -= 3;
  }
});

test('nodes begin their search at different places, each always at its own', () => {
  const first = (name: string): string => chooseRange(pool('10.0.0.0/12', 24), { name }, []).toString();
  assert.equal(first('node1'), first('node1'));
  assert.equal(new Set(['node1', 'node2', 'node3', 'node4'].map(first)).size, 4);
});

test('a range that was ours is asked for again, if it is still one of the pool', () => {
  const remembered = Prefix.parse('10.0.7.0/24');
  assert.equal(chooseRange(pool('10.0.0.0/16', 24), { name: 'me', remembered }, []).toString(), '10.0.7.0/24');
  assert.equal(chooseRange(pool('10.0.0.0/16', 25), { name: 'me', remembered }, []).length, 25);
  assert.equal(chooseRange(pool('10.1.0.0/24', 24), { name: 'me', remembered }, []).toString(), '10.1.0.0/24');
});

test('a range of ours that another node got meanwhile is an error that says what to do', () => {
  assert.throws(
    () =>
      chooseRange(pool('10.0.0.0/16', 24), { name: 'me', remembered: Prefix.parse('10.0.7.0/24') }, [
        nodeWith('a', '10.0.7.0/24'),
      ]),
    failsWith('InUse', '10.0.7.0/24 of node a (192.0.2.9)', 'away', 'docker network rm'),
  );
  const idle = { name: 'me', remembered: Prefix.parse('10.0.7.0/24'), mayMove: true };
  const other = chooseRange(pool('10.0.0.0/16', 24), idle, [nodeWith('a', '10.0.7.0/24')]);
  assert.notEqual(other.toString(), '10.0.7.0/24');
});

test('a configured range that overlaps another node is an error that names option, node and remedy', () => {
  const source: RangeSource = { fixed: Prefix.parse('10.15.0.0/16'), option: '--ipv4-range' };
  assert.equal(chooseRange(source, { name: 'me' }, [nodeWith('a', '10.16.0.0/16')]), source.fixed);
  assert.throws(
    () => chooseRange(source, { name: 'me' }, [nodeWith('a', '10.15.3.0/24')]),
    failsWith('InUse', '--ipv4-range', 'node a', '--cluster-pool-ipv4-cidr'),
  );
});

test('a pool that is full says how many have it', () => {
  const others = [nodeWith('a', '10.0.0.0/25'), nodeWith('b', '10.0.0.128/25')];
  assert.throws(
    () => chooseRange(pool('10.0.0.0/24', 25), { name: 'me' }, others),
    failsWith('PoolExhausted', '2 other nodes', '--pool'),
  );
});

test('a network may not have what another node has', () => {
  checkNetworkRange(Prefix.parse('10.50.1.0/24'), [nodeWith('a', '10.50.2.0/24')]);
  assert.throws(
    () => checkNetworkRange(Prefix.parse('10.50.0.0/16'), [nodeWith('a', '10.50.2.0/24')]),
    failsWith('InUse', 'node a', 'add --ipam-driver cilium', 'pass a --subnet', '--ip-range'),
  );
});

test('nodes that take ranges one after the other never overlap, whatever is there', () => {
  const range = fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 30 }))
    .map(([third, length]) => new Prefix(IpAddress.parse(`10.0.${third}.${third}`), length).toString());
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), fc.integer({ min: 20, max: 28 }), (taken, length) => {
      const others = [nodeWith('others', ...taken)];
      for (let i = 0; i < 5; i++) {
        let mine: Prefix;
        try {
          mine = chooseRange(pool('10.0.0.0/16', length), { name: `n${i}` }, others);
        } catch (error) {
          assert.ok(isCiliumError(error, 'PoolExhausted'));
          return;
        }
        assert.equal(mine.length, length);
        checkNetworkRange(mine, others);
        others.push(nodeWith(`n${i}`, mine.toString()));
      }
    }),
  );
});
