// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PolicyIdentities } from './policy-identities.ts';

function setUp(kernel: number[] = []): { identities: PolicyIdentities; kernel: Set<number>; told: string[] } {
  const bits = new Set(kernel);
  const told: string[] = [];
  const identities = new PolicyIdentities({
    set: (identity, known) => {
      if (known) bits.add(identity);
      else bits.delete(identity);
    },
    list: () => bits,
  });
  if (kernel.length === 0) identities.open();
  identities.onChange((changed) => {
    for (const id of changed) told.push(`${id} ${identities.has(id) ? 'known' : 'unknown'} kernel=${bits.has(id)}`);
  });
  return { identities, kernel: bits, told };
}

test('an identity has its bit from when the policy maps know it until before they forget it', () => {
  const { identities, kernel, told } = setUp();
  identities.learned(300);
  identities.learned(301);
  assert.deepEqual([...kernel], []);
  assert.ok(!identities.has(300));
  identities.enforced();
  assert.deepEqual([...kernel], [300, 301]);
  identities.enforced();
  assert.deepEqual(told.splice(0), ['300 known kernel=true', '301 known kernel=true']);
  identities.forgotten(300);
  assert.deepEqual([...kernel], [301]);
  assert.deepEqual(told, ['300 unknown kernel=true'], 'addresses are taken away while packets can still be judged');
});

test('one that is forgotten before the policy maps knew it never gets its bit', () => {
  const { identities, kernel, told } = setUp();
  identities.learned(300);
  identities.forgotten(300);
  identities.enforced();
  assert.equal(kernel.size + told.length, 0);
});

test('a number that stands for other labels now is unknown until the policy maps have it as such', () => {
  const { identities, kernel } = setUp();
  identities.learned(300);
  identities.enforced();
  identities.learned(300);
  assert.ok(!identities.has(300));
  assert.equal(kernel.size, 0);
  identities.enforced();
  assert.deepEqual([...kernel], [300]);
});

test('after a restart what is known still keeps its bit all the time, and the rest loses it', () => {
  const { identities, kernel } = setUp([300, 301]);
  identities.learned(300);
  identities.learned(302);
  identities.adopt();
  identities.enforced();
  assert.deepEqual([...kernel], [300], 'maps that are not taken over yet do not know a new one');
  assert.ok(!identities.has(300), 'and may have an old one under other labels');
  identities.open();
  identities.enforced();
  assert.deepEqual([...kernel], [300, 302]);
  assert.ok(identities.has(300));
});

test('reserved identities and those of this node have no bit', () => {
  const { identities, kernel } = setUp();
  for (const id of [1, 2, 255, 65_536, 0x0100_0001]) identities.learned(id);
  identities.enforced();
  assert.equal(kernel.size, 0);
});
