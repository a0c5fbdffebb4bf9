// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpAddress, Prefix } from '../net/ip.ts';
import { ADDRESS_COOLDOWN_MS, Pool } from './pool.ts';

function makePool(prefix: string, range = prefix): Pool {
  return new Pool('test', Prefix.parse(prefix), Prefix.parse(range));
}

/** Leases the next address and answers it as text. */
function take(pool: Pool, nowMs = 0): string | undefined {
  const next = pool.next(nowMs);
  if (!next) return undefined;
  pool.add({ address: next.address, gateway: false, owner: undefined, replayable: false });
  pool.moveCursor(next.cursor);
  return next.address.toString();
}

const capacities: [string, string, number, string | undefined][] = [
  ['10.0.0.0/24', '10.0.0.0/24', 254, '10.0.0.1'],
  ['10.0.0.0/30', '10.0.0.0/30', 2, '10.0.0.1'],
  ['10.0.0.0/31', '10.0.0.0/31', 2, '10.0.0.0'],
  ['10.0.0.9/32', '10.0.0.9/32', 1, '10.0.0.9'],
  ['10.0.0.0/16', '10.0.5.0/24', 256, '10.0.5.0'],
  ['10.0.0.0/16', '10.0.255.0/24', 255, '10.0.255.0'],
  ['10.0.0.0/16', '10.0.0.0/24', 255, '10.0.0.1'],
  ['fd00::/112', 'fd00::/112', 65_535, 'fd00::1'],
  ['fd00::/64', 'fd00::/64', 2 ** 24 - 1, 'fd00::1'],
  ['fd00::/64', 'fd00::5:0/112', 65_536, 'fd00::5:0'],
  ['fd00::/127', 'fd00::/127', 2, 'fd00::'],
];
for (const [prefix, range, capacity, first] of capacities) {
  test(`a pool ${prefix} with the range ${range} holds ${capacity} addresses from ${first}`, () => {
    const pool = makePool(prefix, range);
    assert.equal(pool.capacity, capacity);
    assert.equal(take(pool), first);
  });
}

test('a reserved address is given to nobody, and does not count', () => {
  const router = IpAddress.parse('10.0.0.6');
  const pool = new Pool('space', Prefix.parse('10.0.0.0/29'), undefined, [router, IpAddress.parse('10.9.0.1')]);
  assert.equal(pool.isUsable(router), false);
  assert.equal(pool.capacity, 5);
  const given: string[] = [];
  for (let next = pool.next(0); next !== undefined; next = pool.next(0)) {
    pool.add({ address: next.address, gateway: false, owner: undefined, replayable: false });
    pool.moveCursor(next.cursor);
    given.push(next.address.toString());
  }
  assert.deepEqual(given, ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5']);
  assert.equal(pool.leasedCount, 5);
  assert.equal(pool.lowestFree(), undefined);
});

test('a released address is not the next one', () => {
  const pool = makePool('10.0.0.0/29');
  assert.equal(take(pool), '10.0.0.1');
  pool.remove(IpAddress.parse('10.0.0.1'), 0);
  assert.equal(take(pool), '10.0.0.2');
});

test('addresses come in order and begin again behind the end', () => {
  const pool = makePool('10.0.0.0/29');
  assert.deepEqual(
    Array.from({ length: 7 }, () => take(pool)),
    ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6', undefined],
  );
  pool.remove(IpAddress.parse('10.0.0.2'), 0);
  assert.equal(take(pool, ADDRESS_COOLDOWN_MS), '10.0.0.2');
});

test('while another address is free a released one rests, and rested it is given again', () => {
  const pool = makePool('10.0.0.0/29');
  for (let i = 0; i < 4; i++) take(pool);
  pool.remove(IpAddress.parse('10.0.0.1'), 0);
  assert.equal(take(pool, 1), '10.0.0.5');
  assert.equal(take(pool, 1), '10.0.0.6');
  assert.equal(take(pool, ADDRESS_COOLDOWN_MS), '10.0.0.1');
});

test('when only resting addresses are left the one released longest ago is given', () => {
  const pool = makePool('10.0.0.0/29');
  for (let i = 0; i < 6; i++) take(pool);
  pool.remove(IpAddress.parse('10.0.0.5'), 1);
  pool.remove(IpAddress.parse('10.0.0.2'), 2);
  assert.equal(take(pool, 3), '10.0.0.5');
});

test('an address outside the IP range is leased without counting as one of it', () => {
  const pool = makePool('10.0.0.0/16', '10.0.5.0/30');
  pool.add({ address: IpAddress.parse('10.0.9.9'), gateway: false, owner: undefined, replayable: false });
  assert.equal(pool.leasedCount, 0);
  assert.ok(pool.get(IpAddress.parse('10.0.9.9')));
  pool.remove(IpAddress.parse('10.0.9.9'), 0);
  assert.equal(pool.get(IpAddress.parse('10.0.9.9')), undefined);
});

test('network, broadcast and foreign addresses are not usable', () => {
  const pool = makePool('10.0.0.0/24');
  for (const bad of ['10.0.0.0', '10.0.0.255', '10.0.1.1', 'fd00::1'])
    assert.ok(!pool.isUsable(IpAddress.parse(bad)), bad);
  assert.ok(pool.isUsable(IpAddress.parse('10.0.0.254')));
  const six = makePool('fd00::/120');
  assert.ok(!six.isUsable(IpAddress.parse('fd00::')));
  assert.ok(six.isUsable(IpAddress.parse('fd00::ff')));
});

test('the ID of a pool says all that it takes to make it again', () => {
  assert.equal(makePool('10.0.0.0/16').id, 'test/10.0.0.0/16');
  assert.equal(makePool('10.0.0.0/16', '10.0.5.0/24').id, 'test/10.0.0.0/16/10.0.5.0/24');
});
