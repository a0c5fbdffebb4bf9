// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dissectPacket, summarizePacket } from './packet.ts';
import { decodeEvent } from './records.ts';
import { VerdictCursor } from './verdict-cursor.ts';
import { dropReasonText, policyMatchName, sourceFileName, tracePointName, traceReasonName } from './texts.ts';

const ETHERNET = '0a0000000002' + '0a0000000001';

function ipv4(protocol: number, transport: string, options: { fragment?: string; words?: number } = {}): string {
  const { fragment = '4000', words = 5 } = options;
  const header = `4${words}00003c0001${fragment}40${hex(protocol)}0000` + '0a0f8433' + '0a0fb7af';
  return `${ETHERNET}0800${header}${'00'.repeat((words - 5) * 4)}${transport}`;
}

function ipv6(next: number, rest: string): string {
  const ends = 'fd15000000000000000000000000a56a' + 'fd15000000000000000000000000bbe3';
  return `${ETHERNET}86dd600000000028${hex(next)}40${ends}${rest}`;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

function tcp(flags: number): string {
  return '83ec' + '0050' + '00000000'.repeat(2) + '50' + hex(flags) + '000000000000';
}

const SUMMARIES: readonly (readonly [name: string, packet: string, summary: string])[] = [
  ['TCP over IPv4', ipv4(6, tcp(0x02)), '10.15.132.51:33772 -> 10.15.183.175:80 tcp SYN'],
  [
    'flags in the order of the monitor',
    ipv4(6, tcp(0x1f)),
    '10.15.132.51:33772 -> 10.15.183.175:80 tcp SYN, ACK, RST, FIN',
  ],
  ['no flag that counts', ipv4(6, tcp(0x08)), '10.15.132.51:33772 -> 10.15.183.175:80 tcp '],
  ['TCP behind IPv4 options', ipv4(6, tcp(0x12), { words: 8 }), '10.15.132.51:33772 -> 10.15.183.175:80 tcp SYN, ACK'],
  ['TCP over IPv6', ipv6(6, tcp(0x10)), '[fd15::a56a]:33772 -> [fd15::bbe3]:80 tcp ACK'],
  ['UDP', ipv4(17, '1f900035' + '00080000'), '10.15.132.51:8080 -> 10.15.183.175:53 udp'],
  ['SCTP', ipv4(132, '00010002' + '00000000'), '10.15.132.51:1 -> 10.15.183.175:2 sctp'],
  ['ping', ipv4(1, '0800' + '000000000000'), '10.15.132.51 -> 10.15.183.175 icmp EchoRequest'],
  [
    'port unreachable',
    ipv4(1, '0303' + '000000000000'),
    '10.15.132.51 -> 10.15.183.175 icmp DestinationUnreachable(Port)',
  ],
  [
    'ICMP code that has no name',
    ipv4(1, '0809' + '000000000000'),
    '10.15.132.51 -> 10.15.183.175 icmp EchoRequest(Code: 9)',
  ],
  ['neighbour solicitation', ipv6(58, '8700' + '00000000'), 'fd15::a56a -> fd15::bbe3 icmp NeighborSolicitation'],
  [
    'ICMPv6 that has no name, behind hop-by-hop',
    ipv6(0, '3a00050200000000' + '8f00'),
    'fd15::a56a -> fd15::bbe3 icmp 143(0)',
  ],
  ['first fragment', ipv6(44, '0600000100000001' + tcp(0x02)), '[fd15::a56a]:33772 -> [fd15::bbe3]:80 tcp SYN'],
  ['later fragment over IPv6', ipv6(44, '0600010100000001' + tcp(0x02)), 'fd15::a56a -> fd15::bbe3'],
  ['later fragment over IPv4', ipv4(17, '1f900035', { fragment: '0010' }), '10.15.132.51 -> 10.15.183.175'],
  ['TCP cut short', ipv4(6, '83ec0050'), '10.15.132.51 -> 10.15.183.175'],
  ['another protocol', ipv4(47, '00000000'), '10.15.132.51 -> 10.15.183.175'],
  ['ARP', `${ETHERNET}0806` + '00'.repeat(28), '0a:00:00:00:00:01 -> 0a:00:00:00:00:02 ARP'],
  ['another Ethernet type', `${ETHERNET}88cc`, '0a:00:00:00:00:01 -> 0a:00:00:00:00:02 0x88cc'],
  ['less than an Ethernet header', '0a0000', '[unknown]'],
];

for (const [name, packet, summary] of SUMMARIES) {
  test(`a packet in words: ${name}`, () => assert.equal(summarizePacket(Buffer.from(packet, 'hex')), summary));
}

test('no bytes make the dissector throw', () => {
  const types = fc.constantFrom('0800', '86dd', '0806', '9100');
  fc.assert(
    fc.property(types, fc.uint8Array({ maxLength: 128 }), (type, rest) => {
      const packet = Buffer.concat([Buffer.from(ETHERNET + type, 'hex'), rest]);
      assert.ok(dissectPacket(packet));
      assert.notEqual(summarizePacket(packet), '');
    }),
  );
});

/** struct event_header, then the rest of the record. */
function record(type: number, subtype: number, rest: string): Buffer {
  const header = Buffer.alloc(40);
  header[0] = type;
  header[1] = subtype;
  header.writeUInt16LE(610, 2);
  header.writeUInt32LE(0x7daca0e0, 4);
  header.writeBigUInt64LE(123_456_789n, 8);
  header.writeUInt32LE(1514, 16);
  header.writeUInt16LE(4, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(59367, 24);
  header.writeUInt32LE(13387, 28);
  header.writeUInt32LE(22, 32);
  header.writeUInt16LE(3862, 36);
  return Buffer.concat([header, Buffer.from(rest, 'hex'), Buffer.from('deadbeef', 'hex'), Buffer.alloc(124)]);
}

const BASE = {
  source: 610,
  hash: 0x7daca0e0,
  timestamp: 123_456_789n,
  packetBytes: 1514,
  ipv6: true,
  sourceIdentity: 59367,
  destinationIdentity: 13387,
  ifindex: 22,
  destination: 3862,
  payload: Buffer.from('deadbeef', 'hex'),
};

test('a drop is decoded', () => {
  const event = decodeEvent(record(1, 133, '4d09' + '01' + 'fe' + '00000000'));
  assert.deepEqual(event, { type: 'drop', ...BASE, reason: 133, line: 2381, file: 1, extendedError: -2 });
  assert.equal(dropReasonText(133), 'Policy denied');
  assert.equal(sourceFileName(1), 'bpf_lxc.c');
});

test('a trace is decoded', () => {
  const event = decodeEvent(record(4, 0, '02' + '00000000000000'));
  assert.deepEqual(event, { type: 'trace', ...BASE, point: 0, reason: 2 });
  assert.equal(tracePointName(0), 'to-endpoint');
  assert.equal(traceReasonName(2), 'reply');
});

test('a policy verdict is decoded', () => {
  const event = decodeEvent(
    record(5, 0, 'b5330000' + '7bffffff' + '07000000' + '5000' + '06' + '02' + '02' + '00000000000000'),
  );
  const expected = { remoteIdentity: 13237, verdict: -133, cookie: 7, port: 80, protocol: 6, egress: true, match: 2 };
  assert.deepEqual(event, { type: 'policy-verdict', ...BASE, ...expected });
  assert.equal(policyMatchName(2), 'L3-L4');
});

test('a cursor over verdicts in the ring reads what decoding gives, and the address of the peer', () => {
  const cursor = new VerdictCursor();
  const ends = '0a0f8433' + '0a0fb7af';
  for (const [remote, address] of [
    [59367, '10.15.132.51'],
    [13387, '10.15.183.175'],
  ] as const) {
    const bytes = record(5, 0, '00000000' + '7bffffff' + '07000000' + '5000' + '06' + '02' + '02' + '00000000000000');
    bytes.writeUInt32LE(remote, 40);
    bytes.writeUInt16LE(0, 22);
    bytes.writeUInt16LE(34, 20);
    Buffer.from(ends, 'hex').copy(bytes, 64 + 26);
    const event = decodeEvent(bytes);
    assert.ok(event?.type === 'policy-verdict');
    assert.ok(cursor.moveTo(bytes));
    assert.deepEqual(
      [cursor.endpoint, cursor.remoteIdentity, cursor.egress, cursor.protocol, cursor.port, cursor.verdict],
      [event.source, event.remoteIdentity, event.egress, event.protocol, event.port, event.verdict],
    );
    assert.equal(cursor.timestampMs, Number(event.timestamp) / 1e6);
    assert.equal(cursor.remoteAddress()?.toString(), address);
    bytes.writeUInt16LE(33, 20); // cut short
    assert.equal(cursor.remoteAddress() === undefined, address === '10.15.183.175');
  }
  assert.equal(cursor.moveTo(record(1, 133, '')), false);
  assert.equal(cursor.moveTo(Buffer.from([5])), false);
});

test('records of another type, or cut short, are no events', () => {
  assert.equal(decodeEvent(record(2, 0, '')), undefined);
  for (const type of [1, 4, 5])
    assert.equal(decodeEvent(record(type, 0, '').subarray(0, 44)), undefined, `type ${type}`);
  assert.equal(decodeEvent(Buffer.alloc(0)), undefined);
});

test('numbers without a name are shown as numbers', () => {
  assert.equal(dropReasonText(159), '159');
  assert.equal(tracePointName(99), '99');
  assert.equal(traceReasonName(4), '4');
  assert.equal(policyMatchName(9), '9');
  assert.equal(sourceFileName(9), 'unknown(9)');
});
