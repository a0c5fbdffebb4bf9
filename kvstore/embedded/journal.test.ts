// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { appendFile, copyFile, mkdir, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { Journal } from './journal.ts';
import { StoreState, type Change } from './state.ts';

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

async function readBack(folder: string): Promise<StoreState> {
  const journal = new Journal(folder);
  const state = await journal.open();
  await journal.close();
  return state;
}

/** A change that fits the state, made from random numbers. */
function nextChange(state: StoreState, picks: readonly number[]): Change {
  const keys = picks.map((pick) => `key/${pick % 7}`).filter((key, index, all) => all.indexOf(key) === index);
  const [deleted, written] = [keys.filter((_, i) => picks[i]! % 3 === 0), keys.filter((_, i) => picks[i]! % 3 !== 0)];
  const deletes = deleted.filter((key) => state.get(key) !== undefined);
  const grants = state.leases.has('lease') ? undefined : ([['lease', 1000]] as [string, number][]);
  return {
    revision: state.revision + (deletes.length + written.length > 0 ? 1 : 0),
    puts: written.map((key, i) => [key, `value ${picks[i]! % 100} "é"`, picks[i]! % 2 === 0 ? 'lease' : null]),
    deletes,
    ...(grants && { grants }),
  };
}

const batches = fc.array(fc.array(fc.array(fc.nat(1000), { maxLength: 4 }), { minLength: 1, maxLength: 3 }), {
  minLength: 1,
  maxLength: 3,
});

test('wherever the journal is cut off, what is read back is the state after some of the batches', async () => {
  await fc.assert(
    fc.asyncProperty(batches, async (plan) => {
      const folder = await newFolder();
      const journal = new Journal(folder);
      const state = await journal.open();
      const images = [state.toImage()];
      const lengths = [0];
      const path = join(folder, 'journal-0.log');
      for (const picks of plan) {
        const batch: Change[] = [];
        for (const pick of picks) {
          const change = nextChange(state, pick);
          state.apply(change);
          batch.push(change);
        }
        await journal.append(batch);
        images.push(state.toImage());
        lengths.push((await stat(path)).size);
      }
      await journal.close();
      const whole = await readFile(path);
      for (let length = whole.length; length >= 0; length--) {
        await writeFile(path, whole.subarray(0, length));
        const survivors = lengths.filter((end) => end <= length).length - 1;
        const reopened = new Journal(folder);
        assert.deepEqual((await reopened.open()).toImage(), images[survivors], `cut at ${length}`);
        assert.equal(reopened.tornBytes, length - lengths[survivors]!);
        assert.equal((await stat(path)).size, lengths[survivors]);
        await reopened.close();
      }
      await rm(folder, { recursive: true });
    }),
    { numRuns: 2 },
  );
});

test('what is appended after a torn end is read back', async () => {
  const folder = await newFolder();
  const first = new Journal(folder);
  await first.open();
  await first.append([{ revision: 1, puts: [['a', '1', null]], deletes: [] }]);
  await first.append([{ revision: 2, puts: [['b', '1', null]], deletes: [] }]);
  await first.close();
  const path = join(folder, 'journal-0.log');
  await truncate(path, (await stat(path)).size - 1);
  const second = new Journal(folder);
  assert.equal((await second.open()).revision, 1);
  await second.append([{ revision: 2, puts: [['c', '1', null]], deletes: [] }]);
  await second.close();
  const state = await readBack(folder);
  assert.deepEqual(
    state.list('').map(({ key }) => key),
    ['a', 'c'],
  );
});

test('damage that is not at the end is refused with the way out, and the file is left as it is', async () => {
  const folder = await newFolder();
  const journal = new Journal(folder);
  await journal.open();
  for (let revision = 1; revision <= 3; revision++) {
    await journal.append([{ revision, puts: [['a', 'v'.repeat(20), null]], deletes: [] }]);
  }
  await journal.close();
  const path = join(folder, 'journal-0.log');
  const good = await readFile(path);
  const bad = Buffer.from(good);
  bad[good.length >> 1]! ^= 1;
  await writeFile(path, bad);
  await assert.rejects(new Journal(folder).open(), (error) => {
    assert.ok(isCiliumError(error, 'Precondition'));
    assert.match(error.message, /journal-0\.log.*line 2 is damaged \(wrong checksum\).*move it away/);
    return true;
  });
  assert.deepEqual(await readFile(path), bad);
});

test('a missing batch is noticed', async () => {
  const folder = await newFolder();
  const journal = new Journal(folder);
  await journal.open();
  await journal.append([{ revision: 1, puts: [['a', '1', null]], deletes: [] }]);
  await journal.append([{ revision: 3, puts: [['b', '1', null]], deletes: [] }]);
  await journal.close();
  await assert.rejects(new Journal(folder).open(), /line 2 goes from revision 1 to 3/);
});

test('a new generation holds the same state in less space, and leftovers of a crash are cleared', async () => {
  const folder = await newFolder();
  const journal = new Journal(folder, 1000);
  const state = await journal.open();
  for (let revision = 1; revision <= 50; revision++) {
    const change: Change = { revision, puts: [['a', String(revision), null]], deletes: [] };
    state.apply(change);
    await journal.append([change]);
  }
  assert.ok(journal.isCompactionDue);
  await copyFile(join(folder, 'journal-0.log'), join(folder, 'kept'));
  await journal.compact(state.toImage());
  assert.ok(!journal.isCompactionDue);
  await journal.append([{ revision: 51, puts: [['b', '1', null]], deletes: [] }]);
  await journal.close();
  assert.deepEqual((await readdir(folder)).sort(), ['journal-1.log', 'kept', 'snapshot.json']);
  // A crash right after the rename leaves the old journal, too.
  await copyFile(join(folder, 'kept'), join(folder, 'journal-0.log'));
  await appendFile(join(folder, 'snapshot.json.0123456789ab.tmp'), 'half');
  const reopened = await readBack(folder);
  assert.equal(reopened.revision, 51);
  assert.deepEqual((await readdir(folder)).sort(), ['journal-1.log', 'kept', 'snapshot.json']);
  // … and one right before it the new journal not yet there.
  await rm(join(folder, 'journal-1.log'));
  assert.equal((await readBack(folder)).revision, 50);
});

test('an image of the state gives the same state', () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.nat(1000), { maxLength: 4 }), { maxLength: 20 }), (plan) => {
      const state = new StoreState();
      for (const picks of plan) state.apply(nextChange(state, picks));
      const copy = StoreState.fromImage(state.toImage());
      assert.deepEqual(copy.toImage(), state.toImage());
      assert.deepEqual(copy.list('key/'), state.list('key/'));
      assert.deepEqual(
        [...(copy.leases.get('lease')?.keys ?? [])].sort(),
        [...(state.leases.get('lease')?.keys ?? [])].sort(),
      );
    }),
  );
});
