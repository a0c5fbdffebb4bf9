// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startNode, type Result } from '../../tests/support/fake-node.ts';

const ROUTER = '10.11.255.254';

interface Fixture {
  readonly file: string;
  readonly run: (...argv: string[]) => Promise<Result>;
  readonly configuration: () => Promise<unknown>;
}

/** A node whose router is `ROUTER`, with this daemon.json, if any, and three servers of its own. */
async function begin(t: TestContext, daemonJson?: string): Promise<Fixture> {
  const node = await startNode(t);
  const file = join(node.folder, 'daemon.json');
  const resolvConf = join(node.folder, 'resolv.conf');
  const [self] = node.services.nodeList;
  self!['secondary-addresses'] = [
    { ip: 'f00d:b::ffff', 'address-type': 'CiliumInternalIP' },
    { ip: ROUTER, 'address-type': 'CiliumInternalIP' },
  ];
  await writeFile(
    resolvConf,
    'search example\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n',
  );
  if (daemonJson !== undefined) await writeFile(file, daemonJson, { mode: 0o640 });
  return {
    file,
    run: (...argv) => node.run('docker-dns', '--file', file, '--resolv-conf', resolvConf, ...argv),
    configuration: async () => JSON.parse(await readFile(file, 'utf8')) as unknown,
  };
}

test('Docker asks the router first, then the servers of the node, and once is enough', async (t) => {
  const { file, run, configuration } = await begin(t);
  const { stdout, status } = await run();
  assert.equal(status, 0);
  assert.equal(stdout, `${file}: dns is ${ROUTER}, 192.0.2.53; restart Docker for it\n`);
  assert.deepEqual(await configuration(), { dns: [ROUTER, '192.0.2.53'] });
  assert.match((await run()).stdout, /nothing to do/);
  assert.equal((await run('--remove')).status, 0);
  assert.deepEqual(await configuration(), { dns: ['192.0.2.53'] });
});

test('what else stands in the file stays, with its servers behind and its mode', async (t) => {
  const { file, run, configuration } = await begin(t, '{"dns": ["192.0.2.1", "192.0.2.2"], "live-restore": true}');
  await run();
  assert.deepEqual(await configuration(), { 'live-restore': true, dns: [ROUTER, '192.0.2.1', '192.0.2.2'] });
  assert.equal((await stat(file)).mode & 0o777, 0o640);
});

test('taking out the only server leaves no empty list', async (t) => {
  const { run, configuration } = await begin(t, `{"dns": ["${ROUTER}"]}`);
  await run('--remove');
  assert.deepEqual(await configuration(), {});
});

for (const [daemonJson, error] of [
  ['{"dns": ', /daemon.json is not valid JSON/],
  ['[]', /expected an object/],
  ['{"dns": "192.0.2.1"}', /dns: expected a list of addresses/],
] as const) {
  test(`a file that says ${daemonJson} is left as it is`, async (t) => {
    const { file, run } = await begin(t, daemonJson);
    const { status, stderr } = await run();
    assert.equal(status, 1);
    assert.match(stderr, error);
    assert.equal(await readFile(file, 'utf8'), daemonJson);
  });
}

test('a node without a router has nothing to offer', async (t) => {
  const { run, services } = await startNode(t);
  services.nodeList[0]!['secondary-addresses'] = [];
  const { status, stderr } = await run('docker-dns', '--file', '/nonexistent/daemon.json');
  assert.equal(status, 1);
  assert.match(stderr, /no router address.*--kvstore=etcd/);
});
