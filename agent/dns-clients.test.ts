// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpAddress } from '../net/ip.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { DnsClients } from './dns-clients.ts';

test('the node itself and containers on its bridges may ask, the rest of the wire may not', async () => {
  const links = [
    { ifindex: 1, kind: '' },
    { ifindex: 2, kind: '' },
    { ifindex: 3, kind: 'bridge' },
    { ifindex: 4, kind: 'bridge' },
  ];
  const addresses = [
    [1, '127.0.0.1', 8],
    [2, '192.0.2.10', 24],
    [3, '172.17.0.1', 16],
    [4, '198.51.100.1', 24],
  ].map(([ifindex, address, length]) => ({
    ifindex: Number(ifindex),
    address: IpAddress.parse(String(address)),
    prefixLength: Number(length),
  }));
  const clock = new ManualClock();
  const clients = new DnsClients({
    links: { list: () => links, listAddresses: () => addresses },
    nodeAddresses: () => [IpAddress.parse('192.0.2.10'), IpAddress.parse('198.51.100.1')],
    clock,
  });
  for (const [address, expected] of [
    ['127.0.0.1', true],
    ['192.0.2.10', true],
    ['192.0.2.11', false],
    ['172.17.0.9', true],
    ['198.51.100.1', true],
    ['198.51.100.2', false],
    ['fd00::1', false],
    ['', false],
  ] as const) {
    assert.equal(clients.has(address), expected, address);
  }
  links.push({ ifindex: 5, kind: 'bridge' });
  addresses.push({ ifindex: 5, address: IpAddress.parse('fd00::1'), prefixLength: 64 });
  assert.equal(clients.has('fd00::2'), false, 'not looked at again at once');
  await clock.advance(1_000);
  assert.equal(clients.has('fd00::2'), true);
});
