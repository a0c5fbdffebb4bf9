// SPDX-License-Identifier: Apache-2.0

/** Listener and probe, over loopback: it has as many addresses as a test may want. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { test, type TestContext } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { IpAddress } from '../../net/ip.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { freePorts } from '../../tests/support/etcd-server.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { helloProbe } from './hello-probe.ts';
import { HelloServer } from './hello-server.ts';

const ENOUGH_MS = 10_000;
const [ONE, TWO, THREE] = ['127.0.7.1', '127.0.7.2', '::1'];

async function occupy(host: string, port: number): Promise<Server> {
  const server = createServer().listen({ host, port });
  await once(server, 'listening');
  return server;
}

interface World {
  readonly port: number;
  /** Where the server is to listen. */
  addresses: string[];
  readonly server: HelloServer;
  readonly ask: (address: string, timeoutMs?: number) => Promise<number>;
}

async function startServer(t: TestContext, addresses: string[]): Promise<World> {
  const [port] = (await freePorts(1)) as [number];
  const probe = helloProbe(port, systemClock);
  const world: World = {
    port,
    addresses,
    server: new HelloServer({
      port,
      addresses: () => world.addresses.map((text) => IpAddress.parse(text)),
      log: silentLogger,
      clock: systemClock,
    }),
    ask: (address, timeoutMs = ENOUGH_MS) => {
      return probe(IpAddress.parse(address), timeoutMs, new AbortController().signal);
    },
  };
  t.after(() => world.server.stop());
  return world;
}

const refused = /ECONNREFUSED/;

test('it answers on its addresses and on no other, and follows them', async (t) => {
  const world = await startServer(t, [ONE, THREE]);
  await world.server.start();
  for (const address of [ONE, THREE]) {
    const latency = await eventually('it answers', () => world.ask(address));
    assert.ok(latency > 0 && latency < ENOUGH_MS, String(latency));
  }
  await assert.rejects(world.ask(TWO), refused);
  await assert.rejects(world.ask('127.0.0.1'), refused);
  world.addresses = [TWO, THREE];
  world.server.changed();
  await eventually('it answers', () => world.ask(TWO));
  await world.ask(THREE);
  await assert.rejects(world.ask(ONE), refused);
  await world.server.stop();
  for (const address of [TWO, THREE]) await assert.rejects(world.ask(address), refused);
});

test('an address that another program has does not keep it from the others, and is tried again', async (t) => {
  const world = await startServer(t, [ONE, TWO]);
  const other = await occupy(ONE, world.port);
  await world.server.start();
  await eventually('it answers', () => world.ask(TWO));
  await eventually('the failure shows', () => world.server.status.consecutiveFailures > 0);
  assert.match(
    world.server.status.lastError ?? '',
    /^other nodes cannot ask this one at port \d+ \(--health-port\): listen EADDRINUSE: .*127\.0\.7\.1/,
  );
  other.close();
  await once(other, 'close');
  await eventually('it answers', () => world.ask(ONE));
  await eventually('all is well', () => world.server.status.consecutiveFailures === 0);
});

test('whoever asks for anything else gets nothing', async (t) => {
  const world = await startServer(t, [ONE]);
  await world.server.start();
  await eventually('it answers', () => world.ask(ONE));
  for (const [request, status] of [
    ['GET / HTTP/1.0\r\n\r\n', '404'],
    ['POST /hello HTTP/1.0\r\n\r\n', '404'],
    [`GET /hello HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(5_000)}\r\n\r\n`, '431'],
    ['nonsense\r\n\r\n', '400'],
  ] as const) {
    const socket = connect(world.port, ONE);
    socket.on('error', () => undefined); // it may be reset once it has been answered
    socket.end(request);
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `), request.slice(0, 20));
  }
});

test('the probe gives up after its time, and when it is called off', async (t) => {
  const [port] = (await freePorts(1)) as [number];
  const mute = await occupy(ONE, port);
  t.after(() => mute.close());
  const address = IpAddress.parse(ONE);
  const probe = helloProbe(port, systemClock);
  const off = new AbortController();
  const late = probe(address, 20, off.signal);
  await assert.rejects(
    late,
    (error) => isCiliumError(error, 'Timeout') && /no answer from 127\.0\.7\.1 within 20 ms/.test(error.message),
  );
  const called = probe(address, ENOUGH_MS, off.signal);
  off.abort();
  await assert.rejects(called, /abort/);
});

for (const [answer, said] of [
  ['HTTP/1.0 503 No\r\n\r\n', '503'],
  ['SSH-2.0-OpenSSH_9.2\r\n', 'nonsense'],
  ['HTTP', 'nothing'],
] as const) {
  test(`an answer such as ${JSON.stringify(answer)} is none`, async (t) => {
    const world = await startServer(t, []);
    const other = createServer((socket) => socket.end(answer)).listen({ host: ONE, port: world.port });
    await once(other, 'listening');
    t.after(() => other.close());
    await assert.rejects(world.ask(ONE), new RegExp(`^CiliumError: 127\\.0\\.7\\.1 answered ${said} to /hello$`));
  });
}
