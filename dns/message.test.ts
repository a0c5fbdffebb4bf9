// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import { IpAddress } from '../net/ip.ts';
import { queryBytes, type QueryOptions } from './fake/queries.ts';
import {
  addressRecord,
  answerReply,
  errorReply,
  fitted,
  isReplyTo,
  ownUdpLimit,
  rcodeOf,
  readQuery,
  withId,
} from './message.ts';

function read(name: string, options?: QueryOptions) {
  const received = readQuery(queryBytes(name, options));
  assert.ok('query' in received);
  return received.query;
}

test('a query is its name in lower case, its type, its class, and how long a reply may be', () => {
  const query = read('App1.Net1', { type: 'AAAA', udpSize: 1400 });
  assert.deepEqual(
    [query.id, query.name, query.type, query.class, query.maxUdpBytes],
    [4711, 'app1.net1', 28, 1, 1400],
  );
  assert.equal(read('a').maxUdpBytes, 512);
  assert.equal(read('a', { udpSize: 100 }).maxUdpBytes, 512, 'less than everybody takes means that');
  assert.equal(read('.').name, '');
});

for (const [what, bytes, rcode] of [
  ['less than a header', Buffer.alloc(11), undefined],
  ['nothing', Buffer.alloc(0), undefined],
  ['a reply', edited(queryBytes('a'), 2, 0x8100), undefined],
  ['another kind of request', edited(queryBytes('a'), 2, 0x2800), 4],
  ['no question', edited(queryBytes('a'), 4, 0), 1],
  ['two questions', edited(queryBytes('a'), 4, 2), 1],
  ['more records than there are bytes', edited(queryBytes('a'), 10, 65_535), 1],
  ['answers in a query', edited(queryBytes('a'), 6, 1), 1],
  ['a record that is announced and missing', edited(queryBytes('a'), 10, 1), 1],
  ['a question that ends early', queryBytes('abc').subarray(0, -5), 1],
  [
    'a name that points to itself',
    Buffer.concat([queryBytes('a').subarray(0, 12), Buffer.from('c00c00010001', 'hex')]),
    1,
  ],
  ['a label of a length that no label has', edited(queryBytes('abcdef'), 12, 0x7f61), 1],
  ['two descriptions of EDNS', twoOptions(), 1],
] as const) {
  test(`${what} is ${rcode === undefined ? 'not answered' : `answered with code ${rcode}`}`, () => {
    const received = readQuery(bytes);
    assert.ok('reply' in received);
    assert.equal(received.reply && rcodeOf(received.reply), rcode);
    if (received.reply) assert.equal(received.reply.readUInt16BE(0), bytes.readUInt16BE(0));
  });
}

test('a name that no container can have is no name to us', () => {
  const dotInLabel = Buffer.concat([queryBytes('.').subarray(0, 12), Buffer.from('\x03a.b\0\0\x01\0\x01', 'latin1')]);
  for (const bytes of [dotInLabel, queryBytes('gr\u00fcn'), queryBytes('a b')]) {
    const received = readQuery(bytes);
    assert.ok('query' in received);
    assert.equal(received.query.name, undefined);
  }
});

test('an answer repeats the question as it was asked and says who speaks', () => {
  const query = read('ApP1', { udpSize: 1232 });
  const bytes = answerReply(query, [addressRecord('app1', IpAddress.parse('10.1.0.2'), 5)], 512);
  const packet = decode(bytes);
  assert.deepEqual(packet.questions, [{ name: 'ApP1', type: 'A', class: 'IN' }]);
  assert.deepEqual(
    packet.answers!.map((answer) =>
      'ttl' in answer && 'data' in answer ? [answer.type, answer.ttl, answer.data] : [],
    ),
    [['A', 5, '10.1.0.2']],
  );
  const { type, id, flag_aa, flag_ra, flag_rd, flag_tc, rcode } = packet as typeof packet & Record<string, unknown>;
  assert.deepEqual(
    { type, id, flag_aa, flag_ra, flag_rd, flag_tc, rcode },
    {
      type: 'response',
      id: 4711,
      flag_aa: true,
      flag_ra: true,
      flag_rd: true,
      flag_tc: false,
      rcode: 'NOERROR',
    },
  );
  assert.equal(packet.additionals![0]!.type, 'OPT');
  assert.deepEqual(decode(answerReply(read('app1'), [], 512)).additionals, [], 'EDNS only for those who speak it');
});

test('an answer that does not fit holds what fits and says so', () => {
  const addresses = Array.from({ length: 100 }, (_unused, index) => IpAddress.parse(`10.1.0.${index + 1}`));
  const query = read('web');
  const answers = addresses.map((address) => addressRecord('web', address, 5));
  const bytes = answerReply(query, answers, ownUdpLimit(query));
  const packet = decode(bytes) as ReturnType<typeof decode> & { flag_tc: boolean };
  assert.ok(bytes.length <= 512 && bytes.length > 480, String(bytes.length));
  assert.equal(packet.flag_tc, true);
  const whole = decode(answerReply(query, answers, 65_535)) as typeof packet;
  assert.deepEqual([whole.answers!.length, whole.flag_tc], [100, false]);
  assert.equal(ownUdpLimit(read('web', { udpSize: 4096 })), 1232);
});

test('a code beyond the header travels in EDNS', () => {
  const packet = decode(errorReply(read('a', { udpSize: 1232 }), 16)) as ReturnType<typeof decode> & { rcode: string };
  assert.equal(packet.rcode, 'NOERROR');
  assert.deepEqual(
    packet.additionals!.map((record) => record.type === 'OPT' && record.extendedRcode),
    [1],
  );
});

test("somebody else's reply that is too long becomes a mark to ask over TCP", () => {
  const query = read('big');
  const answers = Array.from({ length: 50 }, () => addressRecord('big', IpAddress.parse('192.0.2.1'), 5));
  const long = answerReply(query, answers, 65_535);
  assert.equal(fitted(query, long, 65_535), long);
  const cut = decode(fitted(query, long, 512)) as ReturnType<typeof decode> & { flag_tc: boolean };
  assert.deepEqual([cut.flag_tc, cut.answers], [true, []]);
});

test('only a reply with the number and the question of the query is one to it', () => {
  const query = read('app.example');
  const own = withId(answerReply(query, [], 512), 99);
  assert.ok(isReplyTo(query, 99, own));
  assert.ok(isReplyTo(query, 99, Buffer.from(own.toString('latin1').replace('app', 'ApP'), 'latin1')));
  assert.ok(!isReplyTo(query, 98, own), 'another number');
  assert.ok(!isReplyTo(query, 99, withId(query.bytes, 99)), 'a query');
  assert.ok(!isReplyTo(query, 99, withId(answerReply(read('apq.example'), [], 512), 99)), 'another name');
  assert.ok(
    !isReplyTo(query, 99, withId(answerReply(read('app.example', { type: 'MX' }), [], 512), 99)),
    'another type',
  );
  assert.ok(!isReplyTo(query, 99, own.subarray(0, 20)), 'half a message');
  assert.ok(!isReplyTo(query, 99, own.subarray(0, 5)), 'less than a header');
  const bare = Buffer.alloc(12);
  bare.writeUInt16BE(99, 0);
  bare.writeUInt16BE(0x8001, 2);
  assert.ok(isReplyTo(query, 99, bare), 'a complaint without the question');
  bare.writeUInt16BE(0x8000, 2);
  assert.ok(!isReplyTo(query, 99, bare), 'no complaint and no question');
});

function edited(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt16BE(value, at);
  return copy;
}

function twoOptions(): Buffer {
  const one = queryBytes('a', { udpSize: 1232 });
  return edited(Buffer.concat([one, one.subarray(-11)]), 10, 2);
}
