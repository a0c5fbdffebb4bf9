// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { decode } from 'dns-packet';
import { IpAddress } from '../net/ip.ts';
import { systemClock } from '../runtime/clock.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { eventually } from '../tests/support/eventually.ts';
import { DnsServer } from './dns-server.ts';
import { askTcp, askUdp, fakeUpstream, reply, type FakeUpstream, type Handler } from './fake/fake-upstream.ts';
import { queryBytes, type QueryOptions } from './fake/queries.ts';
import { Forwarder } from './forwarder.ts';
import { rcodeOf } from './message.ts';
import { NameTable } from './name-table.ts';
import { RateLimit } from './rate-limit.ts';
import { Responder } from './responder.ts';
import { streamed } from './stream.ts';

const HERE = '127.0.0.1';
/** Records as text, the response code and whether it is cut. */
type Answer = readonly [rcode: number, isCut: boolean, ...records: string[]];

interface World {
  readonly names: NameTable;
  readonly upstream: FakeUpstream;
  complete: boolean;
  allowed: boolean;
  rate: RateLimit;
  readonly server: DnsServer;
  readonly port: (transport: 'udp' | 'tcp') => number;
  readonly ask: (name: string, options?: QueryOptions) => Promise<Answer>;
}

/** A server whose client, this process, is container c1 on network net1, with one upstream server. */
async function world(
  t: TestContext,
  handler: Handler = (asked) => [reply(asked)],
  servers = 1,
  times: { nextServerMs?: number; giveUpMs?: number } = {},
): Promise<World> {
  const names = new NameTable();
  names.set({ address: IpAddress.parse(HERE), names: ['me'], network: 'net1', containerId: 'c1' });
  const upstream = await fakeUpstream(t, handler);
  const forwarder = new Forwarder({ servers: () => [upstream].slice(0, servers), clock: systemClock, ...times });
  const it: World = {
    names,
    upstream,
    complete: true,
    allowed: true,
    rate: new RateLimit(systemClock),
    server: new DnsServer({
      addresses: [HERE],
      port: 0,
      responder: new Responder({
        names,
        forwarder,
        mayAsk: () => it.allowed,
        isComplete: () => it.complete,
        rate: { admit: (client) => it.rate.admit(client) },
      }),
      forwarder,
      log: silentLogger,
      clock: systemClock,
    }),
    port: (transport) => it.server.portOf(HERE, transport)!,
    ask: async (name, options) => readable(await askUdp(queryBytes(name, options), it.port('udp'))),
  };
  await it.server.start();
  t.after(() => it.server.stop());
  await eventually('the server listens', () => it.server.status.successCount > 0);
  return it;
}

function readable(bytes: Buffer): Answer {
  const packet = decode(bytes) as ReturnType<typeof decode> & { flag_tc: boolean };
  const records = packet.answers!.map((record) => ('data' in record ? `${record.type} ${record.data as string}` : ''));
  return [rcodeOf(bytes), packet.flag_tc, ...records];
}

function add(names: NameTable, address: string, own: readonly string[], network = 'net1'): void {
  names.set({ address: IpAddress.parse(address), names: own, network });
}

test('a container is found by its names and its address, and what is not known of it is an empty answer', async (t) => {
  const { names, ask, upstream } = await world(t);
  add(names, '10.2.0.5', ['App2', '0123456789ab', 'web']);
  add(names, 'fd15::5', ['app2', '0123456789ab', 'web']);
  add(names, '10.2.0.6', ['only4']);
  assert.deepEqual(await ask('app2'), [0, false, 'A 10.2.0.5']);
  assert.deepEqual(await ask('APP2', { type: 'AAAA' }), [0, false, 'AAAA fd15::5']);
  assert.deepEqual(await ask('web.net1'), [0, false, 'A 10.2.0.5']);
  assert.deepEqual(await ask('0123456789ab'), [0, false, 'A 10.2.0.5']);
  assert.deepEqual(await ask('only4', { type: 'AAAA' }), [0, false], 'the name exists');
  assert.deepEqual(await ask('app2', { type: 'MX' }), [0, false]);
  assert.deepEqual(await ask('5.0.2.10.in-addr.arpa', { type: 'PTR' }), [0, false, 'PTR app2.net1']);
  assert.deepEqual(await ask('5.0.2.10.in-addr.arpa', { type: 'TXT' }), [0, false]);
  const ip6 = `${Buffer.from(IpAddress.parse('fd15::5').bytes).toString('hex').split('').reverse().join('.')}.ip6.arpa`;
  assert.deepEqual(await ask(ip6, { type: 'PTR' }), [0, false, 'PTR app2.net1']);
  assert.equal(upstream.asked.length, 0);
});

test('names of networks that the client is not on are not ours', async (t) => {
  const { names, ask, upstream } = await world(t, (asked) => [reply(asked, '', 3)]);
  add(names, '10.2.0.5', ['secret'], 'net2');
  assert.deepEqual(await ask('secret'), [3, false]);
  assert.deepEqual(await ask('secret.net2'), [3, false]);
  assert.deepEqual(await ask('5.0.2.10.in-addr.arpa', { type: 'PTR' }), [3, false]);
  assert.equal(upstream.asked.length, 3, 'the host knows, or does not');
});

test('a name goes away with its container', async (t) => {
  const { names, ask } = await world(t, (asked) => [reply(asked, '', 3)]);
  add(names, '10.2.0.5', ['app2']);
  assert.deepEqual(await ask('app2'), [0, false, 'A 10.2.0.5']);
  names.delete(IpAddress.parse('10.2.0.5'));
  assert.deepEqual(await ask('app2'), [3, false]);
});

test('everyone behind a shared alias is first in turn', async (t) => {
  const { names, ask } = await world(t);
  for (const host of [1, 2, 3]) add(names, `10.2.0.${host}`, [`web${host}`, 'web']);
  const firsts = new Set<unknown>();
  for (let count = 0; count < 3; count++) {
    const [, , ...records] = await ask('web');
    assert.deepEqual([...records].sort(), ['A 10.2.0.1', 'A 10.2.0.2', 'A 10.2.0.3']);
    firsts.add(records[0]);
  }
  assert.equal(firsts.size, 3);
});

test('more addresses than a datagram takes are had over TCP', async (t) => {
  const { names, ask, port } = await world(t);
  for (let host = 1; host <= 200; host++) add(names, `10.2.0.${host}`, ['web']);
  const [, isCut, ...few] = await ask('web');
  assert.ok(isCut && few.length > 10 && few.length < 40, String(few.length));
  const [, , ...more] = await ask('web', { udpSize: 4096 });
  assert.ok(more.length > few.length && more.length < 100, String(more.length));
  const [whole] = await askTcp([queryBytes('web')], port('tcp'));
  assert.equal(readable(whole!).length, 202);
});

test('all else is asked of the host servers, over the transport of the client', async (t) => {
  const { ask, port, upstream } = await world(t);
  assert.deepEqual(await ask('www.example'), [0, false, 'A 192.0.2.1']);
  const replies = await askTcp([queryBytes('a.example', { id: 1 }), queryBytes('b.example', { id: 2 })], port('tcp'));
  assert.deepEqual(replies.map((message) => message.readUInt16BE(0)).sort(), [1, 2]);
  assert.deepEqual(
    upstream.asked.map(({ transport }) => transport),
    ['udp', 'tcp', 'tcp'],
  );
});

test('a reply of a server that is longer than the client takes is cut', async (t) => {
  const { ask } = await world(t, (asked) => [Buffer.concat([reply(asked), Buffer.alloc(600)])]);
  assert.deepEqual(await ask('www.example'), [0, true]);
  assert.deepEqual(await ask('www.example', { udpSize: 4096 }), [0, false, 'A 192.0.2.1']);
});

test('while names of other nodes are not complete, nobody is told that a container does not exist', async (t) => {
  const it = await world(t);
  it.complete = false;
  add(it.names, '10.2.0.5', ['app2']);
  assert.deepEqual(await it.ask('app2'), [0, false, 'A 10.2.0.5']);
  assert.deepEqual(await it.ask('app3'), [2, false]);
  assert.deepEqual(await it.ask('app3.net1'), [2, false]);
  assert.deepEqual(await it.ask('www.example'), [0, false, 'A 192.0.2.1']);
});

test('without servers a container that is not known does not exist, and of the rest nobody knows', async (t) => {
  const { ask } = await world(t, () => [], 0);
  assert.deepEqual(await ask('nobody'), [3, false]);
  assert.deepEqual(await ask('www.example'), [2, false]);
});

test('a server that asks us back is not asked for ever', async (t) => {
  const over = new AbortController();
  const askBack = (bytes: Buffer): Promise<Buffer> => askUdp(bytes, it.port('udp'), HERE, over.signal);
  const handler: Handler = async ({ bytes }) => await Promise.all([askBack(bytes), askBack(bytes)]).catch(() => []);
  const it = await world(t, handler, 1, { nextServerMs: 600_000, giveUpMs: 500 });
  assert.deepEqual(await it.ask('www.example'), [2, false]);
  assert.ok(it.upstream.asked.length <= 1_000, `${it.upstream.asked.length} questions`);
  over.abort();
});

test('who is not of this node is refused, and so is a whole zone', async (t) => {
  const it = await world(t);
  assert.deepEqual(await it.ask('example', { type: 'AXFR' }), [5, false]);
  assert.deepEqual(await it.ask('example', { udpSize: 1232, ednsVersion: 1 }), [0, false], 'the code is in EDNS');
  it.allowed = false;
  add(it.names, '10.2.0.5', ['app2']);
  assert.deepEqual(await it.ask('app2'), [5, false]);
  assert.deepEqual(await it.ask('www.example'), [5, false]);
  assert.equal(it.upstream.asked.length, 0);
});

test('a client that asks more than a thousand times in a second waits for the next', async (t) => {
  const it = await world(t);
  const clock = new ManualClock();
  it.rate = new RateLimit(clock);
  add(it.names, '10.2.0.5', ['app2']);
  const many = Array.from({ length: 1_000 }, () => queryBytes('app2'));
  assert.equal((await askTcp(many, it.port('tcp'))).length, 1_000);
  await assert.rejects(askTcp([queryBytes('app2')], it.port('tcp')), /closed after 0 replies/);
  await clock.advance(1_000);
  assert.deepEqual(await it.ask('app2'), [0, false, 'A 10.2.0.5']);
});

test('a connection with what is no question, or too long a one, is closed', async (t) => {
  const it = await world(t);
  const tooLong = connect(it.port('tcp'), HERE);
  tooLong.write(Buffer.from([0xff, 0xff]));
  tooLong.resume();
  await once(tooLong, 'close');
  const wrong = connect(it.port('tcp'), HERE);
  wrong.write(streamed(Buffer.from('no')));
  wrong.resume();
  await once(wrong, 'close');
  assert.deepEqual(await it.ask('www.example'), [0, false, 'A 192.0.2.1']);
});

test('questions that wait when the server stops end with it', async (t) => {
  const it = await world(t, () => []);
  const over = new AbortController();
  const asked = [
    askUdp(queryBytes('a.example'), it.port('udp'), HERE, over.signal),
    askTcp([queryBytes('b.example')], it.port('tcp')),
  ];
  await eventually('both wait', () => it.upstream.asked.length === 2);
  const ended = Promise.allSettled(asked);
  await it.server.stop();
  await it.server.stop();
  over.abort();
  assert.deepEqual(
    (await ended).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
});

test('a client that ends its side of the connection still gets its answers', async (t) => {
  const it = await world(t);
  const socket = connect(it.port('tcp'), HERE);
  socket.end(streamed(queryBytes('www.example')));
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  assert.deepEqual(readable(Buffer.concat(chunks).subarray(2)), [0, false, 'A 192.0.2.1']);
});

test('one client has only so many connections', async (t) => {
  const it = await world(t);
  const sockets = Array.from({ length: 60 }, () => connect(it.port('tcp'), HERE));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  let closed = 0;
  for (const socket of sockets)
    socket
      .on('error', () => undefined)
      .on('close', () => closed++)
      .resume();
  await eventually('those above the bound are closed', () => closed === 10);
  for (const socket of sockets) socket.destroy();
  await eventually('there is room again', () => askTcp([queryBytes('www.example')], it.port('tcp')));
});

test('an address that is taken is served once it is free, the others meanwhile', async (t) => {
  const it = await world(t);
  const port = it.port('udp');
  const holder = createSocket('udp4').bind(0, '127.0.0.2');
  await once(holder, 'listening');
  const taken = holder.address().port;
  const forwarder = new Forwarder({ servers: () => [], clock: systemClock });
  const responder = new Responder({
    names: it.names,
    forwarder,
    mayAsk: () => true,
    isComplete: () => true,
    rate: new RateLimit(systemClock),
  });
  const addresses = ['127.0.0.2', '127.0.0.3'];
  const second = new DnsServer({ addresses, port: taken, responder, forwarder, log: silentLogger, clock: systemClock });
  await second.start();
  t.after(() => second.stop());
  await eventually('it fails at one', () => second.status.consecutiveFailures > 0);
  assert.match(second.status.lastError ?? '', /serve DNS on udp 127\.0\.0\.2.*EADDRINUSE/s);
  const [rcode] = readable(await askUdp(queryBytes('nobody.example'), taken, '127.0.0.3'));
  assert.equal(rcode, 2);
  holder.close();
  await eventually('it serves both', () => second.status.successCount > 0);
  assert.equal(second.portOf('127.0.0.2', 'udp'), taken);
  assert.notEqual(port, taken);
});
