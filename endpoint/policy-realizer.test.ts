// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { silentLogger } from '../runtime/logger.ts';
import { FakeSlots, textOf } from './fake/slots.ts';
import { difference, type PolicyChanges, type PolicyEntry, type PolicyEntryKey } from './policy-changes.ts';
import { PolicyRealizer } from './policy-realizer.ts';

const SUBJECT = 1000;

function allow(port: number, deny = false): PolicyEntry {
  return { identity: 7, egress: false, protocol: 6, port, bits: 24, deny, proxyPort: 0, precedence: 1, cookie: 0 };
}

class FakePolicy {
  revision = 1;
  wanted = new Map<string, PolicyEntry>();
  readonly subjects = new Set<number>();
  #pending: { policy: object; upserts: PolicyEntry[]; deletes: PolicyEntryKey[] }[] = [];

  addSubject(identity: number): void {
    this.subjects.add(identity);
  }

  removeSubject(identity: number): void {
    this.subjects.delete(identity);
  }

  policyOf(): object {
    return this;
  }

  entries(): PolicyEntry[] {
    return [...this.wanted.values()];
  }

  takeUpdates(): { policy: object; upserts: PolicyEntry[]; deletes: PolicyEntryKey[] }[] {
    return this.#pending.splice(0);
  }

  change(entries: PolicyEntry[]): void {
    const changes = difference(this.wanted.values(), entries);
    this.wanted = new Map(entries.map((entry) => [textOf(entry), entry]));
    this.revision++;
    this.#pending.push({ policy: this, upserts: [...changes.upserts], deletes: [...changes.deletes] });
  }
}

function setUp(): { policy: FakePolicy; slots: FakeSlots; realizer: PolicyRealizer } {
  const policy = new FakePolicy();
  const slots = new FakeSlots();
  return { policy, slots, realizer: new PolicyRealizer(policy, slots, silentLogger) };
}

function ports(count: number): PolicyEntry[] {
  return Array.from({ length: count }, (_, index) => allow(index + 1));
}

test('the first endpoint of an identity fills a slot and the second shares it', () => {
  const { policy, slots, realizer } = setUp();
  policy.change([allow(80)]);
  const first = realizer.acquire(SUBJECT);
  assert.deepEqual(slots.entries(first.slot), [allow(80)]);
  assert.equal(realizer.acquire(SUBJECT).slot, first.slot);
  realizer.release(SUBJECT);
  assert.deepEqual(slots.released, []);
  realizer.release(SUBJECT);
  assert.deepEqual(slots.released, [first.slot]);
  assert.equal(policy.subjects.size, 0);
});

test('a small change is written in place', () => {
  const { policy, slots, realizer } = setUp();
  policy.change([allow(80)]);
  const { slot } = realizer.acquire(SUBJECT);
  policy.change([allow(81)]);
  realizer.sync();
  assert.equal(realizer.get(SUBJECT)?.slot, slot);
  assert.deepEqual(slots.entries(slot), [allow(81)]);
  assert.equal(realizer.get(SUBJECT)?.revision, policy.revision);
});

test('a large change fills a spare slot before the endpoints are pointed at it', () => {
  const { policy, slots, realizer } = setUp();
  const { slot } = realizer.acquire(SUBJECT);
  const seen: { identity: number; entries: number; oldReleased: boolean }[] = [];
  realizer.onSlotChange(([identity], spare) => {
    seen.push({
      identity: identity!,
      entries: slots.entries(spare).length,
      oldReleased: slots.released.includes(slot),
    });
  });
  policy.change(ports(200));
  realizer.sync();
  assert.deepEqual(seen, [{ identity: SUBJECT, entries: 200, oldReleased: false }]);
  assert.deepEqual(slots.released, [slot]);
});

test('a policy that does not fit leaves the last complete one in force and says why', () => {
  const { policy, slots, realizer } = setUp();
  policy.change([allow(80)]);
  const { slot } = realizer.acquire(SUBJECT);
  const before = realizer.get(SUBJECT)!.revision;
  slots.capacity = 3;
  policy.change(ports(5));
  realizer.sync();
  const realized = realizer.get(SUBJECT)!;
  assert.deepEqual(slots.entries(slot), [allow(80)]);
  assert.equal(realized.revision, before);
  assert.match(realized.error ?? '', /no room/);
});

test('after a failure the whole policy is written, not only what changed since', () => {
  const { policy, slots, realizer } = setUp();
  realizer.acquire(SUBJECT);
  slots.capacity = 3;
  policy.change(ports(5));
  realizer.sync();
  policy.change(ports(2));
  realizer.sync();
  const realized = realizer.get(SUBJECT)!;
  assert.equal(realized.error, undefined);
  assert.equal(realized.revision, policy.revision);
  assert.deepEqual(slots.entries(realized.slot), ports(2));
});

test('records that cannot all be moved to a spare slot are moved back before it is given back', () => {
  const { policy, slots, realizer } = setUp();
  const { slot } = realizer.acquire(SUBJECT);
  const moves: { to: number; released: number }[] = [];
  realizer.onSlotChange((_identity, to) => {
    moves.push({ to, released: slots.released.length });
    if (to !== slot) throw new CiliumError('System', 'no memory');
  });
  policy.change(ports(200));
  realizer.sync();
  assert.deepEqual(moves, [
    { to: 2, released: 0 },
    { to: slot, released: 0 },
  ]);
  assert.deepEqual(slots.released, [2]);
  assert.deepEqual(slots.entries(slot), ports(200));
});

test('a large change is written in place when there is no spare slot', () => {
  const { policy, slots, realizer } = setUp();
  const { slot } = realizer.acquire(SUBJECT);
  slots.spares = 0;
  policy.change(ports(200));
  realizer.sync();
  const realized = realizer.get(SUBJECT)!;
  assert.deepEqual([realized.slot, realized.error, realized.revision], [slot, undefined, policy.revision]);
  assert.deepEqual(slots.entries(slot), ports(200));
});

test('a small change goes through a spare slot when old and new entries do not fit together', () => {
  const { policy, slots, realizer } = setUp();
  slots.capacity = 3;
  slots.countsBoth = true;
  policy.change(ports(3));
  const { slot } = realizer.acquire(SUBJECT);
  policy.change([...ports(2), allow(9)]);
  realizer.sync();
  const realized = realizer.get(SUBJECT)!;
  assert.notEqual(realized.slot, slot);
  assert.equal(realized.error, undefined);
  assert.deepEqual(slots.entries(realized.slot), [...ports(2), allow(9)]);
});

test('a new endpoint whose policy does not fit gets none and its slot back', () => {
  const { policy, slots, realizer } = setUp();
  slots.capacity = 1;
  policy.change(ports(2));
  assert.throws(() => realizer.acquire(SUBJECT), /no room/);
  assert.equal(policy.subjects.size, 0);
  assert.deepEqual(slots.released, [1]);
});

test('a slot found after a restart gets only the differences', () => {
  const { policy, slots, realizer } = setUp();
  const slot = slots.make();
  slots.apply(slot, { upserts: [allow(80), allow(81)], deletes: [] });
  policy.change([allow(80), allow(82)]);
  policy.takeUpdates();
  const writes: PolicyChanges[] = [];
  const apply = slots.apply.bind(slots);
  slots.apply = (where, changes) => {
    writes.push(changes);
    apply(where, changes);
  };
  assert.equal(realizer.adopt(SUBJECT, slot).slot, slot);
  assert.deepEqual(writes, [{ upserts: [allow(82)], deletes: [allow(81)] }]);
});

test('a changed verdict under the same key is a change', () => {
  assert.deepEqual(difference([allow(80)], [allow(80, true)]), { upserts: [allow(80, true)], deletes: [] });
  assert.deepEqual(difference([allow(80)], [allow(80)]), { upserts: [], deletes: [] });
});

test('an adopted slot whose new policy does not fit keeps the old one', () => {
  const { policy, slots, realizer } = setUp();
  const slot = slots.make();
  slots.apply(slot, { upserts: [allow(80)], deletes: [] });
  slots.capacity = 1;
  policy.change([allow(80), allow(82)]);
  policy.takeUpdates();
  const realized = realizer.adopt(SUBJECT, slot);
  assert.equal(realized.revision, 0, 'which one the slot holds is not known');
  assert.deepEqual(slots.entries(slot), [allow(80)]);
  assert.deepEqual(slots.released, []);
  assert.match(realized.error ?? '', /no room/);
});
