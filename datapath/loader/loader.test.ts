// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { IpAddress } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import type { InterfaceAddress } from '../netlink/address.ts';
import { outsideDevices } from './device-tracker.ts';
import { masqueradePorts } from './masquerade-ports.ts';
import { describeDifference, encodeConfigValue } from './object-loader.ts';
import { checkPreconditions } from './preconditions.ts';

function refusal(bpfRoot: string, machine: { uid: number; kernel: string }): string {
  try {
    checkPreconditions(bpfRoot, machine);
    return '';
  } catch (error) {
    assert.ok(isCiliumError(error, 'Precondition'));
    return error.message;
  }
}

test('what is missing is said in one line with its remedy', () => {
  const kernel = '6.1.0-56-amd64';
  assert.equal(refusal('/tmp', { uid: 1000, kernel }), 'cilium-agent needs root: start it with sudo');
  const old = 'kernel 5.10.0-30-amd64 is too old; install 6.1 or newer (Debian 12 or newer has it)';
  assert.equal(refusal('/tmp', { uid: 0, kernel: '5.10.0-30-amd64' }), old);
  assert.equal(refusal('/tmp', { uid: 0, kernel }), '/tmp is not a BPF file system; mount one: mount -t bpf bpf /tmp');
  const absent = '/does/not/exist';
  assert.equal(
    refusal(absent, { uid: 0, kernel }),
    `${absent} does not exist; mount one: mount -t bpf bpf ${absent} (after mkdir -p)`,
  );
});

test('masquerading keeps away from the ports of the host itself', () => {
  const cases: readonly (readonly [range: string, lower: [number, number], upper: [number, number]])[] = [
    ['32768\t60999', [1024, 32767], [61000, 65535]],
    ['1024 65535', [1024, 1023], [65535, 65534]],
    ['40000 65000', [1024, 39999], [65001, 65535]],
  ];
  for (const [range, [first, last], [upperFirst, upperLast]] of cases) {
    const expected = { lower: { first, last }, upper: { first: upperFirst, last: upperLast } };
    assert.deepEqual(masqueradePorts(range), expected, range);
  }
});

test('constants are written in the size of their variable, and refused when they do not fit', () => {
  assert.deepEqual([...encodeConfigValue('a', 0x1234, 4)], [0x34, 0x12, 0, 0]);
  assert.deepEqual([...encodeConfigValue('a', 65535, 2)], [255, 255]);
  assert.deepEqual([...encodeConfigValue('a', Uint8Array.of(1, 2, 3), 3)], [1, 2, 3]);
  for (const [value, size] of [
    [65536, 2],
    [-1, 4],
    [1.5, 4],
    [1, 8],
    [Uint8Array.of(1), 2],
  ] as const) {
    assert.throws(
      () => encodeConfigValue('a', value, size),
      (error) => isCiliumError(error, 'Internal'),
    );
  }
});

test('a pinned map is adopted only when it is what is wanted', () => {
  const wanted = { type: 1, keySize: 20, valueSize: 36, maxEntries: 100, flags: 0 };
  assert.equal(describeDifference({ ...wanted }, wanted), undefined);
  assert.equal(describeDifference({ ...wanted, maxEntries: 50 }, wanted), 'maxEntries is 50, 100 is wanted');
  assert.equal(describeDifference({ ...wanted, type: 9 }, wanted), 'type is 9, 1 is wanted');
});

test('devices that lead outside are those with a global address that are not ours', () => {
  const mac = new MacAddress(Uint8Array.of(2, 0, 0, 0, 0, 1));
  const links = new Map([
    [1, { name: 'lo', mac }],
    [2, { name: 'eth0', mac }],
    [3, { name: 'cilium_host', mac }],
    [4, { name: 'lxc12', mac }],
    [5, { name: 'docker0', mac }],
    [6, { name: 'eth1', mac }],
    [7, { name: 'wg0', mac: undefined }],
  ]);
  const address = (ifindex: number, text: string, rest: Partial<InterfaceAddress> = {}): InterfaceAddress => ({
    ifindex,
    address: IpAddress.parse(text),
    prefixLength: 24,
    scope: 0,
    unsettled: false,
    ...rest,
  });
  const devices = outsideDevices(links, [
    address(1, '127.0.0.1', { scope: 254 }),
    address(1, '10.9.9.9'),
    address(2, '192.168.1.2'),
    address(2, '192.168.1.3'),
    address(2, 'fd00::9', { unsettled: true }),
    address(2, 'fd00::2'),
    address(2, 'fe80::1', { scope: 253 }),
    address(3, '10.15.0.1'),
    address(4, '10.15.0.2'),
    address(5, '172.17.0.1'),
    address(6, 'fe80::2', { scope: 253 }),
    address(7, '10.200.0.1'),
    address(99, '1.1.1.1'),
  ]);
  const shown = [...devices].map(([ifindex, { ipv4, ipv6 }]) => [ifindex, ipv4?.toString(), ipv6?.toString()]);
  assert.deepEqual(shown, [
    [2, '192.168.1.2', 'fd00::2'],
    [5, '172.17.0.1', undefined],
  ]);
});
