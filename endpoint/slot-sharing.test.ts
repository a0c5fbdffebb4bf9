// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { SharingWorld } from './fake/sharing-world.ts';

const A = 1001;
const B = 1002;
const C = 1003;

test('identities that the same rules select share a slot, which is written once', () => {
  const world = new SharingWorld();
  world.join(A, B, C);
  world.allow('all', 80);
  assert.equal(new Set(world.slotsOf(A, B, C)).size, 1);
  assert.equal(world.slots.contents.size, 1);
  world.allow('all', ...world.ports(200));
  assert.equal(new Set(world.slotsOf(A, B, C)).size, 1);
  assert.equal(world.slots.contents.size, 2, 'a large change takes one spare for all');
  world.assertInForce();
});

test('one that a rule tells apart gets a slot of its own, and the others keep theirs', () => {
  const world = new SharingWorld();
  world.join(A, B, C);
  const [shared] = world.slotsOf(A);
  world.allow(B, 80);
  assert.deepEqual(world.slotsOf(A, C), [shared, shared]);
  assert.notEqual(world.slotsOf(B)[0], shared);
  world.assertInForce();
  world.allow(B, 81);
  world.allow(A, 82);
  world.assertInForce();
});

test('those that become alike share again, and the slot that nobody uses is given back', () => {
  const world = new SharingWorld();
  world.join(A, B);
  world.allow(A, 80);
  const [, shared] = world.slotsOf(A, B);
  const own = world.slotsOf(A)[0]!;
  world.deleteRules(A);
  const after = world.slotsOf(A, B);
  assert.equal(new Set(after).size, 1);
  assert.deepEqual(
    world.slots.released,
    [own, shared].filter((slot) => !after.includes(slot!)),
  );
  world.assertInForce();
});

test('the slot goes with its last user', () => {
  const world = new SharingWorld();
  world.join(A, B);
  const [slot] = world.slotsOf(A);
  world.leave(A);
  assert.deepEqual(world.slots.released, []);
  world.leave(B);
  assert.deepEqual(world.slots.released, [slot]);
});

test('who parts when there is no spare keeps the policy it had until there is one, without an error', () => {
  const world = new SharingWorld();
  world.slots.moreCome = true;
  world.join(A, B);
  world.slots.spares = 0;
  const before = world.contentOf(B);
  world.allow(B, 80);
  world.allow(A, 81);
  const [a, b] = [world.realizer.get(A)!, world.realizer.get(B)!];
  assert.deepEqual(world.contentOf(B), before);
  assert.deepEqual([b.error, b.revision < world.repository.revision], [undefined, true]);
  assert.deepEqual([a.error, a.revision < world.repository.revision], [undefined, true], 'B still uses the slot of A');
  assert.ok(world.realizer.isWaiting);
  world.slots.spares = 5;
  world.realizer.sync();
  assert.ok(!world.realizer.isWaiting);
  assert.deepEqual([a.revision, b.revision], [world.repository.revision, world.repository.revision]);
  world.assertInForce();
});

test('a policy that has more entries than fit takes no slot, and is in force as soon as it fits', () => {
  const world = new SharingWorld();
  world.slots.maxEntries = 10;
  world.join(A, B);
  world.allow(B, 80);
  const slots = world.slotsOf(A, B);
  const before = world.contentOf(B);
  world.allow(B, ...world.ports(20));
  const b = world.realizer.get(B)!;
  assert.match(b.error ?? '', /^the policy needs 2\d map entries, and 10 fit; use /);
  assert.ok(b.revision < world.repository.revision);
  assert.deepEqual(world.contentOf(B), before);
  assert.deepEqual(world.slotsOf(A, B), slots);
  assert.equal(world.realizer.get(A)!.revision, world.repository.revision);
  const made = world.slots.contents.size;
  world.realizer.sync();
  assert.equal(world.slots.contents.size, made, 'nothing is tried again while nothing has changed');
  world.deleteRules(B);
  world.allow(B, 81);
  assert.deepEqual([b.error, b.revision], [undefined, world.repository.revision]);
  world.assertInForce();
});

test('after a restart a shared slot is shared again, without a write when nothing has changed', () => {
  const world = new SharingWorld();
  world.join(A, B);
  const slot = world.slots.make([...world.repository.entries(world.id(A))]);
  const restarted = world.restart();
  restarted.realizer.expect([A, B].map((identity) => ({ identity, slot })));
  restarted.slots.apply = () => assert.fail('nothing is to be written');
  assert.deepEqual(
    [A, B].map((identity) => restarted.adopt(identity, slot)),
    [slot, slot],
  );
  restarted.realizer.adopted();
  restarted.assertInForce();
});

test('after a restart nothing is written in place for one while another that names the slot is not adopted yet', () => {
  const world = new SharingWorld();
  const slot = world.slots.make();
  const restarted = world.restart();
  restarted.know(A, B);
  restarted.allow(A, 80);
  restarted.realizer.expect([A, B].map((identity) => ({ identity, slot })));
  assert.notEqual(restarted.adopt(A, slot), slot);
  assert.deepEqual(restarted.slots.entries(slot), [], 'B is still judged by it');
  assert.equal(restarted.adopt(B, slot), slot);
  restarted.realizer.adopted();
  restarted.assertInForce();
});

test('records that cannot be moved together are moved back, each to the slot it had', () => {
  const world = new SharingWorld();
  world.join(A, B);
  world.allow(B, 80);
  const [a, b] = world.slotsOf(A, B);
  const moves: [number[], number][] = [];
  world.realizer.onSlotChange((identities, slot) => {
    moves.push([[...identities], slot]);
    if (slot !== a && slot !== b) throw new CiliumError('System', 'no memory');
  });
  world.allow('all', ...world.ports(200));
  assert.deepEqual(world.slotsOf(A, B), [a, b]);
  assert.deepEqual(
    moves.filter(([, slot]) => slot === a || slot === b),
    [
      [[A], a],
      [[B], b],
    ],
  );
  world.assertInForce();
});
