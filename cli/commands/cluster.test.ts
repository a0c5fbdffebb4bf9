// SPDX-License-Identifier: Apache-2.0

/** Commands about what nodes share: nodes, addresses, identities in use, keys. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand, startNode } from '../../tests/support/fake-node.ts';

const MASTER = 'cilium/state/identities/v1/id/41029';

/** Lines with the blanks at their ends made visible. */
function lines(text: string): string[] {
  return text.split('\n').map((line) => line.replace(/ +$/, (blanks) => '.'.repeat(blanks.length)));
}

test('node list shows addresses and ranges, a node a row', async (t) => {
  const { run, services } = await startNode(t);
  services.nodeList.reverse();
  assert.deepEqual(lines((await run('node', 'list')).stdout), [
    'Name    IPv4 Address    Endpoint CIDR   IPv6 Address   Endpoint CIDR   Source',
    'node1   192.168.60.11   10.11.0.0/16    fd00::11       f00d:b::/96     local',
    'node2   192.168.60.12   10.12.0.0/16    <nil>          <nil>           kvstore',
    '',
  ]);
  const { stdout } = await run('node', 'ls', '-o', 'jsonpath={[*].name} {[0].secondary-addresses[0].ip}');
  assert.equal(stdout, 'node2 node1 10.12.255.254\n');
  const json = JSON.parse((await run('node', 'list', '-o', 'json')).stdout) as unknown;
  assert.deepEqual(json, services.nodeList);
});

test('ip list shows each address with its labels, or numbers, and who says so', async (t) => {
  const { run, services } = await startNode(t);
  services.addressList.splice(2, 0, { ...services.addressList[0]!, cidr: '10.12.0.0/16', identity: 0 });
  assert.deepEqual(lines((await run('ip', 'list')).stdout), [
    'IP              IDENTITY             SOURCE',
    '0.0.0.0/0       reserved:world       agent-local',
    '10.11.0.40/32   container:id=app1    agent-local',
    '                container:tier=web...',
    '10.12.0.0/16    reserved:unknown     agent-local',
    '10.12.0.7/32    container:id=app2    kvstore',
    '192.0.2.0/24    16777217             generated',
    '',
  ]);
  assert.deepEqual(lines((await run('ip', 'list', '-n', '-v')).stdout), [
    'IP              IDENTITY   SOURCE        HOST            ENCRYPT_KEY',
    '0.0.0.0/0       2          agent-local                   0',
    '10.11.0.40/32   41173      agent-local                   0',
    '10.12.0.0/16    0          agent-local                   0',
    '10.12.0.7/32    41029      kvstore       192.168.60.12   0',
    '192.0.2.0/24    16777217   generated                     0',
    '',
  ]);
  const { stdout } = await run('ip', 'list', '-o', 'jsonpath={[?(@.hostIP=="192.168.60.12")].metadata.name}');
  assert.equal(stdout, 'web\n');
});

test('ip get finds addresses by prefix, as themselves and by labels', async (t) => {
  const { run } = await startNode(t);
  const found = async (...argv: string[]) => (await run('ip', 'get', ...argv, '-o', 'jsonpath={[*].cidr}')).stdout;
  assert.equal(await found('10.0.0.0/8'), '10.11.0.40/32 10.12.0.7/32\n');
  assert.equal(await found('10.12.0.7'), '10.12.0.7/32\n');
  assert.match((await run('ip', 'get', '10.12.0.7')).stdout, /^IP .*\n10\.12\.0\.7\/32 +container:id=app2 +kvstore\n$/);
  assert.deepEqual(lines((await run('ip', 'get', '-l', 'container:id=app2')).stdout), [
    '='.repeat(80),
    'container:id=app2',
    '='.repeat(80),
    'IP             HOST            IDENTITY   POD   NAMESPACE',
    '10.12.0.7/32   192.168.60.12   41029      web   N/A',
    '',
  ]);
  for (const [argv, error] of [
    [['172.16.0.0/12'], 'no address in 172.16.0.0/12 is known'],
    [['-l', 'container:id=none'], 'no address whose identity carries container:id=none is known'],
    [['10.12.0.256'], '"10.12.0.256" is not an IP address'],
    [[], 'give either a prefix such as 10.15.0.0/24 or --labels'],
  ] as const) {
    const { stdout, stderr, status } = await run('ip', 'get', ...argv);
    assert.deepEqual([stdout, stderr, status], ['', `Error: ${error}\n`, 1]);
  }
});

test('identity list --endpoints counts who has an identity here', async (t) => {
  const { run, services } = await startNode(t);
  services.endpointList.push({ ...services.endpointList[1]!, id: 30 });
  assert.deepEqual(lines((await run('identity', 'list', '--endpoints')).stdout), [
    'ID      LABELS               REFCOUNT',
    '41029   container:id=app2    2....',
    '41173   container:id=app1    1....',
    '        container:tier=web........',
    '',
  ]);
  assert.equal((await run('identity', 'list', '--endpoints', '-o', 'jsonpath={[*].refCount}')).stdout, '2 1\n');
});

test('identity get names the number that nobody has', async (t) => {
  const { run } = await startNode(t);
  const { stderr, status } = await run('identity', 'get', '9');
  assert.deepEqual([stderr, status], ['Error: Cannot get identity for given ID 9: identity 9 not found\n', 1]);
});

test('kvstore set writes, get shows, delete takes away', async (t) => {
  const { run } = await startNode(t);
  assert.deepEqual(await run('kvstore', 'set', '--key', 'app/1', '--value', 'a => ä'), {
    stdout: '',
    stderr: '',
    status: 0,
  });
  await run('kvstore', 'set', '--key=app/2', '--value=');
  assert.equal((await run('kvstore', 'get', 'app/1')).stdout, 'app/1 => a => ä\n');
  assert.equal((await run('kvstore', 'get', 'app/1', '-o', 'json')).stdout, '"a => ä"\n\n');
  assert.equal((await run('kvstore', 'get', '--recursive', 'app/')).stdout, 'app/1 => a => ä\napp/2 => \n');
  const json = (await run('kvstore', 'get', '--recursive', 'app/', '-o', 'json')).stdout;
  assert.deepEqual(JSON.parse(json), {
    'app/1': { Data: Buffer.from('a => ä').toString('base64'), LeaseID: '0', ModRevision: 2 },
    'app/2': { Data: '', LeaseID: '0', ModRevision: 3 },
  });
  assert.deepEqual(await run('kvstore', 'delete', 'app/1'), { stdout: '', stderr: '', status: 0 });
  assert.deepEqual(await run('kvstore', 'delete', 'app/1'), { stdout: '', stderr: 'No entries found.\n', status: 0 });
  const missing = await run('kvstore', 'get', 'app/1');
  assert.deepEqual(missing, { stdout: '', stderr: 'Error: key app/1 is not found\n', status: 1 });
  assert.equal((await run('kvstore', 'delete', '--recursive', 'app')).status, 0);
  assert.deepEqual(await run('kvstore', 'get', '--recursive', ''), {
    stdout: '',
    stderr: 'No entries found.\n',
    status: 0,
  });
});

test('kvstore changes what the agents live from with --force only', async (t) => {
  const { run, services } = await startNode(t);
  const entry = { key: MASTER, value: 'container:id=app2;', createRevision: 1, modRevision: 1, leaseId: '7f' };
  services.keys.set(MASTER, entry);
  for (const argv of [
    ['set', '--key', MASTER, '--value', 'container:id=evil;'],
    ['delete', MASTER],
    ['delete', '--recursive', 'cilium'],
    ['delete', '--recursive', ''],
  ]) {
    const { stdout, stderr, status } = await run('kvstore', ...argv);
    assert.deepEqual([stdout, status], ['', 1], argv.join(' '));
    assert.match(stderr, /^Error: keys? .* belongs? to the agents: .*--force .*\n$/);
  }
  assert.deepEqual([...services.keys.values()], [entry]);
  assert.equal((await run('kvstore', 'delete', '--recursive', '--force', '')).status, 0);
  assert.equal(services.keys.size, 0);
});

test('kvstore says what is missing or does not fit', async (t) => {
  const { run } = await startNode(t);
  for (const [argv, error] of [
    [['set', '--value', 'x'], 'give --key and --value: --key is missing'],
    [['set', '--key', 'x'], 'give --key and --value: --value is missing'],
    [['get', 'x', '--kvstore', 'consul'], '--kvstore: found "consul", expected etcd'],
    [['get', 'x', '--kvstore-opt', 'etcd.address=http://a'], '--kvstore-opt is for --kvstore=etcd'],
    [
      ['get', 'x', '--kvstore', 'etcd', '--kvstore-opt', 'etcd.address=http://a,etcd.port=1'],
      '--kvstore-opt etcd.port=1: expected etcd.address=URL or etcd.config=FILE',
    ],
    [['get', ''], 'key: found nothing, expected a key such as app/greeting'],
  ] as const) {
    const { stdout, stderr, status } = await run('kvstore', ...argv);
    assert.deepEqual([stdout, stderr, status], ['', `Error: ${error}\n`, 1]);
  }
  assert.match((await runCommand(['kvstore', 'get'])).stderr, /missing required argument 'key'/);
});

test('kvstore of an etcd that is away fails with the reason, and waits for it until then', () => {
  const main = join(import.meta.dirname, '../main.ts');
  const etcd = ['--kvstore', 'etcd', '--kvstore-opt', 'etcd.address=http://127.0.0.1:1'];
  const { stdout, stderr, status } = spawnSync(process.execPath, [main, 'kvstore', 'get', 'x', ...etcd], {
    encoding: 'utf8',
  });
  assert.deepEqual([stdout, status], ['', 1]);
  assert.match(stderr, /^Error: etcd .*http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/m);
});
