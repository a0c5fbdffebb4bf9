// SPDX-License-Identifier: Apache-2.0

/**
 * Names of containers on another node, asked in a container of Docker's own resolver (127.0.0.11), which asks the agent of
 * its node for what it does not know; and of the agent itself.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { OUTSIDE } from '../../lab/addresses.ts';
import { HOME } from '../../lab/node.ts';
import { ClusterWorld, type Member } from './cluster-world.ts';
import { eventually, labForTests } from './support.ts';

const DOCKER = '127.0.0.11';
const PROGRAM = join(HOME, 'tests/support/dns-program.ts');
const lab = labForTests({ nodes: 2 });
const world = new ClusterWorld(lab);
let upstream: ChildProcess | undefined;
let router = '';
let router6 = '';
/** A container of node1 that asks, and one of node2 that is asked for. */
let asker: Member;
let app2: Member;

test('two nodes with a network of the same name, whose host asks a server outside', async () => {
  upstream = lab.outside.spawn('exec', [process.execPath, PROGRAM, 'serve', OUTSIDE.ipv4], { stdio: 'inherit' });
  const resolvConf = join(lab.dir, 'resolv.conf');
  writeFileSync(resolvConf, `nameserver ${OUTSIDE.ipv4}\n`);
  await Promise.all(lab.nodes.map((node) => node.exec(['mount', '--bind', resolvConf, '/etc/resolv.conf'])));
  const shown = await lab.node(1).exec(['ip', '-o', 'addr', 'show', 'cilium_host', 'scope', 'global']);
  router = /inet ([\d.]+)/.exec(shown)?.[1] ?? '';
  router6 = /inet6 ([\da-f:]+)/.exec(shown)?.[1] ?? '';
  // The second server is for the time when the agent is away.
  await lab.node(1).stopDockerd();
  await lab.node(1).startDockerd(['--dns', OUTSIDE.ipv4]);
  await world.createNetwork();
  asker = await world.run(1, 'asker', 'asker');
  app2 = await world.run(2, 'app2', 'app2', '--network-alias', 'db', '--network-alias', 'backend.internal');
});

after(() => upstream?.kill());

interface How {
  readonly of?: string;
  readonly over?: 'udp' | 'tcp';
  readonly from?: Member;
}

/** What a server says in the network of a container: response code, then records. */
async function ask(name: string, type = 'A', how: How = {}): Promise<string> {
  const [line = ''] = await askAll([name], type, how);
  return line;
}

async function askAll(names: readonly string[], type = 'A', how: How = {}): Promise<string[]> {
  const { of = DOCKER, over = 'udp', from = asker } = how;
  return (await from.run(process.execPath, PROGRAM, 'ask', of, over, type, ...names)).trim().split('\n');
}

function assertSays(expected: string, name: string, type = 'A', how: How = {}): Promise<void> {
  return eventually(async () => assert.equal(await ask(name, type, how), expected, `${name} ${type}`));
}

test('a container of another node is found by its name, its aliases, its short id and with its network', async () => {
  const shortId = (await lab.node(2).docker(['ps', '-q', '--filter', 'name=app2'])).trim();
  await assertSays(`NOERROR A ${app2.ipv4}`, 'db');
  const names = ['app2', 'APP2', 'backend.internal', shortId, 'app2.net1', 'db.net1'];
  assert.deepEqual(await askAll(names), new Array(names.length).fill(`NOERROR A ${app2.ipv4}`));
  assert.equal(await ask('db', 'AAAA'), `NOERROR AAAA ${app2.ipv6}`);
  for (const own of [router, router6]) assert.equal(await ask('db', 'A', { of: own }), `NOERROR A ${app2.ipv4}`, own);
  assert.equal(await ask('db', 'TXT', { of: router, over: 'tcp' }), 'NOERROR', 'known, but nothing of this type');
  const backwards = `${app2.ipv4.split('.').reverse().join('.')}.in-addr.arpa`;
  assert.equal(await ask(backwards, 'PTR'), 'NOERROR PTR app2.net1');
  const page = await lab.node(1).docker(['exec', 'asker', 'wget', '-q', '-O', '-', 'http://db/cgi-bin/client']);
  assert.match(page, new RegExp(`${asker.ipv4}|${asker.ipv6}`));
});

test('a name is known on its own network only', async () => {
  const stranger = await world.runElsewhere(1, 'stranger', []);
  assert.equal(await ask('db', 'A', { from: stranger }), 'NXDOMAIN');
  assert.equal(await ask('app2.net1', 'A', { from: stranger, of: router }), 'NXDOMAIN');
  await lab.node(1).docker(['network', 'connect', 'net1', 'stranger']);
  await assertSays(`NOERROR A ${app2.ipv4}`, 'db', 'A', { from: stranger });
});

test('all else is asked of the servers of the node, over TCP where it has to be', async () => {
  const replies = await askAll(['www.test', 'big.test', 'nobody']);
  assert.deepEqual(replies, ['NOERROR A 203.0.113.1', 'NOERROR cut', 'NXDOMAIN']);
  assert.match(await ask('big.test', 'A', { over: 'tcp' }), /^NOERROR( A 203\.0\.113\.\d+){60}$/);
  assert.equal(await ask('nobody.test', 'A', { of: router, over: 'tcp' }), 'NXDOMAIN');
});

test('an alias of several containers is all of them', async () => {
  const more = await Promise.all(['one', 'two'].map((name) => world.run(2, name, name, '--network-alias', 'pool')));
  await assertSays(
    `NOERROR ${more
      .map(({ ipv4 }) => `A ${ipv4}`)
      .sort()
      .join(' ')}`,
    'pool',
  );
  await world.remove('one');
  await assertSays(`NOERROR A ${more[1]!.ipv4}`, 'pool');
});

test('a name changes with its container, and goes with it', async () => {
  await lab.node(2).docker(['rename', 'two', 'three']);
  await assertSays('NXDOMAIN', 'two');
  assert.equal(await ask('three'), await ask('pool'));
  await lab.node(2).docker(['rm', '-f', 'three']);
  await assertSays('NXDOMAIN', 'three');
  assert.equal(await ask('pool'), 'NXDOMAIN');
});

test('aliases outlive the agents of both nodes, and names of the world need none', async () => {
  await Promise.all(lab.nodes.map((node) => node.killAgent()));
  assert.equal(await ask('www.test'), 'NOERROR A 203.0.113.1');
  await Promise.all(lab.nodes.map((node) => node.startAgent()));
  await assertSays(`NOERROR A ${app2.ipv4}`, 'backend.internal');
  await lab.node(2).docker(['rename', 'app2', 'renamed']);
  await assertSays(`NOERROR A ${app2.ipv4}`, 'renamed');
});

test('with egress enforced a container needs the host on port 53 for it', async () => {
  const rule = (egress: object) => ({
    endpointSelector: { matchLabels: { 'container:id': 'asker' } },
    egress: [egress],
  });
  await world.importPolicy([rule({ toEntities: ['world'] })]);
  assert.equal(await ask('db', 'A', { of: router }), 'silence');
  const ports = ['UDP', 'TCP'].map((protocol) => ({ port: '53', protocol }));
  await world.importPolicy([rule({ toEntities: ['host'], toPorts: [{ ports }] })]);
  await assertSays(`NOERROR A ${app2.ipv4}`, 'db');
  await world.importPolicy([]);
});

test('the node is no resolver for the wire', async () => {
  const { outside } = lab;
  await outside.exec(['ip', 'route', 'add', `${router}/32`, 'via', lab.node(1).addresses.ipv4]);
  const question = [process.execPath, PROGRAM, 'ask', router, 'udp', 'A', 'www.test'];
  assert.equal((await outside.exec(question)).trim(), 'REFUSED');
  assert.equal((await lab.node(1).exec(question)).trim(), 'NOERROR A 203.0.113.1', 'the node itself may ask');
  const bridged = await lab.node(1).docker(['run', '--rm', 'busybox', 'nslookup', 'www.test']);
  assert.match(bridged, /203\.0\.113\.1/, 'and so may a container on a bridge of Docker');
});
