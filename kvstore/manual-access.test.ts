// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { isCiliumError, type ErrorCode } from '../errors/cilium-error.ts';
import { systemClock } from '../runtime/clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { EmbeddedKvstore } from './embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from './embedded/engine.ts';
import { ManualAccess } from './manual-access.ts';

const MASTER = 'cilium/state/identities/v1/id/256';
const GUARDED = { force: false };
const FORCED = { force: true };

async function openAccess(t: TestContext): Promise<ManualAccess> {
  const folder = await temporaryFolder('manual-access');
  const engine = new EmbeddedEngine({ folder, log: silentLogger, clock: systemClock });
  const store = new EmbeddedKvstore(engine);
  await engine.start();
  await store.start();
  await store.put(MASTER, 'container:id=app1;');
  await store.put('cilia', 'ours');
  t.after(async () => {
    await store.stop();
    await engine.stop();
    await rm(folder, { recursive: true });
  });
  return new ManualAccess(store);
}

function refusedWith(code: ErrorCode, text: RegExp): (error: unknown) => boolean {
  return (error) => isCiliumError(error, code) && text.test(error.message);
}

test('keys are written, read, listed by their beginning and deleted', async (t) => {
  const access = await openAccess(t);
  await access.set('app/1', 'one', GUARDED);
  await access.set('app/10', 'ten', GUARDED);
  assert.equal((await access.get('app/1')).value, 'one');
  const listed = async (prefix: string) => (await access.list(prefix)).map(({ key }) => key);
  assert.deepEqual(await listed('app/'), ['app/1', 'app/10']);
  assert.deepEqual(await listed(''), ['app/1', 'app/10', 'cilia', MASTER]);
  assert.equal(await access.delete('app/1', GUARDED), true);
  assert.equal(await access.delete('app/1', GUARDED), false);
  assert.equal(await access.deleteAll('app/', GUARDED), 1);
  assert.deepEqual(await listed('app/'), []);
});

test('a key that is not there is not found, and one without a name is refused', async (t) => {
  const access = await openAccess(t);
  await assert.rejects(access.get('no/such'), refusedWith('NotFound', /^key no\/such is not found$/));
  for (const use of [access.get(''), access.set('', 'x', FORCED), access.delete('', FORCED)]) {
    await assert.rejects(use, refusedWith('InvalidArgument', /^key: found nothing/));
  }
});

test('keys of the agents are changed only when that is asked for expressly', async (t) => {
  const access = await openAccess(t);
  const refused = refusedWith('InUse', /belongs? to the agents: .*--force/);
  await assert.rejects(access.set(MASTER, 'container:id=evil;', GUARDED), refused);
  await assert.rejects(access.delete(MASTER, GUARDED), refused);
  for (const prefix of ['', 'c', 'cili', 'cilium', 'cilium/', 'cilium/state/', MASTER]) {
    await assert.rejects(access.deleteAll(prefix, GUARDED), refused, `"${prefix}"`);
  }
  assert.equal((await access.get(MASTER)).value, 'container:id=app1;');
  assert.equal(await access.deleteAll('cilia', GUARDED), 1, 'a neighbour is nobody’s');
  await access.set(MASTER, 'container:id=app2;', FORCED);
  assert.equal((await access.get(MASTER)).value, 'container:id=app2;');
  assert.equal(await access.deleteAll('', FORCED), 1);
});
