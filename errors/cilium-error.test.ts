// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumError, describeError, isCiliumError } from './cilium-error.ts';

test('an error keeps its code, facts and cause', () => {
  const cause = new Error('ENOSPC');
  const error = new CiliumError('System', 'write ipam.json', { errno: 'ENOSPC' }, cause);
  assert.equal(error.cause, cause);
  assert.deepEqual([error.code, error.details, error.name], ['System', { errno: 'ENOSPC' }, 'CiliumError']);
  assert.ok(isCiliumError(error) && isCiliumError(error, 'System') && !isCiliumError(error, 'Internal'));
  assert.ok(!isCiliumError(cause) && !isCiliumError(undefined) && !('cause' in new CiliumError('System', 'x')));
});

for (const [name, error, text] of [
  ['a chain of causes', new Error('a', { cause: new Error('b', { cause: 'c' }) }), 'a: b: c'],
  ['a cause that its parent repeats', new Error('read x: ENOENT', { cause: new Error('ENOENT') }), 'read x: ENOENT'],
  ['several errors at once', new AggregateError([new Error('a'), new Error('b')], 'stop'), 'stop: a: b'],
  ['an error without a message', new TypeError(), 'TypeError'],
  ['something else that was thrown', 42, '42'],
  ['an object that is no error', { code: 1, toString: undefined }, 'thrown code, toString'],
  ['nothing', undefined, ''],
] as const) {
  test(`${name} is one line`, () => assert.equal(describeError(error), text));
}
