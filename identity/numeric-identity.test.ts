// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Prefix } from '../net/ip.ts';
import { formatCidrKey, parseCidrKey } from './cidr-label.ts';
import { LabelSet } from './label-set.ts';
import { cidrLabels, identityName, reservedIdentityOf, reservedLabels } from './numeric-identity.ts';

test('reserved identities are shown by name, all others as numbers', () => {
  assert.equal(identityName(9), 'world-ipv4');
  assert.equal(identityName(0), 'unknown');
  assert.equal(identityName(16_777_217), '16777217');
});

test('the API server of the cluster is a remote node too', () => {
  assert.deepEqual(reservedLabels(7)?.toTexts(), ['reserved:kube-apiserver', 'reserved:remote-node']);
  assert.equal(reservedIdentityOf(LabelSet.fromTexts(['reserved:remote-node', 'reserved:kube-apiserver'])), 7);
  assert.equal(reservedIdentityOf(LabelSet.fromTexts(['reserved:init', 'container:a'])), undefined);
});

test('a prefix is labelled with itself and its world', () => {
  assert.deepEqual(cidrLabels(Prefix.parse('10.1.0.0/16')).toTexts(), ['cidr:10.1.0.0/16', 'reserved:world-ipv4']);
  assert.deepEqual(cidrLabels(Prefix.parse('::/0')).toTexts(), ['reserved:world-ipv6']);
  assert.deepEqual(cidrLabels(Prefix.parse('10.0.0.0/8'), { ipv4: true, ipv6: false }).toTexts(), [
    'cidr:10.0.0.0/8',
    'reserved:world',
  ]);
});

test('IPv6 prefixes as label keys have dashes and no dash at an end', () => {
  for (const [text, key] of [
    ['::1/128', '0--1/128'],
    ['2001:db8::/32', '2001-db8--0/32'],
    ['::/3', '0--0/3'],
  ] as const) {
    assert.equal(formatCidrKey(Prefix.parse(text)), key);
    assert.equal(parseCidrKey(key)?.toString(), text);
  }
  assert.equal(parseCidrKey('no prefix'), undefined);
});
