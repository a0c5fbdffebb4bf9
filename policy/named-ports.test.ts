// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { LabelSet } from '../identity/label-set.ts';
import { portsOfLabels } from './named-ports.ts';

test('labels name ports, TCP unless they say otherwise', () => {
  const labels = ['app=web', 'io.cilium.port.http=8080', 'io.cilium.port.DNS=53/UDP', 'io.cilium.port.a-1=9/sctp'];
  const { ports, problems } = portsOfLabels(LabelSet.fromTexts(labels.map((text) => `container:${text}`)));
  assert.deepEqual(problems, []);
  assert.deepEqual(
    [...ports],
    [
      ['dns', { protocol: 17, port: 53 }],
      ['a-1', { protocol: 132, port: 9 }],
      ['http', { protocol: 6, port: 8080 }],
    ],
  );
});

test('a label that names no port is a problem of its own, and the others count', () => {
  const wrong = ['http=', 'http=0', 'http=65536', 'http=80/icmp', 'http=080', 'http= 80', '=80', '80=80', 'a--b=80'];
  for (const text of [...wrong, `${'a'.repeat(16)}=80`]) {
    const { ports, problems } = portsOfLabels(
      LabelSet.fromTexts([`container:io.cilium.port.${text}`, 'container:io.cilium.port.other=1']),
    );
    assert.deepEqual([...ports.keys()], ['other'], text);
    assert.equal(problems.length, 1, text);
    assert.match(problems[0]!, /^label "container:io\.cilium\.port\..*": expected /, text);
  }
});

test('two labels for one name are refused', () => {
  const { problems } = portsOfLabels(
    LabelSet.fromTexts(['container:io.cilium.port.HTTP=80', 'container:io.cilium.port.http=81']),
  );
  assert.equal(problems.length, 1);
});
