// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errnoName, isErrno, SyscallError } from './errno.ts';
import { Handle, openHandles } from './handle.ts';

test('an errno has its symbolic name, also those that only the kernel knows', () => {
  for (const [errno, name] of [
    [2, 'ENOENT'],
    [7, 'E2BIG'],
    [524, 'ENOTSUPP'],
    [9999, 'E9999'],
  ] as const) {
    assert.equal(errnoName(errno), name);
  }
});

test('a failed call says what failed and why, and has the code that tells what to do', () => {
  const error = new SyscallError('attach program', 1, { ifindex: 7 });
  assert.equal(error.message, 'attach program: EPERM');
  assert.equal(error.code, 'Precondition');
  assert.deepEqual(error.details, { ifindex: 7, errno: 'EPERM' });
  assert.equal(new SyscallError('x', 'ENODEV').code, 'NotFound');
  assert.equal(new SyscallError('x', 'EIO').code, 'System');
  assert.equal(new SyscallError('x', 'ENOSPC', {}, 'MapFull').code, 'MapFull');
  assert.ok(isErrno(error, 'EACCES', 'EPERM'));
  assert.ok(!isErrno(new Error('EPERM'), 'EPERM'));
});

test('a handle is counted while it is open, gives back once, and says so afterwards', () => {
  const released: string[] = [];
  class Thing extends Handle {
    constructor(name: string) {
      super('thing', name);
    }
    use(): void {
      this.assertOpen();
    }
    protected release(): void {
      released.push(this.name);
    }
  }
  const [a, b] = [new Thing('a'), new Thing('b')];
  assert.equal(openHandles()['thing'], 2);
  a.use();
  a.close();
  assert.ok(a.closed);
  assert.throws(() => a.use(), /thing a is closed/);
  assert.throws(() => a.close(), /thing a is closed/);
  b.close();
  assert.deepEqual(released, ['a', 'b']);
  assert.ok(!('thing' in openHandles()));
});
