// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { etcdBinary } from './etcd-member.ts';

test('where there is no etcd, the lab says how to get one, or how to do without', () => {
  const [env, path] = [{}, '/nowhere:/nothing'];
  assert.throws(() => etcdBinary(env, path), {
    code: 'Precondition',
    message: /no etcd \(\/nowhere\/etcd, \/nothing\/etcd\).*tools\/setup\.sh --tests.*--etcd 0/,
  });
  assert.throws(() => etcdBinary({ ETCD_BIN: '/nowhere/etcd' }), { code: 'Precondition' });
  assert.equal(etcdBinary({ ETCD_BIN: process.execPath }), process.execPath);
});
