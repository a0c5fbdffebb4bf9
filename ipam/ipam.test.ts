// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isCiliumError, type ErrorCode } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { DRIVER_SPACE, Ipam, LOCAL_SPACE, type IpamOptions } from './ipam.ts';

interface Made {
  ipam: Ipam;
  /** A new process on the same files. */
  again: () => Promise<Ipam>;
  /** How many the journal has. */
  lines: () => number;
  stateDir: string;
}

async function makeIpam(t: TestContext, options: Partial<IpamOptions> = {}): Promise<Made> {
  const stateDir = mkdtempSync(join(tmpdir(), 'drv-'));
  t.after(() => rmSync(stateDir, { recursive: true }));
  const again = async (): Promise<Ipam> => {
    const ipam = new Ipam({
      stateDir,
      ipv4Range: Prefix.parse('10.15.0.0/16'),
      ipv6Range: Prefix.parse('fd15::/64'),
      nodeRanges: () => [],
      clock: new ManualClock(),
      log: silentLogger,
      ...options,
    });
    await ipam.start();
    t.after(() => ipam.stop());
    return ipam;
  };
  const lines = (): number => readFileSync(join(stateDir, 'ipam.jsonl'), 'utf8').split('\n').length - 1;
  return { ipam: await again(), again, lines, stateDir };
}

function poolOf(ipam: Ipam, prefix?: string, range?: string): string {
  return ipam.requestPool({
    space: LOCAL_SPACE,
    family: prefix?.includes(':') === true ? 6 : 4,
    prefix: prefix === undefined ? undefined : Prefix.parse(prefix),
    range: range === undefined ? undefined : Prefix.parse(range),
  }).id;
}

const address = (text: string): IpAddress => IpAddress.parse(text);
const failsWith = (code: ErrorCode, text: string) => (error: unknown) =>
  isCiliumError(error, code) && error.message.includes(text);

test('pools without a subnet are carved from the node ranges, one after the other', async (t) => {
  const { ipam } = await makeIpam(t);
  assert.equal(poolOf(ipam), 'CiliumLocal/10.15.0.0/24');
  assert.equal(poolOf(ipam), 'CiliumLocal/10.15.1.0/24');
  assert.equal(ipam.requestPool({ space: LOCAL_SPACE, family: 6 }).id, 'CiliumLocal/fd15::/112');
  assert.equal(ipam.requestPool({ space: DRIVER_SPACE, family: 6 }).id, 'CiliumDriver/fd15::1:0/112');
});

test('a carved pool avoids explicit pools, ranges of the node and ranges that others name', async (t) => {
  const { ipam } = await makeIpam(t, { nodeRanges: () => [{ prefix: Prefix.parse('10.15.1.1/32'), by: 'the node' }] });
  poolOf(ipam, '10.15.0.128/25');
  ipam.addTakenRanges(() => [{ prefix: Prefix.parse('10.15.2.0/23'), by: 'network x' }]);
  assert.equal(poolOf(ipam), 'CiliumLocal/10.15.4.0/24');
});

test('a subnet may hold parts of other nodes, as long as its own part does not', async (t) => {
  const { ipam } = await makeIpam(t);
  ipam.addTakenRanges(() => [{ prefix: Prefix.parse('10.50.2.0/24'), by: 'node b', elsewhere: true }]);
  assert.throws(() => poolOf(ipam, '10.50.0.0/16'), failsWith('InUse', 'node b: add --ipam-driver cilium'));
  assert.throws(() => poolOf(ipam, '10.50.0.0/16', '10.50.2.128/25'), failsWith('InUse', 'node b'));
  const shared = poolOf(ipam, '10.50.0.0/16', '10.50.1.0/24');
  assert.equal(ipam.partOf(Prefix.parse('10.50.0.0/16')).toString(), '10.50.1.0/24');
  assert.equal(ipam.overlap(Prefix.parse('10.50.0.0/16'), LOCAL_SPACE), undefined);
  assert.equal(ipam.requestAddress(shared, { gateway: true }).toString(), '10.50.1.0');
});

test('what the node has itself in its range is given to nobody', async (t) => {
  const { ipam } = await makeIpam(t, { reserved: () => [address('10.15.0.254'), address('10.15.255.254')] });
  const pool = poolOf(ipam);
  assert.throws(
    () => ipam.requestAddress(pool, { address: address('10.15.0.254') }),
    failsWith('InvalidArgument', 'router'),
  );
  assert.equal(ipam.get(pool)?.capacity, 253);
});

test('a range that has no pool left says what to do', async (t) => {
  const { ipam } = await makeIpam(t, { ipv4Range: Prefix.parse('10.15.0.0/23'), ipv6Range: undefined });
  poolOf(ipam);
  poolOf(ipam);
  assert.throws(() => poolOf(ipam), failsWith('PoolExhausted', 'pass --subnet'));
  assert.throws(() => ipam.requestPool({ space: LOCAL_SPACE, family: 6 }), failsWith('Unsupported', '--ipv6-range'));
});

test('a node range smaller than a pool is one pool', async (t) => {
  const { ipam } = await makeIpam(t, { ipv4Range: Prefix.parse('10.15.0.64/26') });
  assert.equal(poolOf(ipam), 'CiliumLocal/10.15.0.64/26');
});

for (const [name, second] of [
  ['the same', '10.20.0.0/16'],
  ['one inside', '10.20.5.0/24'],
  ['one around', '10.0.0.0/8'],
] as const) {
  test(`of two pools that overlap the second is refused: ${name}`, async (t) => {
    const { ipam } = await makeIpam(t);
    poolOf(ipam, '10.20.0.0/16');
    assert.throws(() => poolOf(ipam, second), failsWith('InUse', 'choose another --subnet'));
  });
}

test('a pool that overlaps a range of the node is refused by name', async (t) => {
  const { ipam } = await makeIpam(t, {
    nodeRanges: () => [{ prefix: Prefix.parse('192.168.1.0/24'), by: 'device eth0' }],
  });
  assert.throws(() => poolOf(ipam, '192.168.0.0/16'), failsWith('InUse', 'device eth0'));
});

test('an IP range outside its subnet is refused', async (t) => {
  const { ipam } = await makeIpam(t);
  assert.throws(() => poolOf(ipam, '10.20.0.0/16', '10.21.0.0/24'), failsWith('InvalidArgument', 'IP range'));
});

test('the gateway is the first address, of the IP range if there is one, and containers follow', async (t) => {
  const { ipam } = await makeIpam(t);
  const whole = poolOf(ipam, '10.20.0.0/24');
  assert.equal(String(ipam.requestAddress(whole, { gateway: true })), '10.20.0.1');
  assert.equal(String(ipam.requestAddress(whole, {})), '10.20.0.2');
  const part = poolOf(ipam, '10.21.0.0/16', '10.21.5.0/24');
  assert.equal(String(ipam.requestAddress(part, { gateway: true })), '10.21.5.0');
  assert.equal(String(ipam.requestAddress(part, {})), '10.21.5.1');
});

test('a gateway asked for by number may lie outside the IP range, and again is the same', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.21.0.0/16', '10.21.5.0/24');
  const wanted = { gateway: true, address: address('10.21.0.254') };
  assert.equal(String(ipam.requestAddress(pool, wanted)), '10.21.0.254');
  assert.equal(String(ipam.requestAddress(pool, wanted)), '10.21.0.254');
  assert.equal(String(ipam.requestAddress(pool, { gateway: true })), '10.21.0.254');
  assert.throws(
    () => ipam.requestAddress(pool, { gateway: true, address: address('10.21.0.1') }),
    failsWith('InUse', '10.21.0.254'),
  );
});

test('an address asked for by number is given once, and does not move where the next comes from', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  assert.equal(String(ipam.requestAddress(pool, { address: address('10.20.0.200') })), '10.20.0.200');
  assert.throws(
    () => ipam.requestAddress(pool, { address: address('10.20.0.200') }),
    failsWith('InUse', 'choose another'),
  );
  assert.equal(String(ipam.requestAddress(pool, {})), '10.20.0.1');
});

for (const [what, wanted, text] of [
  ['outside the pool', '10.21.0.1', 'is not in'],
  ['of the other family', 'fd00::1', 'is not in'],
  ['of the network itself', '10.20.0.0', 'first or last'],
  ['for broadcasts', '10.20.0.255', 'first or last'],
] as const) {
  test(`an address ${what} is refused`, async (t) => {
    const { ipam } = await makeIpam(t);
    const pool = poolOf(ipam, '10.20.0.0/24');
    assert.throws(() => ipam.requestAddress(pool, { address: address(wanted) }), failsWith('InvalidArgument', text));
  });
}

test('the gateway is refused to a container', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam);
  ipam.requestAddress(pool, { gateway: true });
  assert.throws(() => ipam.requestAddress(pool, { address: address('10.15.0.1') }), failsWith('InUse', 'gateway'));
});

test('a full pool says what to do', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/30');
  ipam.requestAddress(pool, { gateway: true });
  ipam.requestAddress(pool, {});
  assert.throws(() => ipam.requestAddress(pool, {}), failsWith('PoolExhausted', 'larger --subnet'));
});

test('an unknown pool says what to do when asked for, and is no error when released', async (t) => {
  const { ipam } = await makeIpam(t);
  assert.throws(() => ipam.requestAddress('CiliumLocal/10.9.0.0/24', {}), failsWith('NotFound', 'restart Docker'));
  ipam.releaseAddress('CiliumLocal/10.9.0.0/24', address('10.9.0.1'));
  ipam.releasePool('CiliumLocal/10.9.0.0/24');
});

test('releasing is idempotent and frees the address and the pool', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  const given = ipam.requestAddress(pool, {});
  ipam.releaseAddress(pool, given);
  ipam.releaseAddress(pool, given);
  assert.equal(String(ipam.requestAddress(pool, { address: given })), given.toString());
  ipam.releasePool(pool);
  ipam.releasePool(pool);
  assert.equal(poolOf(ipam, '10.20.0.0/24'), pool);
  assert.equal(String(ipam.requestAddress(pool, {})), '10.20.0.1');
});

test('an owner has one address in a pool, however often it asks', async (t) => {
  const { ipam } = await makeIpam(t);
  const { id } = ipam.requestPool({ space: DRIVER_SPACE, family: 6 });
  const given = ipam.requestAddress(id, { owner: 'ep1' });
  assert.equal(ipam.requestAddress(id, { owner: 'ep1' }).toString(), given.toString());
  assert.notEqual(ipam.requestAddress(id, { owner: 'ep2' }).toString(), given.toString());
  ipam.releaseOwner(id, 'ep1');
  ipam.releaseOwner(id, 'ep1');
  assert.equal(ipam.get(id)?.leasedCount, 1);
});

test('a new process has the same pools, leases and place to go on', async (t) => {
  const { ipam, again } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  ipam.requestAddress(pool, { gateway: true });
  const released = ipam.requestAddress(pool, {});
  ipam.requestAddress(pool, { address: address('10.20.0.9') });
  ipam.releaseAddress(pool, released);
  const later = await again();
  assert.deepEqual(
    [...later.get(pool)!.leases()].map((lease) => String(lease.address)),
    ['10.20.0.1', '10.20.0.9'],
  );
  assert.equal(String(later.get(pool)?.gateway?.address), '10.20.0.1');
  assert.equal(String(later.requestAddress(pool, {})), '10.20.0.3');
});

test('a journal that cannot be rewritten is appended to', async (t) => {
  const { ipam, again, lines, stateDir } = await makeIpam(t);
  const pool = poolOf(ipam);
  renameSync(stateDir, `${stateDir}-away`); // the open file stays, a new one cannot be made
  const leased = Array.from({ length: 2_500 }, () => {
    const one = ipam.requestAddress(pool, {});
    ipam.releaseAddress(pool, one);
    return one;
  });
  assert.equal(leased.length, 2_500);
  renameSync(`${stateDir}-away`, stateDir);
  assert.ok(lines() > 4_096);
  assert.deepEqual(
    [...(await again()).pools()].map(({ id }) => id),
    [pool],
  );
});

test('the journal is rewritten before it grows without end, and holds the same', async (t) => {
  const { ipam, again, lines } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  ipam.requestAddress(pool, { gateway: true });
  const { id } = ipam.requestPool({ space: DRIVER_SPACE, family: 6 });
  const own = ipam.requestAddress(id, { owner: 'ep1' });
  for (let i = 0; i < 2_500; i++) ipam.releaseAddress(pool, ipam.requestAddress(pool, {}));
  const cursor = ipam.get(pool)!.cursor;
  const later = await again();
  assert.equal(later.get(pool)?.cursor, cursor);
  assert.equal(String(later.get(pool)?.gateway?.address), '10.20.0.1');
  assert.equal(later.requestAddress(id, { owner: 'ep1' }).toString(), own.toString());
  assert.ok(lines() < 1_000, `${lines()} lines`);
});

test('what a restarted Docker held it may ask for once more', async (t) => {
  const { ipam, again } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  const gateway = ipam.requestAddress(pool, { gateway: true });
  const given = ipam.requestAddress(pool, {});
  ipam.dockerStarted();
  const later = await again();
  assert.equal(poolOf(later, '10.20.0.0/24'), pool);
  assert.equal(String(later.requestAddress(pool, { gateway: true, address: gateway })), String(gateway));
  assert.equal(String(later.requestAddress(pool, { address: given })), String(given));
  assert.throws(() => poolOf(later, '10.20.0.0/24'), failsWith('InUse', 'overlaps'));
  assert.throws(() => later.requestAddress(pool, { address: given }), failsWith('InUse', 'in use'));
});

test('a start of Docker frees nothing', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/30');
  ipam.requestAddress(pool, { gateway: true });
  ipam.requestAddress(pool, {});
  ipam.dockerStarted();
  assert.throws(() => ipam.requestAddress(pool, {}), failsWith('PoolExhausted', 'no address is free'));
  assert.throws(() => poolOf(ipam, '10.20.0.0/24'), failsWith('InUse', 'overlaps'));
});

test('collection drops what was unused twice in a row: the IPv4 lease of a container that got no IPv6', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  ipam.requestAddress(pool, { gateway: true });
  const used = ipam.requestAddress(pool, {});
  const leaked = ipam.requestAddress(pool, {});
  const use = { pools: [Prefix.parse('10.20.0.0/24')], addresses: [used] };
  assert.deepEqual(ipam.collect(use), { pools: [], addresses: [] });
  assert.deepEqual(ipam.collect(use).addresses.map(String), [leaked.toString()]);
  assert.deepEqual(
    [...ipam.get(pool)!.leases()].map((lease) => String(lease.address)),
    ['10.20.0.1', '10.20.0.2'],
  );
});

test('what is in use in between is not collected', async (t) => {
  const { ipam } = await makeIpam(t);
  const pool = poolOf(ipam, '10.20.0.0/24');
  const given = ipam.requestAddress(pool, {});
  const pools = [Prefix.parse('10.20.0.0/24')];
  ipam.collect({ pools, addresses: [] });
  ipam.collect({ pools, addresses: [given] });
  assert.deepEqual(ipam.collect({ pools, addresses: [] }).addresses, []);
  assert.ok(ipam.get(pool)?.get(given));
});

test('collection drops a pool whose network never came to be, but none of the driver', async (t) => {
  const { ipam } = await makeIpam(t);
  poolOf(ipam, '10.20.0.0/24');
  ipam.requestPool({ space: DRIVER_SPACE, family: 6 });
  ipam.collect({ pools: [], addresses: [] });
  assert.deepEqual(ipam.collect({ pools: [], addresses: [] }).pools.map(String), ['10.20.0.0/24']);
  assert.deepEqual(
    [...ipam.pools()].map((pool) => pool.space),
    [DRIVER_SPACE],
  );
});
