// SPDX-License-Identifier: Apache-2.0

/** Who may ask etcd, and what is said when something about that is wrong: at once, with the file or the user. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import { makeAuthority, makeCertificate, type Certificate } from '../../tests/support/certificates.ts';
import { EtcdServer } from '../../tests/support/etcd-server.ts';
import { EtcdWorld } from '../../tests/support/etcd-world.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { EtcdConfig } from './etcd-config.ts';
import { EtcdKvstore } from './etcd-kvstore.ts';

/** The error of a client that is not to start; it must not wait for what waiting does not change. */
async function refusal(config: EtcdConfig, connectTimeoutMs = 60_000): Promise<CiliumError> {
  try {
    const client = new EtcdKvstore({ config, log: silentLogger, times: { connectTimeoutMs }, random: () => 0 });
    await client.start(new AbortController().signal);
    await client.stop();
  } catch (error) {
    assert.ok(error instanceof CiliumError, describeError(error));
    return error;
  }
  throw new Error('it has started');
}

for (const [name, config, expected] of [
  ['no endpoint', { endpoints: [] }, /endpoints: found nothing/],
  ['an address without scheme', { endpoints: ['10.0.0.1:2379'] }, /endpoints: found 10\.0\.0\.1:2379, expected a URL/],
  ['a path', { endpoints: ['http://a:1/b'] }, /without path/],
  ['two schemes', { endpoints: ['http://a', 'https://b'] }, /all of them http or all of them https/],
  ['a key alone', { endpoints: ['https://a'], keyFile: '/k' }, /cert-file: found nothing, .* key-file \/k/],
  ['files for http', { endpoints: ['http://a'], trustedCaFile: '/ca' }, /expected https, because \/ca is given/],
  ['a user alone', { endpoints: ['http://a'], username: 'u' }, /password: found nothing/],
] as const) {
  test(`a configuration with ${name} is refused`, async () => {
    const error = await refusal(config);
    assert.equal(error.code, 'InvalidArgument');
    assert.match(error.message, expected);
  });
}

test('nobody there: the error names endpoint and reason', async () => {
  const error = await refusal({ endpoints: ['http://127.0.0.1:1'] }, 300);
  assert.equal(error.code, 'KvstoreUnavailable');
  assert.match(error.message, /http:\/\/127\.0\.0\.1:1: connect ECONNREFUSED/);
  const both = await refusal({ endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] }, 300);
  assert.match(both.message, /127\.0\.0\.1:1: connect ECONNREFUSED.*127\.0\.0\.1:2: connect ECONNREFUSED/);
  const unknown = await refusal({ endpoints: ['http://etcd.invalid:1'] }, 300);
  assert.match(unknown.message, /http:\/\/etcd\.invalid:1: .*etcd\.invalid/);
});

test('an etcd that comes a little later is waited for', async () => {
  const server = await EtcdServer.start();
  try {
    await server.stop();
    const client = new EtcdKvstore({ config: { endpoints: [server.url] }, log: silentLogger });
    const started = client.start(new AbortController().signal);
    await server.start();
    await started;
    await client.put('a', '1');
    await client.stop();
  } finally {
    await server.remove();
  }
});

test('user and password, rights, and tokens that etcd forgets', async () => {
  await using world = await EtcdWorld.open({ flags: ['--bcrypt-cost=4', '--auth-token-ttl=1'] });
  const { server, endpoints } = world;
  const asRoot = ['--user', 'root:secret'];
  await server.etcdctl('user', 'add', 'root:secret');
  await server.etcdctl('user', 'add', 'node:pw');
  await server.etcdctl('role', 'add', 'nodes');
  await server.etcdctl('role', 'grant-permission', '--prefix=true', 'nodes', 'readwrite', 'cilium/');
  await server.etcdctl('user', 'grant-role', 'node', 'nodes');
  await server.etcdctl('user', 'grant-role', 'root', 'root');

  const early = await refusal({ endpoints, username: 'node', password: 'pw' });
  assert.match(early.message, /authentication is not enabled there; leave username out/);
  await server.etcdctl('auth', 'enable');
  assert.match((await refusal({ endpoints })).message, /asks for a user: set username and password/);
  const wrong = await refusal({ endpoints, username: 'node', password: 'no' });
  assert.match(wrong.message, /wrong user name or password \(username node\)/);
  assert.ok(!describeError(wrong).includes('no)'), 'no password in an error');
  const elsewhere = await refusal({ endpoints, username: 'node', password: 'pw', namespace: 'other/' });
  assert.match(elsewhere.message, /user node lacks permission for this key/);

  const wire = await world.wire();
  const client = await world.connect({ endpoints: [wire.url], username: 'node', password: 'pw', namespace: 'cilium/' });
  const follower = await world.follow(client, 'w/');
  await client.put('w/a', '1', { leased: true });
  await (await client.lock('locks/a')).unlock();
  const other = await world.connect({ username: 'node', password: 'pw', namespace: 'cilium/' });
  await wire.cut();
  await server.etcdctl(...asRoot, 'put', 'cilium/w/c', '3');
  await world.pause(3_000); // etcd has forgotten the tokens: streams and requests each have to notice
  await wire.mend();
  await eventually('the event', () => follower.replica.has('w/c'));
  await eventually('a write', () => other.put('w/b', '2').then(() => true));
  await follower.agreesWith(() =>
    Promise.resolve(
      new Map([
        ['w/a', '1'],
        ['w/b', '2'],
        ['w/c', '3'],
      ]),
    ),
  );
  await (await client.lock('locks/a')).unlock();
  assert.equal((await client.status()).healthy, true);
});

let folder: string;
let server: EtcdServer;
let authority: Certificate;
let stranger: Certificate;
let own: Certificate;

before(async () => {
  folder = await temporaryFolder('tls');
  authority = await makeAuthority(folder, 'authority');
  stranger = await makeAuthority(folder, 'stranger');
  own = await makeCertificate(folder, 'own', authority);
  server = await EtcdServer.start({
    scheme: 'https',
    flags: [
      `--cert-file=${own.certFile}`,
      `--key-file=${own.keyFile}`,
      `--trusted-ca-file=${authority.certFile}`,
      '--client-cert-auth',
    ],
  });
});

after(async () => {
  await server.remove();
  await rm(folder, { recursive: true });
});

test('TLS with client certificates: reads, writes, watches, status', async () => {
  const client = new EtcdKvstore({
    config: { endpoints: [server.url], trustedCaFile: authority.certFile, ...own },
    log: silentLogger,
  });
  await client.start(new AbortController().signal);
  const told: string[] = [];
  const watch = client.watch('a', 1, {
    onEvents: (events) => events.forEach(({ type }) => told.push(type)),
    onEnd: (reason) => told.push(reason),
  });
  await client.put('a', '1', { leased: true });
  await eventually('the event', () => told.length > 0);
  assert.deepEqual(told, ['put']);
  watch.close();
  const line = `etcd: 1/1 connected, leases=1, lock leases=0, has-quorum=true: ${server.url} - 3.`;
  const { message, healthy } = await client.status();
  assert.ok(healthy && message.startsWith(line) && message.endsWith(' (Leader)'), message);
  await client.stop();
});

test('what is wrong with certificates is said with the file', async () => {
  const config = { endpoints: [server.url], trustedCaFile: authority.certFile, ...own };
  const garbage = join(folder, 'garbage');
  await writeFile(garbage, 'garbage');
  for (const [broken, code, text] of [
    [{ trustedCaFile: '/no/ca' }, 'Precondition', 'etcd trusted-ca-file: /no/ca cannot be read'],
    [{ trustedCaFile: garbage }, 'Precondition', `etcd trusted-ca-file: ${garbage} is not a PEM certificate`],
    [{ certFile: garbage }, 'Precondition', `etcd cert-file: ${garbage} is not a PEM certificate`],
    [{ keyFile: garbage }, 'Precondition', `etcd key-file: ${garbage} is not a PEM private key`],
    [{ keyFile: stranger.keyFile }, 'Precondition', `${stranger.keyFile} is not the key of ${own.certFile}`],
    [
      { trustedCaFile: stranger.certFile },
      'KvstoreUnavailable',
      `not trusted for this name (trusted-ca-file ${stranger.certFile})`,
    ],
    [stranger, 'KvstoreUnavailable', `does not accept our certificate (cert-file ${stranger.certFile})`],
  ] as const) {
    const error = await refusal({ ...config, ...broken });
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(text), `${error.message} says ${text}`);
  }
  const { endpoints, trustedCaFile } = config;
  const none = await refusal({ endpoints, trustedCaFile });
  assert.match(none.message, /does not accept our certificate \(cert-file is not set\)/);
  assert.match((await refusal({ endpoints })).message, /not trusted for this name \(trusted-ca-file is not set\)/);
  const plain = await refusal({ endpoints: [server.url.replace('https', 'http')] }, 300);
  assert.match(plain.message, /is https:\/\/ meant\?|ECONNRESET/);
});

test('https to an etcd that speaks http is told as such', async () => {
  await using world = await EtcdWorld.open();
  const error = await refusal({ endpoints: [world.server.url.replace('http', 'https')] }, 300);
  // Its "400 Bad Request" may be overtaken by the reset that follows.
  assert.match(error.message, /before TLS; is http:\/\/ meant\?|ECONNRESET/);
});
