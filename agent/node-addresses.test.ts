// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOST_ENDPOINT, type EndpointInfo } from '../datapath/maps/endpoint-map.ts';
import { IpAddress, type Prefix } from '../net/ip.ts';
import { NodeAddresses } from './node-addresses.ts';

function setUp(records: [string, EndpointInfo][] = []) {
  const kernel = new Map(records);
  const ipcache = new Map<string, number>();
  const interfaces: string[] = [];
  const addresses = new NodeAddresses({
    links: {
      listAddresses: () =>
        interfaces.map((text) => ({
          ifindex: 1,
          address: IpAddress.parse(text),
          prefixLength: 24,
          scope: 0,
          unsettled: false,
        })),
    },
    endpoints: {
      update: (address, info) => void kernel.set(address.toString(), info),
      delete: (address) => kernel.delete(address.toString()),
      get: (address) => kernel.get(address.toString()),
      entries: () => [...kernel].map(([text, info]) => ({ address: IpAddress.parse(text), info })),
    },
    ipcache: {
      upsert: (prefix: Prefix, { identity }) => void ipcache.set(prefix.toString(), identity),
      delete: (prefix: Prefix) => void ipcache.delete(prefix.toString()),
    },
  });
  return { addresses, kernel, ipcache, interfaces };
}

test('addresses of interfaces are the host, loopback and link-local ones are left out', () => {
  const { addresses, kernel, ipcache, interfaces } = setUp();
  interfaces.push('127.0.0.1', '::1', 'fe80::1', '192.0.2.1', '2001:db8::1');
  addresses.start();
  assert.deepEqual([...kernel.keys()], ['192.0.2.1', '2001:db8::1']);
  assert.deepEqual(
    [...ipcache],
    [
      ['192.0.2.1/32', 1],
      ['2001:db8::1/128', 1],
    ],
  );
});

test('an address that goes is forgotten, one that an earlier agent knew too', () => {
  const { addresses, kernel, ipcache, interfaces } = setUp([['192.0.2.7', HOST_ENDPOINT]]);
  interfaces.push('192.0.2.1');
  addresses.start();
  assert.deepEqual([...kernel.keys()], ['192.0.2.1']);
  interfaces.length = 0;
  addresses.refresh();
  assert.equal(kernel.size + ipcache.size, 0);
});

test("a container's address is never taken for the node's", () => {
  const container: EndpointInfo = { ...HOST_ENDPOINT, host: false, id: 5 };
  const { addresses, kernel, ipcache, interfaces } = setUp([['192.0.2.1', container]]);
  interfaces.push('192.0.2.1');
  addresses.start();
  interfaces.length = 0;
  addresses.refresh();
  assert.equal(kernel.get('192.0.2.1'), container);
  assert.equal(ipcache.size, 0);
});
