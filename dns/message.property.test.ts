// SPDX-License-Identifier: Apache-2.0

/** Whatever bytes come, ours and dns-packet's code neither throw nor loop, and what they say stays within the rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import fc from 'fast-check';
import { IpAddress } from '../net/ip.ts';
import { systemClock } from '../runtime/clock.ts';
import { queryBytes } from './fake/queries.ts';
import { isReplyTo, rcodeOf, readQuery } from './message.ts';
import { NameTable } from './name-table.ts';
import { RateLimit } from './rate-limit.ts';
import { Responder } from './responder.ts';
import { StreamReader, streamed } from './stream.ts';

const RUNS = 20_000;

/** Queries with some bytes changed, cut or added: most get far into the parser. */
const nearlyQuery = fc
  .record({
    name: fc.constantFrom('app1', 'web.net1', 'a.b.c.d.example', '5.0.2.10.in-addr.arpa', '.'),
    type: fc.constantFrom('A' as const, 'AAAA' as const, 'PTR' as const, 'ANY' as const, 'TXT' as const),
    udpSize: fc.option(fc.nat(65_535), { nil: undefined }),
    changes: fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 }),
    cut: fc.nat(20),
    tail: fc.uint8Array({ maxLength: 24 }),
  })
  .map(({ name, type, udpSize, changes, cut, tail }) => {
    const whole = queryBytes(name, { type, ...(udpSize !== undefined && { udpSize }) });
    const bytes = Buffer.concat([whole.subarray(0, whole.length - Math.min(cut, whole.length)), tail]);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });
const anything = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
/** Names made of pointers: to themselves, to each other, forwards, beyond the end. */
const pointers = fc.array(fc.tuple(fc.nat(3), fc.nat(60)), { minLength: 1, maxLength: 30 }).map((pairs) => {
  const body = Buffer.from(pairs.flatMap(([kind, offset]) => (kind === 0 ? [1, 97] : [0xc0, offset])));
  return Buffer.concat([queryBytes('.').subarray(0, 12), body, Buffer.from([0, 0, 1, 0, 1])]);
});
const received = fc.oneof(nearlyQuery, nearlyQuery, anything, pointers);

test('any bytes get a reply that fits them, or none', async () => {
  const names = new NameTable();
  const own = { names: ['app1', 'web'], network: 'net1', containerId: 'c1' };
  names.set({ ...own, address: IpAddress.parse('10.2.0.5') });
  names.set({ ...own, address: IpAddress.parse('fd15::5') });
  let forwarded = 0;
  const responder = new Responder({
    names,
    forwarder: {
      hasServers: true,
      ask: ({ bytes }) => {
        forwarded++;
        return Promise.resolve(Buffer.from(bytes));
      },
    },
    mayAsk: () => true,
    isComplete: () => true,
    rate: { admit: () => true },
  });
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(received, async (bytes) => {
      const before = Buffer.from(bytes);
      const forwardedBefore = forwarded;
      const reply = await responder.respond(bytes, '10.2.0.5', 'udp');
      assert.deepEqual(bytes, before, 'what came is not written to');
      if (!reply || forwarded > forwardedBefore) return;
      answered++;
      assert.equal(reply.readUInt16BE(0), bytes.readUInt16BE(0));
      assert.ok((reply.readUInt16BE(2) & 0x8000) !== 0 && reply.length <= 1_232);
      assert.doesNotThrow(() => decode(reply));
    }),
    { numRuns: RUNS },
  );
  assert.ok(answered > RUNS / 10 && forwarded > RUNS / 100, `${answered} answered, ${forwarded} forwarded`);
});

test('no bytes of a server pass for a reply unless they repeat number and question', () => {
  const query = readQuery(queryBytes('good.example'));
  assert.ok('query' in query);
  fc.assert(
    fc.property(received, fc.nat(65_535), (bytes, id) => {
      if (!isReplyTo(query.query, id, bytes)) return;
      assert.equal(bytes.readUInt16BE(0), id);
      const isComplaint = bytes.length === 12 && rcodeOf(bytes) !== 0;
      assert.ok(isComplaint || bytes.toString('latin1').toLowerCase().includes('\x04good\x07example\x00'));
    }),
    { numRuns: RUNS },
  );
});

test('the rate limit lets everyone have the same share, whoever else asks', () => {
  const rate = new RateLimit({ ...systemClock, monotonic: () => 0 });
  const admitted = Array.from({ length: 3_000 }, () => rate.admit('greedy')).filter(Boolean).length;
  assert.equal(admitted, 1_000);
  assert.ok(rate.admit('modest'));
});

test('however a stream is cut into pieces, the messages in it are the same', () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(messages, fc.array(fc.nat(50), { minLength: 1 }), (sent, cuts) => {
      const stream = Buffer.concat(sent.map((message) => streamed(Buffer.from(message))));
      const reader = new StreamReader();
      const heard: Buffer[] = [];
      for (let at = 0, turn = 0; at < stream.length; turn++) {
        const end = at + 1 + cuts[turn % cuts.length]!;
        heard.push(...reader.push(stream.subarray(at, end)));
        at = end;
      }
      assert.deepEqual(
        heard,
        sent.map((message) => Buffer.from(message)),
      );
      assert.equal(reader.announced, undefined);
    }),
  );
});
