// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { chmod, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { CiliumError, isCiliumError } from '../errors/cilium-error.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { prepareStateFolder, readJsonFile, writeFileAtomic, writeJsonFile } from './state-file.ts';

const schema = z.strictObject({ networks: z.array(z.strictObject({ id: z.string(), mtu: z.number() })) });
let folder: string;
before(async () => {
  folder = await temporaryFolder('state-file');
});
after(() => rm(folder, { recursive: true }));

test('what was written is read back, and nothing else is left in the folder', async () => {
  const path = join(folder, 'round', 'networks.json');
  await prepareStateFolder(join(folder, 'round'));
  const value = { networks: [{ id: 'n1', mtu: 1500 }] };
  await writeJsonFile(path, { networks: [] });
  await writeJsonFile(path, value);
  assert.deepEqual(await readJsonFile(path, schema), value);
  assert.deepEqual(await readdir(join(folder, 'round')), ['networks.json']);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('a file that is absent reads as undefined', async () => {
  assert.equal(await readJsonFile(join(folder, 'absent.json'), schema), undefined);
});

test('a wrong field is named together with the file, and the message says what to do', async () => {
  const path = join(folder, 'wrong.json');
  await writeFile(path, '{"networks":[{"id":"n1","mtu":"big"}]}');
  await assert.rejects(readJsonFile(path, schema), (error) => {
    assert.ok(isCiliumError(error, 'Precondition'));
    assert.match(error.message, /wrong\.json.*networks\.0\.mtu: .*number.*Restore it from a backup, or move it away/);
    return true;
  });
});

test('every truncation of a file is refused, none is read as something else', async () => {
  const path = join(folder, 'truncated.json');
  const text = JSON.stringify({ networks: [{ id: 'n1', mtu: 1500 }] });
  for (let length = 0; length < text.length; length++) {
    await writeFile(path, text.slice(0, length));
    await assert.rejects(readJsonFile(path, schema), /truncated\.json cannot be used/, `cut at ${length}`);
  }
});

test('a write that fails leaves the old content and no temporary file', async () => {
  const path = join(folder, 'directory');
  await prepareStateFolder(join(path, 'in-the-way'));
  await assert.rejects(writeFileAtomic(path, 'x'), (error) => error instanceof CiliumError && error.code === 'System');
  assert.ok((await readdir(folder)).every((name) => !name.endsWith('.tmp')));
});

test('what a crash in a write left behind is cleared at the next start, other files stay', async () => {
  const state = join(folder, 'crashed');
  await prepareStateFolder(state);
  await writeFile(join(state, 'a.json.0123456789ab.tmp'), 'half');
  await writeFile(join(state, 'mine.tmp'), 'whole');
  await prepareStateFolder(state);
  assert.deepEqual(await readdir(state), ['mine.tmp']);
});

test('bytes are written as they are, with the mode asked for', async () => {
  const path = join(folder, 'bytes');
  await writeFileAtomic(path, Uint8Array.of(0, 255, 10), 0o640);
  assert.deepEqual(await readFile(path), Buffer.of(0, 255, 10));
  await chmod(path, 0o600);
});

test('a folder that is prepared while a file in it is written does not lose the write', async () => {
  const state = join(folder, 'busy');
  await prepareStateFolder(state);
  let written = false;
  const write = writeFileAtomic(join(state, 'a.json'), Buffer.alloc(8 << 20)).finally(() => (written = true));
  write.catch(() => undefined);
  while (!written) await prepareStateFolder(state);
  await write;
  assert.deepEqual(await readdir(state), ['a.json']);
});
