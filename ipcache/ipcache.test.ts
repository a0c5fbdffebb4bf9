// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IpAddress, Prefix } from '../net/ip.ts';
import { Ipcache, IPCACHE_SOURCES, sameEntry, type IpcacheChange, type IpcacheEntry } from './ipcache.ts';

const P = Prefix.parse('10.15.0.7/32');
const NODE2 = IpAddress.parse('192.168.60.12');

test('the longest prefix counts, in both families', () => {
  const cache = new Ipcache();
  for (const [prefix, identity] of [
    ['0.0.0.0/0', 2],
    ['10.0.0.0/8', 100],
    ['10.15.0.7/32', 300],
    ['::/0', 9],
    ['fd15::/64', 101],
  ] as const) {
    cache.upsert(Prefix.parse(prefix), { identity }, 'generated');
  }
  for (const [address, identity] of [
    ['10.15.0.7', 300],
    ['10.15.0.8', 100],
    ['11.0.0.1', 2],
    ['fd15::1', 101],
    ['fd16::1', 9],
  ] as const) {
    assert.equal(cache.lookup(IpAddress.parse(address))?.entry.identity, identity, address);
  }
  assert.deepEqual(
    [...cache.entries()].map(({ prefix }) => prefix.toString()),
    ['0.0.0.0/0', '10.0.0.0/8', '10.15.0.7/32', '::/0', 'fd15::/64'],
  );
});

test('the stronger source is heard; when it falls silent the weaker one is heard again', () => {
  const cache = new Ipcache();
  const changes: IpcacheChange[] = [];
  cache.onChange((change) => changes.push(change));
  cache.upsert(P, { identity: 1 }, 'agent-local');
  cache.upsert(P, { identity: 2, tunnelEndpoint: NODE2 }, 'kvstore');
  cache.upsert(P, { identity: 3 }, 'generated');
  assert.deepEqual(cache.get(P), { prefix: P, entry: { identity: 1 }, source: 'agent-local' });
  cache.delete(P, 'agent-local');
  assert.equal(cache.get(P)?.source, 'kvstore');
  cache.delete(P, 'generated');
  cache.delete(P, 'kvstore');
  cache.delete(P, 'kvstore');
  assert.equal(cache.get(P), undefined);
  assert.equal(cache.size, 0);
  assert.deepEqual(
    changes.map(({ old, entry }) => [old?.identity, entry?.identity]),
    [
      [undefined, 1],
      [1, 2],
      [2, undefined],
    ],
  );
});

test('of one source the last word counts, and a repeated one is no change', () => {
  const cache = new Ipcache();
  let changes = 0;
  const unsubscribe = cache.onChange(() => changes++);
  const voice = cache.as('kvstore');
  voice.upsert(P, { identity: 1, tunnelEndpoint: NODE2 });
  voice.upsert(P, { identity: 1, tunnelEndpoint: IpAddress.parse('192.168.60.12') });
  assert.equal(changes, 1);
  voice.upsert(P, { identity: 1 });
  voice.upsert(P, { identity: 2 });
  voice.delete(P);
  assert.equal(changes, 4);
  unsubscribe();
  voice.upsert(P, { identity: 3 });
  assert.equal(changes, 4);
});

test('where a range is closed until its addresses are known, no rule makes them a CIDR', () => {
  const cache = new Ipcache();
  const changes: string[] = [];
  cache.onChange(({ prefix, old, entry }) => {
    changes.push(`${prefix.toString()} ${old?.identity ?? '-'}>${entry?.identity ?? '-'}`);
  });
  const of = (text: string): number | undefined => cache.lookup(IpAddress.parse(text))?.entry.identity;
  const range = Prefix.parse('10.12.0.0/16');
  cache.upsert(Prefix.parse('0.0.0.0/0'), { identity: 9 }, 'agent-local');
  cache.upsert(Prefix.parse('10.0.0.0/8'), { identity: 100 }, 'generated');
  cache.upsert(Prefix.parse('10.12.1.0/24'), { identity: 101 }, 'generated');
  cache.upsert(Prefix.parse('10.12.1.1/32'), { identity: 102 }, 'generated');
  changes.length = 0;
  cache.upsert(range, { identity: 0, tunnelEndpoint: NODE2 }, 'cluster');
  assert.deepEqual(changes, ['10.12.0.0/16 ->0', '10.12.1.0/24 101>-', '10.12.1.1/32 102>-']);
  assert.deepEqual([of('10.12.1.1'), of('10.12.1.2'), of('10.13.0.1')], [0, 0, 100]);
  cache.upsert(Prefix.parse('10.12.2.2/32'), { identity: 103 }, 'generated');
  assert.equal(of('10.12.2.2'), 0);
  cache.upsert(Prefix.parse('10.12.1.1/32'), { identity: 300, tunnelEndpoint: NODE2 }, 'kvstore');
  assert.equal(of('10.12.1.1'), 300);
  cache.delete(Prefix.parse('10.12.1.1/32'), 'kvstore');
  assert.equal(of('10.12.1.1'), 0);
  assert.equal([...cache.entries()].length, 3);
  changes.length = 0;
  cache.delete(range, 'cluster');
  assert.deepEqual(changes.sort(), [
    '10.12.0.0/16 0>-',
    '10.12.1.0/24 ->101',
    '10.12.1.1/32 ->102',
    '10.12.2.2/32 ->103',
  ]);
  assert.equal(of('10.12.1.2'), 101);
});

test('entries that differ only in how they are reached are not the same', () => {
  const cache = new Ipcache();
  let changes = 0;
  cache.onChange(() => changes++);
  cache.upsert(P, { identity: 1, tunnelEndpoint: NODE2 }, 'kvstore');
  cache.upsert(P, { identity: 1, tunnelEndpoint: NODE2, skipTunnel: false }, 'kvstore');
  assert.equal(changes, 1);
  cache.upsert(P, { identity: 1, tunnelEndpoint: NODE2, skipTunnel: true }, 'kvstore');
  assert.equal(changes, 2);
});

test('in whatever order sources speak, the same is heard, and the changes add up to it', () => {
  const prefixes = ['10.0.0.0/8', '10.15.0.0/16', '10.15.0.7/32', 'fd15::/64'].map((text) => Prefix.parse(text));
  const word = fc.record({
    prefix: fc.constantFrom(...prefixes),
    source: fc.constantFrom(...IPCACHE_SOURCES),
    entry: fc.option(fc.record({ identity: fc.integer({ min: 0, max: 3 }) }), { nil: undefined }),
  });
  const say = (cache: Ipcache, { prefix, source, entry }: { prefix: Prefix; source: never; entry?: IpcacheEntry }) => {
    if (entry === undefined) cache.delete(prefix, source);
    else cache.upsert(prefix, entry, source);
  };
  const image = (cache: Ipcache): string[] =>
    [...cache.entries()].map(({ prefix, entry, source }) => `${prefix.toString()} ${entry.identity} ${source}`);
  fc.assert(
    fc.property(fc.array(word, { maxLength: 40 }), fc.infiniteStream(fc.nat()), (words, random) => {
      const cache = new Ipcache();
      const replica = new Map<string, IpcacheEntry>();
      cache.onChange(({ prefix, old, entry }) => {
        assert.ok(sameEntry(replica.get(prefix.toString()), old));
        if (entry === undefined) replica.delete(prefix.toString());
        else replica.set(prefix.toString(), entry);
      });
      for (const one of words) say(cache, one as never);
      // The last words of each source, without what was said before, in another order.
      const last = new Map(words.map((one) => [`${one.prefix.toString()} ${one.source}`, one]));
      const shuffled = [...last.values()]
        .map((one) => ({ one, at: random.next().value as number }))
        .sort((a, b) => a.at - b.at);
      const other = new Ipcache();
      for (const { one } of shuffled) say(other, one as never);
      assert.deepEqual(image(cache), image(other));
      assert.equal([...cache.records()].length, replica.size);
      for (const { prefix, entry } of cache.entries()) assert.ok(sameEntry(replica.get(prefix.toString()), entry));
    }),
  );
});
