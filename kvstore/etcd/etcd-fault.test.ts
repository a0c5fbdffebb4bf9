// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError } from '../../errors/cilium-error.ts';
import { toError, toFault } from './etcd-fault.ts';

const URL = 'https://10.0.0.1:2379';
const wrapped = (last: string): string =>
  `14 UNAVAILABLE: No connection established. Last error: ${last}. Resolution note: `;

for (const [what, message, expected] of [
  [
    'a refused connection',
    wrapped('Error: connect ECONNREFUSED 10.0.0.1:2379'),
    'etcd read x: https://10.0.0.1:2379: connect ECONNREFUSED 10.0.0.1:2379',
  ],
  ['a connection nobody answers', wrapped('null'), 'etcd read x: https://10.0.0.1:2379: nobody answers there'],
  [
    'a deadline',
    '4 DEADLINE_EXCEEDED: Deadline exceeded after 5.001s,LB pick: 0.000s,remote_addr=10.0.0.1:2379',
    'etcd read x: https://10.0.0.1:2379: no answer in time',
  ],
  [
    'a certificate',
    wrapped('Error: self-signed certificate in certificate chain'),
    'etcd read x: https://10.0.0.1:2379: its certificate is not trusted for this name (trusted-ca-file is not set): ' +
      'self-signed certificate in certificate chain',
  ],
  [
    'a store that is full',
    '8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded',
    'etcd read x: https://10.0.0.1:2379: etcd is full: compact and defragment it, then etcdctl alarm disarm: ' +
      'etcdserver: mvcc: database space exceeded',
  ],
  [
    'what nobody knows',
    '2 UNKNOWN: something else\nin many lines',
    'etcd read x: https://10.0.0.1:2379: something else',
  ],
] as const) {
  test(`${what} is told once, without the words of gRPC`, () => {
    const config = { endpoints: [URL] };
    const cause = Object.assign(new Error(message), { code: Number(message.split(' ', 1)[0]) });
    assert.equal(describeError(toError('read x', URL, toFault(cause, config), cause)), expected);
  });
}
