// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm, rmdir } from 'node:fs/promises';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { lockFolder, NodeLock } from './node-lock.ts';

test('a folder is held by one, who is named to the second; then by the next', async () => {
  const folder = await temporaryFolder('node-lock');
  const lock = lockFolder(folder);
  assert.throws(
    () => lockFolder(folder),
    (error) => isCiliumError(error, 'InUse') && error.message.includes(`(it holds ${folder}); stop it first`),
  );
  lock.close();
  lockFolder(folder).close();
  await rm(folder, { recursive: true });
});

test('without a BPF file system there is no lock, and nothing is made', async () => {
  const folder = await temporaryFolder('node-lock');
  const lock = new NodeLock(folder);
  await assert.rejects(lock.start(), (error) => isCiliumError(error, 'Precondition'));
  await lock.stop();
  await rmdir(folder); // which fails unless it is empty
});
