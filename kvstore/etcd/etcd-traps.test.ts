// SPDX-License-Identifier: Apache-2.0

/** Where etcd3 and gRPC surprise, and that we are not surprised. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as etcd3 from 'etcd3';
import { EtcdWorld, SHORT_LEASES } from '../../tests/support/etcd-world.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { toNumber } from './etcd-messages.ts';

test('from etcd3 only names are imported that Node.js sees', () => {
  const visible = new Set(Object.keys(etcd3));
  assert.ok(visible.has('Etcd3'));
  for (const file of readdirSync(import.meta.dirname).filter((name) => !name.endsWith('.test.ts'))) {
    const text = readFileSync(join(import.meta.dirname, file), 'utf8');
    for (const [, names] of text.matchAll(/^import \{([^}]+)\} from 'etcd3'/gm)) {
      for (const name of names!.split(',').map((part) => part.trim())) {
        assert.ok(name.startsWith('type ') || visible.has(name), `${file} imports ${name}`);
      }
    }
  }
});

test('numbers come as text: revisions are numbers, and what a number cannot hold is refused', async () => {
  await using world = await EtcdWorld.open();
  const revision = await world.observer.put('a', '1');
  assert.deepEqual(await world.observer.get('a'), {
    key: 'a',
    value: '1',
    createRevision: revision,
    modRevision: revision,
  });
  assert.equal(await world.observer.put('a', '2'), revision + 1);
  assert.throws(() => toNumber('9007199254740993'), /9007199254740993/);
});

for (const state of ['there', 'killed']) {
  test(`a process whose client has stopped ends by itself, with etcd ${state}, and hears nothing more`, async () => {
    await using world = await EtcdWorld.open();
    const script = join(import.meta.dirname, '../../tests/support/kvstore-leaver.ts');
    const child = spawn(process.execPath, [script, world.server.url], { stdio: ['pipe', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    await eventually('it watches', () => output.includes('watching\n'));
    if (state === 'killed') await world.server.stop();
    const ended = once(child, 'exit');
    child.stdin.end('stop\n');
    assert.deepEqual(await ended, [0, null]);
    assert.match(output, /^watching\n(lost\n)?stopped\n$/);
  });
}

test('a request to an etcd that hangs has an end of its own, and the next endpoint is asked', async () => {
  await using world = await EtcdWorld.open({ size: 3 });
  const [hanging, , other] = world.servers;
  const patient = { pingMs: 60_000, requestTimeoutMs: 500 };
  const alone = await world.connect({ endpoints: [hanging!.url] }, patient);
  const client = await world.connect({ endpoints: [hanging!.url, other!.url] }, patient, { random: () => 0 });
  hanging!.hang();
  await assert.rejects(alone.get('a'), /no answer in time/);
  await eventually('an answer', () => client.get('a').then(() => true));
});

test('etcd is found again soon after an outage', async () => {
  await using world = await EtcdWorld.open();
  const wire = await world.wire();
  const client = await world.connect({ endpoints: [wire.url] });
  await wire.cut();
  for (let i = 0; i < 30; i++) {
    await assert.rejects(client.get('a'));
    await world.pause(50);
  }
  await wire.mend();
  await eventually('a request', () => client.get('a').then(() => true));
});

test('a jump of the clock ends no session and no request', async (t) => {
  await using world = await EtcdWorld.open();
  const client = await world.connect({}, {}, SHORT_LEASES);
  client.onSessionLost(() => assert.fail('the session was lost'));
  await client.put('own', '1', { leased: true });
  const now = Date.now.bind(Date);
  for (const hours of [1, -2]) {
    t.mock.method(Date, 'now', () => now() + hours * 3_600_000);
    await world.pause(SHORT_LEASES.sessionTtlMs + 1_000);
    assert.equal(client.isOwn((await client.get('own'))!), true);
    await (await client.lock('locks/a')).unlock();
  }
});

test('a proxy of the environment is not for etcd', async () => {
  await using world = await EtcdWorld.open();
  process.env['http_proxy'] = 'http://127.0.0.1:1';
  try {
    await (await world.connect()).put('a', '1');
  } finally {
    delete process.env['http_proxy'];
  }
});
