// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo } from 'node:os';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { IpAddress } from '../net/ip.ts';
import { checkNodeAddress } from './node-facts.ts';

function on(...addresses: string[]): NetworkInterfaceInfo[] {
  return addresses.map((address) => {
    const common = { address, netmask: '', mac: '', internal: false, cidr: null };
    return address.includes(':') ? { ...common, family: 'IPv6', scopeid: 0 } : { ...common, family: 'IPv4' };
  });
}

const INTERFACES = {
  lo: on('127.0.0.1', '::1', '192.0.2.7'),
  eth0: on('192.168.251.3', 'fd00:251::3', 'fe80::3'),
  eth1: on('10.1.0.3'),
  cilium_host: on('10.16.255.254'),
};

test('a node may be known by any address of its devices, one of its loopback too', () => {
  for (const address of ['192.168.251.3', '10.1.0.3', '192.0.2.7', 'fd00:251:0::3']) {
    checkNodeAddress(IpAddress.parse(address), '--ipv4-node', INTERFACES);
  }
});

const OTHERS = '192.0.2.7, 192.168.251.3, 10.1.0.3';
for (const [address, fault, interfaces] of [
  ['10.9.9.9', 'on no device of this node; it has 192.168.251.3', { eth0: INTERFACES.eth0 }],
  ['10.9.9.9', `on no device of this node; it has ${OTHERS}`, INTERFACES],
  ['10.16.255.254', `on no device of this node; it has ${OTHERS}`, INTERFACES],
  ['127.0.0.1', `where no other node reaches this one; it has ${OTHERS}`, INTERFACES],
  ['fe80::3', 'where no other node reaches this one; it has fd00:251::3', INTERFACES],
  ['fd00::9', 'on no device of this node; it has no IPv6 address that others reach', { eth1: INTERFACES.eth1 }],
] as const) {
  test(`a node is not known by ${address}: ${fault}`, () => {
    assert.throws(
      () => checkNodeAddress(IpAddress.parse(address), '--node', interfaces),
      (error) =>
        isCiliumError(error, 'Precondition') &&
        error.message.startsWith(`--node: found ${address}, `) &&
        error.message.endsWith(fault),
    );
  });
}
