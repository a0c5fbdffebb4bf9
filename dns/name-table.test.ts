// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '../net/ip.ts';
import { mayBeContainer, NameTable } from './name-table.ts';
import { addressOfReverseName } from './reverse-name.ts';

const A1 = IpAddress.parse('10.1.0.1');
const A2 = IpAddress.parse('10.2.0.1');
const A3 = IpAddress.parse('fd15::3');

function texts(addresses: readonly IpAddress[] | undefined): string[] | undefined {
  return addresses?.map(String);
}

test('a name is known on its own network only', () => {
  const table = new NameTable();
  table.set({ address: A1, names: ['App1', 'web'], network: 'net1' });
  assert.deepEqual(texts(table.lookup('app1', ['net1'])), ['10.1.0.1']);
  assert.deepEqual(texts(table.lookup('web', ['other', 'net1'])), ['10.1.0.1']);
  assert.equal(table.lookup('web', ['other']), undefined);
  assert.equal(table.lookup('web', []), undefined);
});

test('"name.network" says which network is meant, whatever the case of its name', () => {
  const table = new NameTable();
  table.set({ address: A1, names: ['db'], network: 'net1' });
  table.set({ address: A2, names: ['db', 'db.internal'], network: 'My.Net' });
  assert.deepEqual(texts(table.lookup('db', ['net1', 'My.Net'])), ['10.1.0.1'], 'the first network that has it');
  assert.deepEqual(texts(table.lookup('db.my.net', ['net1', 'My.Net'])), ['10.2.0.1']);
  assert.equal(table.lookup('db.my.net', ['net1']), undefined, 'not on that network');
  assert.deepEqual(texts(table.lookup('db.internal', ['My.Net'])), ['10.2.0.1'], 'an alias may have dots');
});

test('several containers share an alias until the last has gone', () => {
  const table = new NameTable();
  table.set({ address: A1, names: ['web1', 'web'], network: 'net' });
  table.set({ address: A2, names: ['web2', 'web'], network: 'net' });
  table.set({ address: A3, names: ['web2', 'web'], network: 'net' });
  assert.deepEqual(texts(table.lookup('web', ['net'])), ['10.1.0.1', '10.2.0.1', 'fd15::3']);
  table.delete(A2);
  table.delete(A2);
  assert.deepEqual(texts(table.lookup('web2', ['net'])), ['fd15::3']);
  table.set({ address: A3, names: ['renamed'], network: 'net' });
  assert.equal(table.lookup('web2', ['net']), undefined);
  table.delete(A1);
  assert.equal(table.lookup('web', ['net']), undefined);
  table.delete(A3);
  assert.equal(table.size, 0);
});

test('a container of this node is on all networks of its addresses, the one that asks first', () => {
  const table = new NameTable();
  table.set({ address: A1, names: ['a'], network: 'z', containerId: 'c1' });
  table.set({ address: A3, names: ['a'], network: 'b', containerId: 'c1' });
  table.set({ address: A2, names: ['r'], network: 'z' });
  assert.deepEqual(table.networksOf('10.1.0.1'), ['z', 'b']);
  assert.deepEqual(table.networksOf('fd15::3'), ['b', 'z']);
  assert.equal(table.networksOf('10.2.0.1'), undefined, 'one of another node does not ask here');
  assert.equal(table.networksOf('10.9.9.9'), undefined);
  table.delete(A3);
  assert.deepEqual(table.networksOf('10.1.0.1'), ['z']);
  table.delete(A1);
  assert.equal(table.networksOf('10.1.0.1'), undefined);
});

test('backwards an address is its name and network, for those who are on it', () => {
  const table = new NameTable();
  table.set({ address: A1, names: ['app1', 'web'], network: 'net1' });
  assert.equal(table.nameOf(A1, ['net1']), 'app1.net1');
  assert.equal(table.nameOf(A1, ['net2']), undefined);
  assert.equal(table.nameOf(A2, ['net1']), undefined);
});

test('what others write is taken only as far as it is a name', () => {
  const table = new NameTable();
  const many = Array.from({ length: 100 }, (_unused, index) => `n${index}`);
  table.set({
    address: A1,
    names: ['', '.', 'a b', 'x'.repeat(64), 'a..b', '*', 'ok.', 'gr\u00fcn', ...many],
    network: 'n',
  });
  assert.deepEqual(texts(table.lookup('ok', ['n'])), ['10.1.0.1']);
  assert.equal(table.nameOf(A1, ['n']), 'ok.n');
  for (const name of ['', 'a b', 'x'.repeat(64), '*', 'n99']) assert.equal(table.lookup(name, ['n']), undefined, name);
  table.set({ address: A2, names: ['app2'], network: 'no name of DNS' });
  assert.equal(table.nameOf(A2, ['no name of DNS']), 'app2');
});

test('a table that has forgotten all addresses has forgotten all names', () => {
  const entry = fc.record({
    host: fc.integer({ min: 1, max: 5 }),
    names: fc.array(fc.constantFrom('a', 'b', 'A', 'c.d', '!'), { maxLength: 4 }),
    network: fc.constantFrom('n1', 'n2'),
    containerId: fc.option(fc.constantFrom('c1', 'c2'), { nil: undefined }),
    gone: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 30 }), (steps) => {
      const table = new NameTable();
      const expected = new Map<number, (typeof steps)[number]>();
      for (const step of steps) {
        const address = IpAddress.parse(`10.0.0.${step.host}`);
        if (step.gone) table.delete(address);
        else table.set({ ...step, address });
        if (step.gone) expected.delete(step.host);
        else expected.set(step.host, step);
        for (const network of ['n1', 'n2']) {
          for (const name of ['a', 'b', 'c.d']) {
            const hosts = [...expected.values()].filter(
              (one) => one.network === network && one.names.some((own) => own.toLowerCase() === name),
            );
            const found = table.lookup(name, [network])?.map(String).sort() ?? [];
            assert.deepEqual(found, hosts.map(({ host }) => `10.0.0.${host}`).sort());
          }
        }
        for (const { host, containerId } of expected.values()) {
          assert.equal(table.networksOf(`10.0.0.${host}`) !== undefined, containerId !== undefined);
        }
      }
      assert.equal(table.size, expected.size);
    }),
  );
});

test('names of one label and those that end with a network are asked of containers', () => {
  assert.ok(mayBeContainer('app1', ['net']) && mayBeContainer('app1.net', ['other', 'Net']));
  assert.ok(!mayBeContainer('app1.example', ['net']) && !mayBeContainer('app1', []));
});

for (const [name, address] of [
  ['2.0.1.10.in-addr.arpa', '10.1.0.2'],
  ['0.1.10.in-addr.arpa', undefined],
  ['256.0.1.10.in-addr.arpa', undefined],
  ['02.0.1.10.in-addr.arpa', undefined],
  ['x.0.1.10.in-addr.arpa', undefined],
  [`${'3.0.0.0.'.repeat(1)}${'0.'.repeat(24)}5.1.d.f.ip6.arpa`, 'fd15::3'],
  [`${'0.'.repeat(31)}ip6.arpa`, undefined],
  [`${'g.'.repeat(32)}ip6.arpa`, undefined],
  ['example', undefined],
] as const) {
  test(`${name} is ${address ?? 'no address'}`, () => {
    assert.equal(addressOfReverseName(name)?.toString(), address);
  });
}
