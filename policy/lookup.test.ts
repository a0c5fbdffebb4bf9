// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { lookupEntry } from './lookup.ts';
import { PRECEDENCE_ALLOW, PRECEDENCE_DENY, type PolicyEntry } from './map-entry.ts';

const PACKET = { identity: 7, egress: false, protocol: 6, port: 80 };

function entry(identity: number, bits: number, precedence = PRECEDENCE_ALLOW): PolicyEntry {
  const [protocol, port] = bits === 0 ? [0, 0] : bits === 8 ? [6, 0] : [6, 80];
  const deny = precedence === PRECEDENCE_DENY;
  return { identity, egress: false, protocol, port, bits, deny, proxyPort: 0, precedence, cookie: 0 };
}

test('without an entry for the packet there is none', () => {
  assert.equal(lookupEntry([], PACKET), undefined);
  assert.equal(
    lookupEntry([entry(8, 0), { ...entry(7, 0), egress: true }, { ...entry(7, 24), port: 81 }], PACKET),
    undefined,
  );
});

test('the longest match of each look-up counts', () => {
  const long = entry(7, 24);
  assert.equal(lookupEntry([long, entry(7, 0), entry(7, 8)], PACKET), long);
});

test('of the two look-ups the higher precedence wins, then the longer match, then the identity', () => {
  const deny = entry(0, 0, PRECEDENCE_DENY);
  assert.equal(lookupEntry([entry(7, 24), deny], PACKET), deny);
  const longer = entry(0, 24);
  assert.equal(lookupEntry([entry(7, 8), longer], PACKET), longer);
  const own = entry(7, 8);
  assert.equal(lookupEntry([entry(0, 8), own], PACKET), own);
});
