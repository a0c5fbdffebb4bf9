// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { silentLogger } from '../runtime/logger.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { openKvstore, type AgentKvstore } from './kvstore.ts';

function open(kvstore: 'embedded' | 'etcd', ...kvstoreOpt: string[]): Promise<AgentKvstore> {
  const addresses = { ipv4Node: 'auto', ipv6Node: 'auto' };
  const times = { kvstoreLeaseTtl: 25, kvstoreConnectivityTimeout: 1 };
  return openKvstore(
    { kvstore, kvstoreOpt, ...times, nodeName: 'node1', ...addresses, stateDir: '/none' },
    silentLogger,
  );
}

test('the embedded store stands on an engine, etcd on nothing', async () => {
  const embedded = await open('embedded');
  assert.deepEqual([embedded.foundation.length, embedded.nodeKey], [1, 'node1']);
  assert.equal(embedded.identityMemory, undefined);
  const etcd = await open('etcd', 'etcd.address=http://127.0.0.1:1', 'etcd.address=http://127.0.0.1:2');
  assert.deepEqual(etcd.foundation, []);
  assert.doesNotMatch(etcd.nodeKey, /\//);
  assert.equal(etcd.identityMemory?.exists, false);
  assert.equal((await etcd.store.status()).message, 'etcd: not started');
});

test('etcd can be described by a file', async () => {
  const folder = await temporaryFolder('kvstore-options');
  const file = join(folder, 'etcd.yaml');
  await writeFile(file, 'endpoints: [http://127.0.0.1:1]\n');
  assert.deepEqual((await open('etcd', `etcd.config=${file}`)).foundation, []);
  await writeFile(file, 'endpoints: [127.0.0.1:1]\n');
  await assert.rejects(open('etcd', `etcd.config=${file}`), /endpoints: found 127\.0\.0\.1:1, expected a URL/);
  await rm(folder, { recursive: true });
});

for (const [name, opened, expected] of [
  ['etcd without an endpoint', () => open('etcd'), /found no address, expected --kvstore-opt etcd\.address=URL/],
  ['an unknown option', () => open('etcd', 'consul.address=x'), /consul\.address=x: expected etcd\.address=URL/],
  ['both ways', () => open('etcd', 'etcd.address=http://a', 'etcd.config=/f'), /found both/],
  ['a file that is not there', () => open('etcd', 'etcd.config=/no/file'), /etcd\.config=\/no\/file cannot be read/],
  ['options of etcd for the embedded store', () => open('embedded', 'etcd.address=http://a'), /is for --kvstore=etcd/],
] as const) {
  test(`${name} is refused`, async () => {
    await assert.rejects(opened, (error) => isCiliumError(error, 'InvalidArgument') && expected.test(error.message));
  });
}
