// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyEntry } from '../../datapath/maps/policy-map.ts';
import { policyJson, policyTable } from './policy-table.ts';

const entry = (facts: Partial<PolicyEntry>): PolicyEntry => ({
  identity: 0,
  egress: false,
  protocol: 0,
  port: 0,
  bits: 0,
  deny: false,
  proxyPort: 0,
  precedence: 0xffffff01,
  cookie: 0,
  ...facts,
});
const ENTRIES = [
  entry({ egress: true }),
  entry({ identity: 41_022, protocol: 6, port: 80, bits: 24, cookie: 7 }),
  entry({ identity: 1 }),
  entry({ identity: 300, protocol: 17, bits: 8, deny: true }),
];
const LABELS = new Map([
  [1, ['reserved:host']],
  [41_022, ['container:id=app2', 'container:tier=web']],
]);

test('denials come first, then ingress, and every label has its row', () => {
  assert.deepEqual(policyTable(ENTRIES, LABELS).split('\n'), [
    'POLICY   DIRECTION   LABELS (source:key[=value])   PORT/PROTO   PROXY PORT   AUTH TYPE   BYTES   PACKETS   PREFIX   COOKIE',
    'Deny     Ingress     300                           UDP          NONE         disabled    -       -         8        0',
    'Allow    Ingress     reserved:host                 ANY          NONE         disabled    -       -         0        0',
    'Allow    Ingress     container:id=app2             80/TCP       NONE         disabled    -       -         24       7',
    '                     container:tier=web                                                                             ',
    'Allow    Egress      ANY                           ANY          NONE         disabled    -       -         0        0',
    '',
  ]);
});

test('numeric shows the identities, zero for any', () => {
  const rows = policyTable(ENTRIES, undefined)
    .split('\n')
    .map((row) => row.split(/ {2,}/)[2]);
  assert.deepEqual(rows, ['IDENTITY', '300', '1', '41022', '0', undefined]);
});

test('an empty map says that nothing may pass', () => {
  assert.match(policyTable([], LABELS), /^POLICY .*COOKIE\nPolicy map is empty: nothing may pass\.\n$/);
});

test('as data an entry has its key and what it decides', () => {
  assert.deepEqual(policyJson([entry({ identity: 2, egress: true, protocol: 6, port: 443, bits: 24, deny: true })]), [
    {
      Deny: true,
      ProxyPort: 0,
      Precedence: 0xffffff01,
      Cookie: 0,
      Key: { Identity: 2, TrafficDirection: 1, Nexthdr: 6, DestPort: 443, Prefix: 24 },
    },
  ]);
});
