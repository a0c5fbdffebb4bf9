// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { appendFile, copyFile, mkdir, open, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { isCiliumError } from '../errors/cilium-error.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { Journal } from './journal.ts';

/** The state of these tests: texts in the order in which they came. */
class Texts {
  readonly journal: Journal<string[], string>;
  all: string[] = [];

  constructor(folder: string, minCompactionBytes?: number) {
    this.journal = new Journal({ folder, image: z.array(z.string()), change: z.string(), minCompactionBytes });
  }

  async open(): Promise<string[]> {
    await this.journal.open({
      begin: (image) => (this.all = [...(image ?? [])]),
      apply: (text) => (text === 'bad' ? 'does not fit' : void this.all.push(text)),
    });
    return this.all;
  }

  async append(...texts: string[]): Promise<void> {
    await this.journal.append(texts);
    this.all.push(...texts);
  }
}

let root: string;
let folders = 0;
before(async () => {
  root = await temporaryFolder('journal');
});
after(() => rm(root, { recursive: true }));

async function newFolder(): Promise<string> {
  const folder = join(root, String(folders++));
  await mkdir(folder);
  return folder;
}

async function readBack(folder: string): Promise<string[]> {
  const texts = new Texts(folder);
  await texts.open();
  await texts.journal.close();
  return texts.all;
}

const text = fc.string({ unit: 'grapheme', maxLength: 8 }).filter((value) => value !== 'bad');
const batches = fc.array(fc.array(text, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 });

test('wherever the journal is cut off, what is read back is the state after some of the batches', async () => {
  await fc.assert(
    fc.asyncProperty(batches, async (plan) => {
      const folder = await newFolder();
      const texts = new Texts(folder);
      await texts.open();
      const states: string[][] = [[]];
      const lengths = [0];
      const path = join(folder, 'journal-0.log');
      for (const batch of plan) {
        await texts.append(...batch);
        states.push([...texts.all]);
        lengths.push((await stat(path)).size);
      }
      await texts.journal.close();
      const whole = await readFile(path);
      for (let length = whole.length; length >= 0; length--) {
        await writeFile(path, whole.subarray(0, length));
        const survivors = lengths.filter((end) => end <= length).length - 1;
        const reopened = new Texts(folder);
        assert.deepEqual(await reopened.open(), states[survivors], `cut at ${length}`);
        assert.equal(reopened.journal.tornBytes, length - lengths[survivors]!);
        assert.equal((await stat(path)).size, lengths[survivors]);
        await reopened.journal.close();
      }
      await rm(folder, { recursive: true });
    }),
    { numRuns: 3 },
  );
});

test('what is appended after a torn end is read back', async () => {
  const folder = await newFolder();
  const first = new Texts(folder);
  await first.open();
  await first.append('a');
  await first.append('b');
  await first.journal.close();
  const path = join(folder, 'journal-0.log');
  await truncate(path, (await stat(path)).size - 1);
  const second = new Texts(folder);
  assert.deepEqual(await second.open(), ['a']);
  await second.append('c');
  await second.journal.close();
  assert.deepEqual(await readBack(folder), ['a', 'c']);
});

test('a batch that could not be written whole is taken away, and the next one stands in its place', async (t) => {
  const folder = await newFolder();
  const texts = new Texts(folder);
  await texts.open();
  await texts.append('a');
  const path = join(folder, 'journal-0.log');
  const probe = await open(path);
  const prototype = Object.getPrototypeOf(probe) as { datasync: () => Promise<void> };
  await probe.close();
  const sync = t.mock.method(prototype, 'datasync', () => Promise.reject(new Error('ENOSPC')));
  await assert.rejects(texts.append('lost'), /write .*journal-0\.log/);
  sync.mock.restore();
  assert.doesNotMatch(await readFile(path, 'utf8'), /lost/);
  await texts.append('b');
  await texts.journal.close();
  assert.deepEqual(await readBack(folder), ['a', 'b']);
});

test('damage that is not at the end is refused with the way out, and the file is left as it is', async () => {
  const folder = await newFolder();
  const texts = new Texts(folder);
  await texts.open();
  for (let i = 0; i < 3; i++) await texts.append('v'.repeat(20));
  await texts.journal.close();
  const path = join(folder, 'journal-0.log');
  const good = await readFile(path);
  const bad = Buffer.from(good);
  bad[good.length >> 1]! ^= 1;
  await writeFile(path, bad);
  await assert.rejects(readBack(folder), (error) => {
    assert.ok(isCiliumError(error, 'Precondition'));
    assert.match(error.message, /journal-0\.log.*line 2 is damaged \(wrong checksum\).*move it away/);
    return true;
  });
  assert.deepEqual(await readFile(path), bad);
});

test('a change that does not fit the state is damage', async () => {
  const folder = await newFolder();
  const texts = new Texts(folder);
  await texts.open();
  await texts.append('a');
  await texts.append('bad');
  await texts.journal.close();
  await assert.rejects(readBack(folder), /line 2 does not fit/);
});

test('a new generation holds the same state in less space, and leftovers of a crash are cleared', async () => {
  const folder = await newFolder();
  const texts = new Texts(folder, 1000);
  await texts.open();
  for (let i = 0; i < 70; i++) await texts.append(String(i));
  assert.ok(texts.journal.isCompactionDue);
  await copyFile(join(folder, 'journal-0.log'), join(folder, 'kept'));
  await texts.journal.compact(texts.all);
  assert.ok(!texts.journal.isCompactionDue);
  const state = [...texts.all];
  await texts.append('after');
  await texts.journal.close();
  assert.deepEqual((await readdir(folder)).sort(), ['journal-1.log', 'kept', 'snapshot.json']);
  // A crash right after the rename leaves the old journal, too.
  await copyFile(join(folder, 'kept'), join(folder, 'journal-0.log'));
  await appendFile(join(folder, 'snapshot.json.0123456789ab.tmp'), 'half');
  assert.deepEqual(await readBack(folder), [...state, 'after']);
  assert.deepEqual((await readdir(folder)).sort(), ['journal-1.log', 'kept', 'snapshot.json']);
  // … and one right before it the new journal not yet there.
  await rm(join(folder, 'journal-1.log'));
  assert.deepEqual(await readBack(folder), state);
});
