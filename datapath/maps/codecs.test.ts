// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import * as conntrack from './conntrack-map.ts';
import { decodeDeviceInfo, DEVICE_INFO, encodeDeviceInfo } from './device-map.ts';
import * as endpoints from './endpoint-map.ts';
import { fragmentKeyHas } from './fragment-map.ts';
import * as ipcache from './ipcache-map.ts';
import { sumMetrics } from './metrics-map.ts';
import * as policy from './policy-map.ts';
import * as snat from './snat-map.ts';

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const ipv4 = bytes(4).map((value) => new IpAddress(value));
const ipv6 = bytes(16).map((value) => new IpAddress(value));
const address = fc.oneof(ipv4, ipv6);
const sameFamily = fc.oneof(fc.tuple(ipv4, ipv4), fc.tuple(ipv6, ipv6));
const mac = bytes(6).map((value) => new MacAddress(value));

/** A buffer as it may be left by an earlier use. */
function dirty(length: number): Buffer {
  return Buffer.alloc(length, 0xa5);
}

/** Compares by what is printed: addresses cache their text. */
function same(actual: unknown, expected: unknown): void {
  assert.equal(JSON.stringify(actual), JSON.stringify(expected));
}

test('endpoint records come back as they were written', () => {
  const info = fc.record({
    ifindex: u32,
    identity: u32,
    policySlot: u32,
    id: u16,
    mtu: u16,
    mac,
    hostMac: mac,
    internal: fc.boolean(),
    host: fc.boolean(),
  });
  fc.assert(
    fc.property(address, info, (key, value) => {
      const [keyBytes, valueBytes] = [dirty(endpoints.ENDPOINT_KEY.size), dirty(endpoints.ENDPOINT_INFO.size)];
      endpoints.encodeEndpointKey(key, keyBytes);
      endpoints.encodeEndpointInfo(value, valueBytes);
      same(endpoints.decodeEndpointKey(keyBytes), key);
      same(endpoints.decodeEndpointInfo(valueBytes), value);
    }),
  );
});

test('the bytes of an endpoint key are those of the C', () => {
  const key = dirty(endpoints.ENDPOINT_KEY.size);
  endpoints.encodeEndpointKey(IpAddress.parse('10.1.2.3'), key);
  assert.equal(key.toString('hex'), '0a010203000000000000000000000000' + '01000000');
  endpoints.encodeEndpointKey(IpAddress.parse('fd00::1'), key);
  assert.equal(key.toString('hex'), 'fd000000000000000000000000000001' + '02000000');
});

test('ipcache entries come back as they were written', () => {
  const prefix = fc.tuple(address, fc.nat(128)).map(([base, length]) => new Prefix(base, Math.min(length, base.bits)));
  const info = fc.oneof(
    fc.record({ identity: u32 }),
    fc.record({ identity: u32, tunnelEndpoint: address, skipTunnel: fc.boolean() }),
  );
  fc.assert(
    fc.property(prefix, info, (key, value) => {
      const [keyBytes, valueBytes] = [dirty(ipcache.IPCACHE_KEY.size), dirty(ipcache.IPCACHE_INFO.size)];
      ipcache.encodeIpcacheKey(key, keyBytes);
      ipcache.encodeIpcacheInfo(value, valueBytes);
      same(ipcache.decodeIpcacheKey(keyBytes), key);
      same(ipcache.decodeIpcacheInfo(valueBytes), value);
    }),
  );
});

test('what was read of an ipcache entry stays when its buffers are used for the next one', () => {
  const [key, value] = [Buffer.alloc(ipcache.IPCACHE_KEY.size), Buffer.alloc(ipcache.IPCACHE_INFO.size)];
  ipcache.encodeIpcacheKey(Prefix.parse('10.1.2.3/32'), key);
  ipcache.encodeIpcacheInfo({ identity: 300, tunnelEndpoint: IpAddress.parse('192.168.60.12') }, value);
  const [prefix, info] = [ipcache.decodeIpcacheKey(key), ipcache.decodeIpcacheInfo(value)];
  key.fill(0xff);
  value.fill(0xff);
  assert.equal(prefix.toString(), '10.1.2.3/32');
  assert.equal(info.tunnelEndpoint?.toString(), '192.168.60.12');
});

test('the bytes of an ipcache value are those of the C', () => {
  const value = dirty(ipcache.IPCACHE_INFO.size);
  const flagsOf = (info: ipcache.IpcacheInfo): string => {
    ipcache.encodeIpcacheInfo(info, value);
    return value.toString('hex');
  };
  const node4 = IpAddress.parse('192.168.60.11');
  const node6 = IpAddress.parse('fd00::b');
  assert.equal(flagsOf({ identity: 300 }), '2c010000' + '00'.repeat(20));
  assert.equal(flagsOf({ identity: 300, tunnelEndpoint: node4 }), '2c010000' + 'c0a83c0b' + '00'.repeat(15) + '02');
  const skipping = { identity: 300, tunnelEndpoint: node6, skipTunnel: true };
  assert.equal(flagsOf(skipping), '2c010000' + 'fd00' + '00'.repeat(13) + '0b' + '00'.repeat(3) + '07');
});

test('the length of an ipcache key counts the static bits', () => {
  const key = dirty(ipcache.IPCACHE_KEY.size);
  ipcache.encodeIpcacheKey(Prefix.parse('10.0.0.0/8'), key);
  assert.equal(key.toString('hex'), '28000000' + '00000001' + '0a000000000000000000000000000000');
});

test('policy entries come back as they were written', () => {
  const entry = fc.record({
    identity: u32,
    egress: fc.boolean(),
    protocol: u8,
    port: u16,
    bits: fc.integer({ min: 0, max: 24 }),
    deny: fc.boolean(),
    proxyPort: u16,
    precedence: u32,
    cookie: u32,
  });
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 5 }), (entries) => {
      const [keys, values] = [policy.encodePolicyKeys(entries), policy.encodePolicyValues(entries)];
      for (const [i, expected] of entries.entries()) {
        const key = keys.subarray(i * policy.POLICY_KEY.size, (i + 1) * policy.POLICY_KEY.size);
        const value = values.subarray(i * policy.POLICY_ENTRY.size, (i + 1) * policy.POLICY_ENTRY.size);
        assert.deepEqual(policy.decodePolicyEntry(key, value), { ...expected });
      }
    }),
  );
});

test('the bytes of a policy key are those of the C: length and identity in host order, the port in network order', () => {
  const key = policy.encodePolicyKeys([{ identity: 0x12345, egress: true, protocol: 6, port: 0x1f90, bits: 24 }]);
  assert.equal(key.toString('hex'), '40000000' + '45230100' + '01' + '06' + '1f90');
});

const connection = fc.tuple(sameFamily, u8, u16, u16).map(([[initiator, responder], protocol, from, to]) => ({
  protocol,
  initiator,
  initiatorPort: from,
  responder,
  responderPort: to,
}));

test('both directions of a flow have the same conntrack key', () => {
  fc.assert(
    fc.property(connection, (flow) => {
      const reply = {
        protocol: flow.protocol,
        initiator: flow.responder,
        initiatorPort: flow.responderPort,
        responder: flow.initiator,
        responderPort: flow.initiatorPort,
      };
      assert.deepEqual(conntrack.encodeConntrackKey(flow), conntrack.encodeConntrackKey(reply));
    }),
  );
});

test('conntrack entries come back as they were written, whoever of the two began', () => {
  const details = fc.record({
    expires: u32,
    proxyPort: u16,
    initiatorIdentity: u32,
    initiatorReport: u32,
    responderReport: u32,
    initiatorTcpFlags: u8,
    responderTcpFlags: u8,
  });
  fc.assert(
    fc.property(connection, details, (flow, rest) => {
      const flags = conntrack.initiatorIsLower(flow) ? conntrack.CT_F_LOWER_STARTED : 0;
      const entry = { ...flow, ...rest, flags };
      const [key, value] = [conntrack.encodeConntrackKey(flow), conntrack.encodeConntrackEntry(entry)];
      const decoded = conntrack.decodeConntrack(flow.initiator.family, key, value);
      for (const field of Object.keys(entry) as (keyof typeof entry)[]) same(decoded[field], entry[field]);
      assert.equal(conntrack.conntrackExpiry(value), rest.expires);
      assert.ok(conntrack.conntrackKeyHas(key, flow.initiator));
      assert.ok(conntrack.conntrackKeyHas(key, flow.responder));
    }),
  );
});

test('a conntrack key does not have an address that neither end has', () => {
  const flow = {
    protocol: 6,
    initiator: IpAddress.parse('10.0.0.1'),
    initiatorPort: 1,
    responder: IpAddress.parse('10.0.0.2'),
    responderPort: 2,
  };
  assert.ok(!conntrack.conntrackKeyHas(conntrack.encodeConntrackKey(flow), IpAddress.parse('10.0.0.3')));
});

const snatEntry = fc
  .tuple(sameFamily, fc.tuple(u16, u16, u16), u8, fc.constantFrom(0, 1), u32)
  .map(([[source, destination], [sourcePort, destinationPort, toPort], protocol, direction, created]) => ({
    direction,
    protocol,
    source,
    sourcePort,
    destination,
    destinationPort,
    to: destination,
    toPort,
    created,
  }));

test('masquerade entries come back as they were written', () => {
  fc.assert(
    fc.property(snatEntry, (entry) => {
      const decoded = snat.decodeSnat(entry.source.family, snat.encodeSnatKey(entry), snat.encodeSnatEntry(entry));
      for (const field of Object.keys(entry) as (keyof typeof entry)[]) same(decoded[field], entry[field]);
    }),
  );
});

test('the opposite of a masquerade entry is found from its own bytes', () => {
  const container = IpAddress.parse('10.1.0.5');
  const node = IpAddress.parse('192.168.1.1');
  const remote = IpAddress.parse('9.9.9.9');
  const forward = {
    direction: snat.SNAT_FORWARD,
    protocol: 17,
    source: container,
    sourcePort: 4000,
    destination: remote,
    destinationPort: 53,
    to: node,
    toPort: 61000,
    created: 1,
  };
  const replyKey = snat.oppositeSnatKey(forward);
  same(replyKey, {
    direction: snat.SNAT_REPLY,
    protocol: 17,
    source: remote,
    sourcePort: 53,
    destination: node,
    destinationPort: 61000,
  });
  const reply = { ...replyKey, to: container, toPort: 4000, created: 1 };
  assert.deepEqual(snat.encodeSnatKey(snat.oppositeSnatKey(reply)), snat.encodeSnatKey(forward));
  for (const entry of [forward, reply]) {
    const [key, value] = [snat.encodeSnatKey(entry), snat.encodeSnatEntry(entry)];
    assert.ok(snat.snatBelongsTo(key, value, container));
    assert.ok(!snat.snatBelongsTo(key, value, remote));
  }
});

test('device records come back as they were written', () => {
  const option = { nil: undefined };
  fc.assert(
    fc.property(fc.record({ ipv4: fc.option(ipv4, option), ipv6: fc.option(ipv6, option) }), (info) => {
      const value = dirty(DEVICE_INFO.size);
      encodeDeviceInfo(info, value);
      same(decodeDeviceInfo(value), info);
    }),
  );
});

test('a fragment belongs to both its ends and to nobody else', () => {
  const key = Buffer.from('0a000001' + '0a000002' + '1234' + '1100', 'hex');
  for (const [text, belongs] of [
    ['10.0.0.1', true],
    ['10.0.0.2', true],
    ['10.0.0.3', false],
  ] as const) {
    assert.equal(fragmentKeyHas(key, IpAddress.parse(text)), belongs, text);
  }
});

test('counters of all CPUs are added up', () => {
  const value = Buffer.alloc(48);
  for (const [i, count] of [3, 60, 1, 20, 0, 0].entries()) value.writeBigUInt64LE(BigInt(count), i * 8);
  assert.deepEqual(sumMetrics(value), { packets: 4, bytes: 80 });
});
