// SPDX-License-Identifier: Apache-2.0

/** The pieces of datapath/ one by one on the running kernel: maps, policy slots, flow maps, rtnetlink. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { BpfMap, MAP_TYPE } from '../../datapath/ffi/bpf-map.ts';
import { isErrno } from '../../datapath/ffi/errno.ts';
import { openHandles } from '../../datapath/ffi/handle.ts';
import { ConntrackMaps, type FlowMaps } from '../../datapath/maps/conntrack.ts';
import * as ct from '../../datapath/maps/conntrack-map.ts';
import { IDENTITY_WORDS, IdentityMap } from '../../datapath/maps/identity-map.ts';
import type { PolicyEntry } from '../../datapath/maps/policy-map.ts';
import { PolicySlots } from '../../datapath/maps/policy-slots.ts';
import * as snat from '../../datapath/maps/snat-map.ts';
import { Links } from '../../datapath/netlink/links.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { inNamespace, run } from '../bpf/support/namespace.ts';
import { createPolicyOuter } from './datapath-support.ts';

inNamespace(fileURLToPath(import.meta.url), () => {
  after(() => assert.deepEqual(openHandles(), {}));
  testMaps();
  testPolicySlots();
  testFlows();
  testLinks();
});

function hashMap(maxEntries: number): BpfMap {
  return BpfMap.create('test', { type: MAP_TYPE.hash, keySize: 4, valueSize: 8, maxEntries, flags: 0 });
}

function uint32s(...values: number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) buffer.writeUInt32LE(value, i * 4);
  return buffer;
}

function testMaps(): void {
  test('privileged: keys and values of the wrong size are refused before the kernel sees them', () => {
    const map = hashMap(4);
    const wrong: (() => void)[] = [
      () => map.update(Buffer.alloc(3), Buffer.alloc(8)),
      () => map.update(Buffer.alloc(4), Buffer.alloc(7)),
      () => void map.lookup(Buffer.alloc(4), Buffer.alloc(16)),
      () => void map.delete(Buffer.alloc(8)),
      () => map.updateBatch(Buffer.alloc(8), Buffer.alloc(8), 2),
      () => map.deleteBatch(Buffer.alloc(4), 2),
    ];
    for (const call of wrong) assert.throws(call, (error) => isCiliumError(error, 'Internal'));
    map.close();
  });

  test('privileged: a closed map says that it is closed, also to a second close', () => {
    const map = hashMap(4);
    map.close();
    const closed = (error: unknown): boolean => isCiliumError(error, 'Internal') && error.message.includes('closed');
    assert.throws(() => map.lookup(Buffer.alloc(4), Buffer.alloc(8)), closed);
    assert.throws(() => map.close(), closed);
  });

  test('privileged: a full map throws MapFull with its size', () => {
    const map = hashMap(2);
    for (const key of [1, 2]) map.update(uint32s(key), Buffer.alloc(8));
    const isFull = (error: unknown): boolean =>
      isCiliumError(error, 'MapFull') && error.details['maxEntries'] === 2 && isErrno(error, 'E2BIG');
    assert.throws(() => map.update(uint32s(3), Buffer.alloc(8)), isFull);
    assert.throws(() => map.updateBatch(uint32s(3, 4), Buffer.alloc(16), 2), isFull);
    map.close();
  });

  test('privileged: batches write, show and delete, and pass over keys that are not there', () => {
    const map = hashMap(5000);
    const keys = uint32s(...Array.from({ length: 3000 }, (_, i) => i));
    map.updateBatch(keys, Buffer.alloc(3000 * 8, 7), 3000);
    const seen = new Set<number>();
    for (const { key, value } of map.entries()) {
      seen.add(key.readUInt32LE());
      assert.equal(value[0], 7);
    }
    assert.equal(seen.size, 3000);
    map.deleteBatch(uint32s(9999, 0, 1, 8888, 2, 7777), 6);
    assert.equal(map.delete(uint32s(3)), true);
    assert.equal(map.delete(uint32s(3)), false);
    assert.equal([...map.entries()].length, 2996);
    map.close();
  });

  test('privileged: a walk of a hash map with crowded buckets sees every entry', () => {
    const map = hashMap(3);
    map.updateBatch(uint32s(1, 2, 3), Buffer.alloc(24), 3);
    assert.equal([...map.entries()].length, 3);
    map.close();
  });

  test('privileged: identities have a bit each, in the words of the kernel, and the next agent finds them', () => {
    const map = BpfMap.create('identities', {
      type: MAP_TYPE.array,
      keySize: 4,
      valueSize: 8,
      maxEntries: IDENTITY_WORDS,
      flags: 0,
    });
    try {
      const identities = new IdentityMap(map);
      assert.deepEqual(identities.list(), []);
      const ids = [256, 300, 319, 320, 1001, 65_472, 65_535];
      for (const id of ids) identities.set(id, true);
      assert.deepEqual(identities.list(), ids);
      const value = Buffer.alloc(8);
      map.lookup(Buffer.from([4, 0, 0, 0]), value);
      assert.equal(value.readBigUInt64LE(), (1n << 0n) | (1n << 44n) | (1n << 63n));
      identities.set(300, false);
      assert.deepEqual([identities.has(300), identities.has(319), identities.has(301)], [false, true, false]);
      assert.deepEqual(
        new IdentityMap(map).list(),
        ids.filter((id) => id !== 300),
      );
      identities.replace([257, 65_535]);
      assert.deepEqual(
        [identities.list(), new IdentityMap(map).list()],
        [
          [257, 65_535],
          [257, 65_535],
        ],
      );
      for (const id of [0, 255, 65_536, 0x0100_0001, 256.5, NaN]) {
        assert.throws(() => identities.set(id, true), /has no bit in cilium_identities/);
      }
      assert.throws(() => identities.replace([256, 8]), /identity 8/);
      assert.deepEqual(new IdentityMap(map).list(), [257, 65_535], 'nothing of it was written');
    } finally {
      map.close();
    }
  });

  test('privileged: maps that do not exist are undefined, not an error', () => {
    assert.equal(BpfMap.openId('gone', 0xfffffff0), undefined);
    assert.equal(BpfMap.openPinned('gone', '/sys/fs/bpf/gone'), undefined);
  });
}

function entry(identity: number, rest: Partial<PolicyEntry> = {}): PolicyEntry {
  const key = { identity, egress: false, protocol: 6, port: 80, bits: 24 };
  return { ...key, deny: false, proxyPort: 0, precedence: 0xffffff01, cookie: 0, ...rest };
}

function testPolicySlots(): void {
  test('privileged: a slot starts empty, takes changes in place and shows them', async () => {
    const outer = createPolicyOuter(16);
    const slots = new PolicySlots(outer, silentLogger);
    assert.throws(() => slots.acquire(), /adopted/);
    slots.adopt([]);
    await slots.prepare(4);
    const slot = slots.acquire();
    assert.notEqual(slot, 0);
    assert.deepEqual(slots.entries(slot), []);
    const anyPort = entry(300, { port: 0, bits: 8 });
    slots.apply(slot, { upserts: [entry(300), entry(301, { deny: true })], deletes: [] });
    slots.apply(slot, { upserts: [anyPort, entry(300, { cookie: 9 })], deletes: [entry(301), entry(999)] });
    const byBits = slots.entries(slot).sort((a, b) => a.bits - b.bits);
    assert.deepEqual(byBits, [anyPort, entry(300, { cookie: 9 })]);
    await slots.close();
    outer.close();
  });

  test('privileged: changes that do not fit change nothing, and overwriting takes no room', async () => {
    const outer = createPolicyOuter(16, 3);
    const slots = new PolicySlots(outer, silentLogger, 3);
    slots.adopt([]);
    await slots.prepare(1);
    const slot = slots.acquire();
    slots.apply(slot, { upserts: [entry(1), entry(2)], deletes: [] });
    const before = slots.entries(slot);
    const tooMuch = { upserts: [entry(1, { cookie: 1 }), entry(3), entry(4)], deletes: [entry(2)] };
    assert.throws(
      () => slots.apply(slot, tooMuch),
      (error) => isCiliumError(error, 'MapFull') && error.message === 'policy has 4 entries, 3 fit',
    );
    assert.deepEqual(slots.entries(slot), before);
    slots.apply(slot, { upserts: [entry(1, { cookie: 5 }), entry(2), entry(3)], deletes: [entry(2)] });
    slots.apply(slot, { upserts: [entry(4)], deletes: [] });
    assert.equal(slots.entries(slot).length, 3);
    await slots.close();
    outer.close();
  });

  test('privileged: when the kernel refuses an entry, those before it are taken back', async () => {
    const outer = createPolicyOuter(16, 3);
    const small = new PolicySlots(outer, silentLogger, 3);
    small.adopt([]);
    await small.prepare(1);
    const slot = small.acquire();
    small.apply(slot, { upserts: [entry(1), entry(2)], deletes: [] });
    await small.close();
    // The slot of an agent whose maps were smaller.
    const slots = new PolicySlots(outer, silentLogger, 100);
    slots.adopt([slot]);
    const before = slots.entries(slot);
    const upserts = [entry(2, { deny: true, cookie: 9 }), entry(3), entry(4), entry(1, { cookie: 8 })];
    assert.throws(
      () => slots.apply(slot, { upserts, deletes: [entry(1)] }),
      (error) => isCiliumError(error, 'MapFull'),
    );
    assert.deepEqual(slots.entries(slot), before);
    slots.apply(slot, { upserts: [entry(3)], deletes: [entry(1)] });
    assert.deepEqual(slots.entries(slot).length, 2);
    await slots.close();
    outer.close();
  });

  test('privileged: a released slot comes back empty, and no more spares are kept than wanted', async () => {
    const outer = createPolicyOuter(64);
    const slots = new PolicySlots(outer, silentLogger);
    slots.adopt([]);
    await slots.prepare(8);
    const start = slots.counts();
    for (let round = 0; round < 3; round++) {
      const taken = Array.from({ length: 8 }, () => slots.acquire());
      await slots.settle();
      taken.push(...Array.from({ length: 8 }, () => slots.acquire()));
      assert.equal(new Set(taken).size, 16);
      for (const slot of taken) {
        assert.deepEqual(slots.entries(slot), [], `slot ${slot} is empty`);
        slots.apply(slot, { upserts: Array.from({ length: slot * 20 }, (_, i) => entry(i + 1)), deletes: [] });
      }
      for (const slot of taken) slots.release(slot);
      await slots.settle();
      assert.deepEqual(slots.counts(), start);
      assert.equal([...outer.entries()].length, 8);
    }
    assert.throws(
      () => slots.release(5000),
      (error) => isCiliumError(error, 'NotFound'),
    );
    await slots.close();
    outer.close();
  });

  test('privileged: without a spare, acquire throws MapFull', async () => {
    const outer = createPolicyOuter(4);
    const slots = new PolicySlots(outer, silentLogger);
    slots.adopt([]);
    await slots.prepare(10);
    assert.deepEqual(slots.counts(), { used: 0, spare: 3, free: 0 });
    for (let i = 0; i < 3; i++) slots.acquire();
    assert.throws(
      () => slots.acquire(),
      (error) => isCiliumError(error, 'MapFull'),
    );
    await slots.close();
    outer.close();
  });

  test('privileged: another agent adopts the slots in use with their entries and empties the rest', async () => {
    const outer = createPolicyOuter(16);
    const before = new PolicySlots(outer, silentLogger);
    before.adopt([]);
    await before.prepare(4);
    const [kept, dead] = [before.acquire(), before.acquire()];
    before.apply(kept, { upserts: [entry(1)], deletes: [] });
    before.apply(dead, { upserts: [entry(2)], deletes: [] });
    await before.close();

    const now = new PolicySlots(outer, silentLogger);
    now.adopt([kept, 15]);
    await now.prepare(4);
    assert.deepEqual(now.entries(kept), [entry(1)]);
    assert.deepEqual(now.entries(15), [], 'a slot that was lost is there again, empty');
    assert.deepEqual(now.counts(), { used: 2, spare: 4, free: 9 });
    assert.equal([...outer.entries()].length, 6);
    for (let i = 0; i < 4; i++) assert.deepEqual(now.entries(now.acquire()), []);
    now.retain(new Set([kept]));
    await now.settle();
    assert.deepEqual(now.counts(), { used: 1, spare: 4, free: 10 });
    assert.deepEqual(now.entries(kept), [entry(1)]);
    await now.close();
    outer.close();
  });
}

function flowMaps(family: 4 | 6): FlowMaps {
  const lru = (keySize: number, valueSize: number): BpfMap =>
    BpfMap.create('flows', { type: MAP_TYPE.lruHash, keySize, valueSize, maxEntries: 4096, flags: 0 });
  return family === 4
    ? { tcp: lru(16, 24), any: lru(16, 24), snat: lru(16, 12), fragments: lru(12, 4) }
    : { tcp: lru(40, 24), any: lru(40, 24), snat: lru(40, 24), fragments: lru(40, 4) };
}

function testFlows(): void {
  const container = IpAddress.parse('10.1.0.5');
  const remote = IpAddress.parse('9.9.9.9');
  const node = IpAddress.parse('192.168.1.1');

  /** A connection of `from` to the remote, masqueraded, with both masquerade entries. */
  function addFlow(maps: FlowMaps, from: IpAddress, port: number, expires: number): void {
    const flow = { protocol: 6, initiator: from, initiatorPort: port, responder: remote, responderPort: 443 };
    const entry = {
      ...flow,
      expires,
      flags: ct.initiatorIsLower(flow) ? ct.CT_F_LOWER_STARTED : 0,
      proxyPort: 0,
      initiatorIdentity: 300,
      initiatorReport: 0,
      responderReport: 0,
      initiatorTcpFlags: 2,
      responderTcpFlags: 0,
    };
    maps.tcp.update(ct.encodeConntrackKey(flow), ct.encodeConntrackEntry(entry));
    const forward = {
      direction: snat.SNAT_FORWARD,
      protocol: 6,
      source: from,
      sourcePort: port,
      destination: remote,
      destinationPort: 443,
      to: node,
      toPort: 61_000 + port,
      created: 1,
    };
    const reply = { ...snat.oppositeSnatKey(forward), to: from, toPort: port, created: 1 };
    for (const each of [forward, reply]) maps.snat.update(snat.encodeSnatKey(each), snat.encodeSnatEntry(each));
  }

  function withFlows(name: string, body: (flows: ConntrackMaps, maps: Record<4 | 6, FlowMaps>) => Promise<void>): void {
    test(`privileged: ${name}`, async () => {
      const maps = { 4: flowMaps(4), 6: flowMaps(6) };
      try {
        await body(new ConntrackMaps(maps), maps);
      } finally {
        for (const family of [4, 6] as const) for (const map of Object.values(maps[family]) as BpfMap[]) map.close();
      }
    });
  }

  withFlows('collection takes what is over, and its masquerading with it', async (flows, maps) => {
    for (let port = 1; port <= 1500; port++) addFlow(maps[4], container, port, port <= 1000 ? 50 : 500);
    assert.equal(flows.entries().length, 1500);
    assert.equal(flows.snatEntries().length, 3000);
    const collected = await flows.collect(100);
    assert.deepEqual(collected, { conntrack: 1000, snat: 2000, alive: 500 });
    assert.ok(
      flows.entries().every(({ initiatorPort, initiator }) => initiatorPort > 1000 && initiator.equals(container)),
    );
    assert.deepEqual(await flows.collect(100), { conntrack: 0, snat: 0, alive: 500 });
  });

  withFlows('an address that changes hands takes all its flows along, and only its own', async (flows, maps) => {
    const other = IpAddress.parse('10.1.0.6');
    addFlow(maps[4], container, 1, 500);
    addFlow(maps[4], other, 2, 500);
    maps[4].fragments.update(Buffer.from(`0a0100050909090912341100`, 'hex'), Buffer.alloc(4));
    assert.equal(await flows.purgeAddresses([container]), 4);
    assert.equal(flows.entries().length, 1);
    assert.equal(flows.snatEntries().length, 2);
    assert.equal(await flows.purgeAddresses([IpAddress.parse('fd00::5')]), 0);
    assert.equal(await flows.flush(), 3);
    assert.deepEqual(flows.entries(), []);
  });
}

function testLinks(): void {
  const mac = (last: number): MacAddress => new MacAddress(Uint8Array.of(2, 0, 0, 0, 0, last));
  const pair = { hostName: 'lxcdp1', peerName: 'tmpdp1', hostMac: mac(1), peerMac: mac(2), mtu: 1400 };

  async function withLinks(body: (links: Links, attached: number[]) => Promise<void> | void): Promise<void> {
    const attached: number[] = [];
    const links = new Links((ifindex) => void attached.push(ifindex));
    try {
      await body(links, attached);
    } finally {
      await links.deleteLink(pair.hostName);
      await links.close();
    }
  }

  test('privileged: a veth pair is as asked for, host side up with its programs, peer down', () =>
    withLinks(async (links, attached) => {
      const { hostIfindex, peerIfindex } = links.createVeth({ ...pair, alias: 'container x' });
      assert.deepEqual(attached, [hostIfindex]);
      const host = {
        ifindex: hostIfindex,
        name: pair.hostName,
        mtu: 1400,
        up: true,
        alias: 'container x',
        kind: 'veth',
      };
      assert.deepEqual(links.getLink(pair.hostName), { ...host, mac: pair.hostMac });
      const peer = { ifindex: peerIfindex, name: pair.peerName, mtu: 1400, up: false, alias: '', kind: 'veth' };
      assert.deepEqual(links.getLink(pair.peerName), { ...peer, mac: pair.peerMac });
      run('ip', 'link', 'set', pair.peerName, 'up');
      assert.deepEqual(links.listAddresses(hostIfindex), [], 'the kernel made no link-local address');
      assert.throws(
        () => links.createVeth(pair),
        (error) => isErrno(error, 'EEXIST'),
      );
      assert.equal(await links.deleteLink(pair.hostName), true);
      assert.equal(await links.deleteLink(pair.hostName), false);
      assert.equal(links.getLink(pair.peerName), undefined);
    }));

  test('privileged: a pair whose programs cannot be attached does not stay behind', async () => {
    const links = new Links(() => {
      throw new Error('no program');
    });
    assert.throws(() => links.createVeth(pair), /no program/);
    await links.close();
    assert.ok(!run('ip', '-o', 'link').includes(pair.hostName));
  });

  test('privileged: addresses and routes come, are listed, and go; doing it twice is no error', () =>
    withLinks((links) => {
      const { hostIfindex: ifindex } = links.createVeth(pair);
      for (const [address, prefix] of [
        ['10.77.0.1', '10.77.0.0/16'],
        ['fd77::1', 'fd77::/64'],
      ] as const) {
        const [source, route] = [IpAddress.parse(address), { prefix: Prefix.parse(prefix), ifindex }];
        const count = (): number[] => [
          links.listAddresses(ifindex).filter((each) => each.address.equals(source)).length,
          links.listRoutes().filter((each) => each.prefix.equals(route.prefix) && each.protocol === 133).length,
        ];
        assert.equal(links.addAddress(ifindex, source), true);
        assert.equal(links.addAddress(ifindex, source), false);
        assert.equal(links.addRoute({ ...route, source }), true);
        assert.equal(links.addRoute({ ...route, source }), false);
        assert.deepEqual(count(), [1, 1]);
        const shown = run('ip', address.includes(':') ? '-6' : '-4', '-d', 'route', 'show', prefix);
        assert.match(shown, /scope global/);
        assert.equal(links.deleteRoute(route), true);
        assert.equal(links.deleteRoute(route), false);
        assert.equal(links.deleteAddress(ifindex, source), true);
        assert.equal(links.deleteAddress(ifindex, source), false);
        assert.deepEqual(count(), [0, 0]);
      }
    }));

  test("privileged: the kernel's own words are in the error", () =>
    withLinks((links) => {
      const { hostIfindex, peerIfindex } = links.createVeth(pair);
      links.change(peerIfindex, { up: true });
      const gateway = IpAddress.parse('203.0.113.9');
      assert.throws(
        () => links.addRoute({ prefix: Prefix.parse('10.78.0.0/16'), ifindex: hostIfindex, gateway }),
        (error) => isErrno(error, 'ENETUNREACH') && error.message.includes('(Nexthop has invalid gateway)'),
      );
      assert.throws(
        () => links.addAddress(9999, IpAddress.parse('10.0.0.1')),
        (error) => isErrno(error, 'ENODEV'),
      );
    }));

  test('privileged: changes of addresses are told', () =>
    withLinks(async (links) => {
      const { hostIfindex } = links.createVeth(pair);
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const subscription = links.onAddressChange(() => resolve(undefined));
      links.addAddress(hostIfindex, IpAddress.parse('10.79.0.1'));
      // The subscription does not keep the process alive, so something else has to.
      const keepAlive = setInterval(() => undefined, 1000);
      await promise;
      clearInterval(keepAlive);
      subscription.close();
    }));
}
