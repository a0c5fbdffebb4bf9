// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { IpAddress, Prefix } from './ip.ts';
import { PrefixTrie } from './prefix-trie.ts';

function trieOf(...texts: string[]): PrefixTrie<string> {
  const trie = new PrefixTrie<string>();
  for (const text of texts) trie.set(Prefix.parse(text), text);
  return trie;
}

test('the longest prefix that contains an address is found', () => {
  const trie = trieOf('0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32');
  assert.equal(trie.longest(IpAddress.parse('10.1.2.3')), '10.1.2.3/32');
  assert.equal(trie.longest(IpAddress.parse('10.1.2.4')), '10.1.0.0/16');
  assert.equal(trie.longest(IpAddress.parse('11.0.0.1')), '0.0.0.0/0');
  assert.equal(trie.longest(IpAddress.parse('::1')), undefined);
});

test('the prefixes that contain a prefix come widest first', () => {
  const trie = trieOf('10.0.0.0/8', '10.1.0.0/16', '10.2.0.0/16', '10.1.1.0/24');
  assert.deepEqual([...trie.containing(Prefix.parse('10.1.0.0/16'))], ['10.0.0.0/8', '10.1.0.0/16']);
});

test('the prefixes inside a prefix are found, whether or not it has a value itself', () => {
  const trie = trieOf('10.1.0.0/16', '10.2.0.0/16', '10.1.1.0/24', '192.0.2.0/24', '2001:db8::/32');
  assert.deepEqual([...trie.inside(Prefix.parse('10.0.0.0/8'))], ['10.1.0.0/16', '10.1.1.0/24', '10.2.0.0/16']);
  assert.deepEqual([...trie.inside(Prefix.parse('10.1.0.0/16'))], ['10.1.0.0/16', '10.1.1.0/24']);
  assert.deepEqual([...trie.inside(Prefix.parse('::/0'))], ['2001:db8::/32']);
  assert.deepEqual([...trie.inside(Prefix.parse('10.1.1.128/25'))], []);
});

test('a deleted prefix is gone and its neighbours stay', () => {
  const trie = trieOf('10.0.0.0/8', '10.1.0.0/16', '10.2.0.0/16');
  assert.equal(trie.delete(Prefix.parse('10.0.0.0/8')), true);
  assert.equal(trie.delete(Prefix.parse('10.0.0.0/8')), false);
  assert.equal(trie.delete(Prefix.parse('10.3.0.0/16')), false);
  assert.equal(trie.size, 2);
  assert.equal(trie.longest(IpAddress.parse('10.1.0.1')), '10.1.0.0/16');
  assert.equal(trie.longest(IpAddress.parse('10.9.0.1')), undefined);
});

test('any sequence of updates answers like a plain list of prefixes', () => {
  // Few distinct bits, so that prefixes nest and collide often.
  const prefix = fc
    .tuple(fc.constantFrom<4 | 6>(4, 6), fc.nat(255), fc.nat(255), fc.nat(32))
    .map(([family, a, b, length]) => {
      const bytes = new Uint8Array(family === 4 ? 4 : 16);
      bytes.set([a & 0xc1, b & 0x81, 0, 0]);
      return new Prefix(new IpAddress(bytes), length);
    });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), prefix), { maxLength: 60 }), prefix, (updates, probe) => {
      const trie = new PrefixTrie<string>();
      const list = new Map<string, Prefix>();
      for (const [add, key] of updates) {
        if (add) trie.set(key, key.toString());
        else assert.equal(trie.delete(key), list.has(key.toString()));
        if (add) list.set(key.toString(), key);
        else list.delete(key.toString());
      }
      assert.equal(trie.size, list.size);
      const all = [...list.values()];
      const texts = (wanted: Prefix[]): string[] => wanted.map(String).sort();
      assert.equal(trie.get(probe), list.has(probe.toString()) ? probe.toString() : undefined);
      assert.deepEqual([...trie.containing(probe)].sort(), texts(all.filter((p) => p.contains(probe))));
      assert.deepEqual([...trie.inside(probe)].sort(), texts(all.filter((p) => probe.contains(p))));
    }),
  );
});
