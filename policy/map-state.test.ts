// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import {
  L4_ANY,
  l4Key,
  l4Protocol,
  PRECEDENCE_ALLOW,
  PRECEDENCE_DENY,
  redirectPrecedence,
  type L4Key,
} from './map-entry.ts';
import { MapState } from './map-state.ts';
import { ValueTable, type Contributor } from './values.ts';

const TCP = 6;
let lastRule = 0;

function allow(): Contributor {
  return { precedence: PRECEDENCE_ALLOW, proxyPort: 0, ruleId: ++lastRule };
}

function deny(): Contributor {
  return { precedence: PRECEDENCE_DENY, proxyPort: 0, ruleId: ++lastRule };
}

function keys(
  entries: Iterable<{ identity: number; protocol: number; port: number; bits: number; deny?: boolean }>,
): string[] {
  return Array.from(
    entries,
    (e) => `${e.identity} ${e.protocol}/${e.port}/${e.bits}${e.deny === true ? ' deny' : ''}`,
  ).sort();
}

test('an entry appears with its first reason and goes with its last', () => {
  const state = new MapState(new ValueTable());
  const [a, b] = [allow(), allow()];
  state.add(false, 7, l4Key(TCP, 80), a);
  state.add(false, 7, l4Key(TCP, 80), b);
  assert.deepEqual(keys(state.takeChanges().upserts), ['7 6/80/24']);
  state.remove(false, 7, l4Key(TCP, 80), a);
  assert.deepEqual(state.takeChanges().deletes, []);
  state.remove(false, 7, l4Key(TCP, 80), b);
  assert.deepEqual(keys(state.takeChanges().deletes), ['7 6/80/24']);
  assert.equal(state.hasChanges, false);
});

test('what comes and goes between two calls is no change', () => {
  const state = new MapState(new ValueTable());
  const a = allow();
  state.add(true, 7, L4_ANY, a);
  state.remove(true, 7, L4_ANY, a);
  assert.deepEqual(state.takeChanges(), { upserts: [], deletes: [] });
});

test('a deny takes the narrower allows of its trie away and gives them back when it goes', () => {
  const state = new MapState(new ValueTable());
  const no = deny();
  state.add(false, 7, l4Key(TCP, 80), allow());
  state.add(false, 8, l4Key(TCP, 80), allow());
  state.takeChanges();
  state.add(false, 7, l4Protocol(TCP), no);
  const closed = state.takeChanges();
  assert.deepEqual(keys(closed.upserts), ['7 6/0/8 deny']);
  assert.deepEqual(keys(closed.deletes), ['7 6/80/24']);
  state.remove(false, 7, l4Protocol(TCP), no);
  const opened = state.takeChanges();
  assert.deepEqual(keys(opened.upserts), ['7 6/80/24']);
  assert.deepEqual(keys(opened.deletes), ['7 6/0/8']);
});

test('a narrow deny stays beside the allow that covers it', () => {
  const state = new MapState(new ValueTable());
  state.add(false, 7, L4_ANY, allow());
  state.add(false, 7, l4Key(TCP, 22), deny());
  assert.deepEqual(keys(state.entries()), ['7 0/0/0', '7 6/22/24 deny']);
});

test('a wide redirect hides a narrower plain allow, not a narrower deny', () => {
  const state = new MapState(new ValueTable());
  state.add(false, 7, l4Key(TCP, 0x100, 16), { precedence: redirectPrecedence(101), proxyPort: 9000, ruleId: 1 });
  state.add(false, 7, l4Key(TCP, 0x101), allow());
  state.add(false, 7, l4Key(TCP, 0x102), deny());
  assert.deepEqual(keys(state.entries()), ['7 6/256/16', '7 6/258/24 deny']);
});

test('entries for the same reasons share a cookie, others do not', () => {
  const values = new ValueTable();
  const state = new MapState(values);
  const [a, b] = [allow(), allow()];
  const add = (port: number, ...reasons: Contributor[]): void => {
    for (const reason of reasons) state.add(false, 0, l4Key(TCP, port), reason);
  };
  add(1, a);
  add(2, a);
  add(3, b, a);
  add(4, a, b);
  const cookies = new Map(Array.from(state.entries(), ({ port, cookie }) => [port, cookie]));
  assert.equal(cookies.get(1), cookies.get(2));
  assert.equal(cookies.get(3), cookies.get(4));
  assert.notEqual(cookies.get(1), cookies.get(3));
  assert.deepEqual(values.ruleIdsOf(cookies.get(3)!), [a.ruleId, b.ruleId]);
});

test('a cookie is known as long as the kernel may report it', () => {
  const values = new ValueTable();
  const state = new MapState(values);
  const a = allow();
  state.add(false, 0, L4_ANY, a);
  const [entry] = state.takeChanges().upserts;
  state.remove(false, 0, L4_ANY, a);
  assert.deepEqual([...state.entries()], []);
  assert.deepEqual(values.ruleIdsOf(entry!.cookie), [a.ruleId]);
  state.takeChanges();
  assert.deepEqual(values.ruleIdsOf(entry!.cookie), []);
});

test('the strongest reason decides, whatever the order', () => {
  const strong = deny();
  for (const order of [
    [allow(), strong],
    [strong, allow()],
  ]) {
    const state = new MapState(new ValueTable());
    const key: L4Key = l4Key(TCP, 80);
    for (const reason of order) state.add(false, 7, key, reason);
    assert.deepEqual(keys(state.entries()), ['7 6/80/24 deny']);
    state.remove(false, 7, key, strong);
    assert.deepEqual(keys(state.entries()), ['7 6/80/24']);
  }
});
