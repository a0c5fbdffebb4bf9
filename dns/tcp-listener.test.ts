// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { eventually } from '../tests/support/eventually.ts';
import { askTcp } from './fake/fake-upstream.ts';
import type { Responder } from './responder.ts';
import { TcpListener } from './tcp-listener.ts';

/** A listener that answers each message by `respond`, and closes what is idle for the time given. */
async function listener(
  t: TestContext,
  respond: (bytes: Buffer) => Promise<Buffer>,
  idleMs: number,
): Promise<TcpListener> {
  const responder = { respond: (bytes: Buffer) => respond(bytes) } as unknown as Responder;
  const opened = await TcpListener.open('127.0.0.1', 0, responder, () => undefined, { idleMs });
  t.after(() => opened.close());
  return opened;
}

test('a connection without a question is closed, and so is one whose question never ends', async (t) => {
  const { port } = await listener(t, (bytes) => Promise.resolve(bytes), 50);
  const silent = connect(port, '127.0.0.1').resume();
  const slow = connect(port, '127.0.0.1').resume();
  slow.on('error', () => undefined);
  await once(slow, 'connect');
  slow.write(Buffer.from([0, 200]));
  const drip = setInterval(() => slow.write(Buffer.from([0])), 10);
  t.after(() => clearInterval(drip));
  const closed = new Promise((resolve) => slow.on('close', resolve));
  await Promise.all([once(silent, 'close'), closed]);
});

test('questions on one connection wait their turn, and all are answered', async (t) => {
  let underWay = 0;
  let most = 0;
  const gate = Promise.withResolvers<undefined>();
  const { port } = await listener(
    t,
    async (bytes) => {
      most = Math.max(most, ++underWay);
      await gate.promise;
      underWay--;
      return bytes;
    },
    60_000,
  );
  // Longer than what is read at once, so that not all of them are under way when reading stops.
  const messages = Array.from({ length: 200 }, (_unused, index) => Buffer.alloc(2_000, index));
  const answers = askTcp(messages, port);
  await eventually('some are under way', () => most >= 16);
  gate.resolve(undefined);
  assert.deepEqual(await answers, messages);
  assert.ok(most < 100, `${most} of 200 at once`);
});

test('connections end with the listener', async (t) => {
  const opened = await listener(t, (bytes) => Promise.resolve(bytes), 60_000);
  const socket = connect(opened.port, '127.0.0.1').resume();
  socket.on('error', () => undefined);
  await eventually('connected', () => opened.connections === 1);
  const closed = once(socket, 'close');
  await opened.close();
  await closed;
  await eventually('none is left', () => opened.connections === 0);
});
