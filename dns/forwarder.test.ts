// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { eventually } from '../tests/support/eventually.ts';
import { fakeUpstream, reply, type Asked, type Handler } from './fake/fake-upstream.ts';
import { queryBytes, type QueryOptions } from './fake/queries.ts';
import { Forwarder } from './forwarder.ts';
import { rcodeOf, readQuery, withId, type Query } from './message.ts';
import type { Upstream } from './upstream.ts';

/** Nobody answers there. */
const NOWHERE: Upstream = { address: '127.0.0.1', port: 1 };
/** Longer than any test: a server that is silent for so long is never given up. */
const NEVER_MS = 600_000;
const silent: Handler = () => [];

function query(name: string, options?: QueryOptions): Query {
  const received = readQuery(queryBytes(name, options));
  assert.ok('query' in received);
  return received.query;
}

function forwarder(servers: readonly Upstream[], times: { nextServerMs?: number; giveUpMs?: number } = {}): Forwarder {
  return new Forwarder({
    servers: () => servers,
    clock: new ManualClock(),
    nextServerMs: NEVER_MS,
    giveUpMs: NEVER_MS,
    ...times,
  });
}

function addressIn(message: Buffer | undefined): unknown {
  assert.ok(message);
  const [answer] = decode(message).answers!;
  return answer && 'data' in answer ? answer.data : undefined;
}

for (const transport of ['udp', 'tcp'] as const) {
  test(`a question and its reply go through unchanged but for their number (${transport})`, async (t) => {
    const server = await fakeUpstream(t, (asked) => [reply(asked)]);
    const asked = query('www.Example', { udpSize: 1400, id: 77 });
    const answer = await forwarder([server]).ask(asked, 'c1', transport);
    const [seen] = server.asked;
    assert.equal(seen?.transport, transport);
    assert.deepEqual(withId(seen.bytes, 77), asked.bytes);
    assert.equal(answer?.readUInt16BE(0), 77);
    assert.equal(addressIn(answer), '192.0.2.1');
  });

  test(`the next server is asked when one cannot be reached (${transport})`, async (t) => {
    const server = await fakeUpstream(t, (asked) => [reply(asked)]);
    const both = forwarder([NOWHERE, server]);
    assert.equal(addressIn(await both.ask(query('a.example'), 'c1', transport)), '192.0.2.1');
  });
}

test('nobody can guess the number and the port of a question', async (t) => {
  const server = await fakeUpstream(t, (asked) => [reply(asked)]);
  const one = forwarder([server]);
  for (let count = 0; count < 50; count++) await one.ask(query('a.example', { id: 1 }), 'c1', 'udp');
  const ids = new Set(server.asked.map(({ packet }) => packet.id));
  const ports = new Set(server.asked.map(({ port }) => port));
  assert.ok(ids.size > 45 && ports.size > 30, `${ids.size} numbers, ${ports.size} ports`);
  const steps = server.asked.map(({ packet }, index) => packet.id! - (server.asked[index - 1]?.packet.id ?? 0));
  assert.ok(new Set(steps).size > 45, 'no number follows from the one before');
});

test('what does not answer the question is not heard, nor is anybody else than the server', async (t) => {
  const stranger = createSocket('udp4').bind(0, '127.0.0.1');
  t.after(() => stranger.close());
  await once(stranger, 'listening');
  const server = await fakeUpstream(t, async (asked) => {
    const forged = reply(asked, '203.0.113.66');
    await new Promise((sent) => stranger.send(forged, asked.port, '127.0.0.1', sent));
    const otherQuestion = Buffer.from(forged.toString('latin1').replaceAll('good', 'evil'), 'latin1');
    return [withId(forged, asked.packet.id! ^ 1), asked.bytes, otherQuestion, forged.subarray(0, 7), reply(asked)];
  });
  assert.equal(addressIn(await forwarder([server]).ask(query('good.example'), 'c1', 'udp')), '192.0.2.1');
});

test('over TCP a reply to another question ends the connection, and the next server is asked', async (t) => {
  const liar = await fakeUpstream(t, (asked) => [withId(reply(asked, '203.0.113.66'), asked.packet.id! ^ 1)]);
  const server = await fakeUpstream(t, (asked) => [reply(asked)]);
  assert.equal(addressIn(await forwarder([liar, server]).ask(query('a.example'), 'c1', 'tcp')), '192.0.2.1');
});

test('a silent server is not waited for: the next is asked beside it', async (t) => {
  const dumb = await fakeUpstream(t, silent);
  const server = await fakeUpstream(t, (asked) => [reply(asked)]);
  const both = forwarder([dumb, server], { nextServerMs: 20 });
  assert.equal(addressIn(await both.ask(query('a.example'), 'c1', 'udp')), '192.0.2.1');
});

test('a server that is alone is asked twice, and in the end there is no answer', async (t) => {
  const dumb = await fakeUpstream(t, silent);
  const alone = forwarder([dumb], { nextServerMs: 1, giveUpMs: 1_000 });
  assert.equal(await alone.ask(query('a.example'), 'c1', 'udp'), undefined);
  await eventually('it has been asked twice', () => dumb.asked.length === 2);
});

test('a server that failed is asked last for a while', async (t) => {
  const reserved = createServer().listen(0, '127.0.0.1');
  await once(reserved, 'listening');
  const { port } = reserved.address() as AddressInfo;
  reserved.close();
  await once(reserved, 'close');
  const second = await fakeUpstream(t, (asked) => [reply(asked, '192.0.2.2')]);
  const clock = new ManualClock();
  const both = new Forwarder({
    servers: () => [{ address: '127.0.0.1', port }, second],
    clock,
    nextServerMs: NEVER_MS,
    giveUpMs: NEVER_MS,
  });
  assert.equal(addressIn(await both.ask(query('a.example'), 'c1', 'udp')), '192.0.2.2');
  const first = await fakeUpstream(t, (asked) => [reply(asked, '192.0.2.1')], port);
  assert.equal(addressIn(await both.ask(query('a.example'), 'c1', 'udp')), '192.0.2.2');
  assert.equal(first.asked.length, 0);
  await clock.advance(30_000);
  assert.equal(addressIn(await both.ask(query('a.example'), 'c1', 'udp')), '192.0.2.1');
});

test('one that let its time pass counts as failed', async (t) => {
  const order: string[] = [];
  const note = (who: string, { packet }: Asked): number => order.push(`${packet.questions![0]!.name} ${who}`);
  const slow = await fakeUpstream(t, (asked) => (note('slow', asked), []));
  const server = await fakeUpstream(t, (asked) => (note('server', asked), [reply(asked)]));
  const both = forwarder([slow, server], { nextServerMs: 100 });
  await both.ask(query('a.example'), 'c1', 'udp');
  await both.ask(query('b.example'), 'c1', 'udp');
  assert.deepEqual(order.slice(0, 3), ['a.example slow', 'a.example server', 'b.example server']);
});

for (const rcode of [2, 4, 5]) {
  test(`a server that says ${rcode} is not the last word unless all say so`, async (t) => {
    const unwilling = await fakeUpstream(t, (asked) => [reply(asked, '', rcode)]);
    const server = await fakeUpstream(t, (asked) => [reply(asked)]);
    const asked = query('a.example');
    assert.equal(addressIn(await forwarder([unwilling, server]).ask(asked, 'c1', 'udp')), '192.0.2.1');
    const answer = await forwarder([unwilling, NOWHERE]).ask(asked, 'c1', 'udp');
    assert.equal(answer && rcodeOf(answer), rcode);
  });
}

test('that a name does not exist is an answer', async (t) => {
  const first = await fakeUpstream(t, (asked) => [reply(asked, '', 3)]);
  const second = await fakeUpstream(t, (asked) => [reply(asked)]);
  const answer = await forwarder([first, second]).ask(query('a.example'), 'c1', 'udp');
  assert.equal(answer && rcodeOf(answer), 3);
  assert.equal(second.asked.length, 0);
});

test('without servers there is no answer', async () => {
  const none = forwarder([]);
  assert.equal(none.hasServers, false);
  assert.equal(await none.ask(query('a.example'), 'c1', 'udp'), undefined);
});

test('a client that waits for a hundred replies gets no more room, others do', async (t) => {
  const hold = Promise.withResolvers<undefined>();
  const server = await fakeUpstream(t, async (asked) => {
    await hold.promise;
    return [reply(asked)];
  });
  const one = forwarder([server]);
  const waiting = Array.from({ length: 100 }, () => one.ask(query('slow.example'), 'greedy', 'udp'));
  assert.equal(await one.ask(query('slow.example'), 'greedy', 'udp'), undefined);
  const other = one.ask(query('slow.example'), 'modest', 'udp');
  await eventually('all are asked', () => server.asked.length === 101);
  assert.equal(one.inFlight, 101);
  hold.resolve(undefined);
  for (const answer of await Promise.all([...waiting, other])) assert.equal(addressIn(answer), '192.0.2.1');
  assert.equal(one.inFlight, 0);
  assert.ok(await one.ask(query('fast.example'), 'greedy', 'udp'));
});

test('what is under way ends when the server stops, and nothing is asked any more', async (t) => {
  const server = await fakeUpstream(t, silent);
  const one = forwarder([server]);
  const udp = one.ask(query('a.example'), 'c1', 'udp');
  const tcp = one.ask(query('a.example'), 'c1', 'tcp');
  await eventually('both are asked', () => server.asked.length === 2);
  one.stop();
  assert.deepEqual(await Promise.all([udp, tcp]), [undefined, undefined]);
  assert.equal(await one.ask(query('a.example'), 'c1', 'udp'), undefined);
  assert.equal(server.asked.length, 2);
});
