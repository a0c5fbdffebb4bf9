// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeEvent, type DatapathEvent } from '../../datapath/events/records.ts';
import { dropRecord, ECHO6, SYN, traceRecord, verdictRecord } from '../fake/records.ts';
import { hexDump } from './dissection.ts';
import { eventJson, eventText, type EventStyle } from './event-text.ts';

const STYLE: EventStyle = { numeric: false, dissect: false, hex: false, interfaceName: (ifindex) => `lxc${ifindex}` };
const ENDS = { source: 29, destination: 173, sourceIdentity: 41_022, destinationIdentity: 41_030 };
const HASH = 0x9b21c0de;
const PACKET = '10.11.0.23:51034 -> 10.11.0.40:80 tcp SYN';

function decoded(record: Buffer): DatapathEvent {
  const event = decodeEvent(record);
  assert.ok(event);
  return event;
}

const lines: [what: string, record: Buffer, style: Partial<EventStyle>, line: string][] = [
  [
    'a drop',
    dropRecord({ ...ENDS, hash: HASH, ifindex: 9, reason: 133, line: 2127 }),
    {},
    `xx drop (Policy denied) flow 0x9b21c0de to endpoint 173, ifindex 9, file bpf_lxc.c:2127, , identity 41022->41030: ${PACKET}`,
  ],
  [
    'a drop with an error of a helper',
    dropRecord({ reason: 169, extendedError: -2, sourceIdentity: 2, destinationIdentity: 0, payload: ECHO6 }),
    {},
    'xx drop (FIB lookup failed, -2) flow 0x0 to endpoint 0, ifindex 0, file bpf_lxc.c:0, , identity world->unknown: fd00::1 -> fd00::2 icmp EchoRequest',
  ],
  [
    'delivery to an endpoint',
    traceRecord({ ...ENDS, hash: 0x4f1b0c3e, ifindex: 7, point: 0, reason: 1 }),
    {},
    `-> endpoint 173 flow 0x4f1b0c3e , identity 41022->41030 state established ifindex lxc7 orig-ip 0.0.0.0: ${PACKET}`,
  ],
  [
    'a packet that leaves an endpoint',
    traceRecord({ source: 29, sourceIdentity: 41_022, point: 5, reason: 5, payload: ECHO6 }),
    {},
    '<- endpoint 29 flow 0x0 , identity 41022->unknown state unknown ifindex 0 orig-ip ::: fd00::1 -> fd00::2 icmp EchoRequest',
  ],
  [
    'a packet to the stack, with numbers',
    traceRecord({ source: 29, sourceIdentity: 41_022, destinationIdentity: 2, point: 3, reason: 2 }),
    { numeric: true },
    `-> stack flow 0x0 , identity 41022->2 state reply ifindex 0 orig-ip 0.0.0.0: ${PACKET}`,
  ],
  [
    'an allowed flow',
    verdictRecord({ ...ENDS, source: 173, hash: HASH, remoteIdentity: 41_022, verdict: 0, match: 2 }),
    {},
    `Policy verdict log: flow 0x9b21c0de local EP ID 173, remote ID 41022, proto 6, ingress, action allow, auth: disabled, match L3-L4, ${PACKET}`,
  ],
  [
    'a denied flow to the world',
    verdictRecord({ source: 29, remoteIdentity: 2, verdict: -133, match: 0, egress: true }),
    {},
    `Policy verdict log: flow 0x0 local EP ID 29, remote ID world, proto 6, egress, action deny, auth: disabled, match none, ${PACKET}`,
  ],
  [
    'a redirected flow',
    verdictRecord({ source: 29, remoteIdentity: 2, verdict: 10_001, match: 3, egress: true }),
    { numeric: true },
    `Policy verdict log: flow 0x0 local EP ID 29, remote ID 2, proto 6, egress, action redirect, auth: disabled, match L4-Only, ${PACKET}`,
  ],
];
for (const [what, record, style, line] of lines) {
  test(`the line of ${what}`, () => {
    assert.equal(eventText(decoded(record), { ...STYLE, ...style }), line);
  });
}

test('with dissection the headers stand below the event', () => {
  const style = { ...STYLE, dissect: true };
  assert.deepEqual(
    eventText(decoded(traceRecord({ ...ENDS, ifindex: 7, hash: 1, point: 0, reason: 0 })), style).split('\n'),
    [
      '-'.repeat(78),
      'MARK 0x1 FROM 29 to-endpoint: 74 bytes (54 captured), state new, interface lxc7, , identity 41022->41030, to endpoint 173',
      'Ethernet\t{SrcMAC=02:00:00:00:00:02 DstMAC=02:00:00:00:00:01 EthernetType=IPv4}',
      'IPv4\t{TTL=63 Protocol=TCP SrcIP=10.11.0.23 DstIP=10.11.0.40}',
      'TCP\t{SrcPort=51034 DstPort=80 Flags=[SYN]}',
    ],
  );
  const drop = eventText(decoded(dropRecord({ reason: 132, payload: ECHO6 })), style).split('\n');
  assert.equal(drop[1], 'MARK 0x0 FROM 0 DROP: 82 bytes, reason Invalid source ip');
  assert.equal(drop.at(-1), 'ICMPv6\t{Type=128 Code=0}');
});

test('with hex the bytes of the packet stand below the event', () => {
  const text = eventText(decoded(dropRecord({ reason: 133 })), { ...STYLE, dissect: true, hex: true });
  assert.equal(text.split('\n')[2], '00000000  02 00 00 00 00 01 02 00  00 00 00 02 08 00 45 00  |..............E.|');
  assert.equal(hexDump(Buffer.from('AB')), `00000000  41 42${' '.repeat(45)}|AB|`);
});

test('as JSON an event has the members of Cilium', () => {
  assert.deepEqual(
    JSON.parse(eventJson(decoded(traceRecord({ ...ENDS, hash: 1, ifindex: 7, point: 0, reason: 0 })), STYLE)),
    {
      type: 'trace',
      mark: '0x1',
      ifindex: 'lxc7',
      state: 'new',
      observationPoint: 'to-endpoint',
      traceSummary: '-> endpoint 173',
      source: 29,
      bytes: 74,
      srcLabel: 41_022,
      dstLabel: 41_030,
      dstID: 173,
      summary: {
        ethernet: 'Ethernet\t{SrcMAC=02:00:00:00:00:02 DstMAC=02:00:00:00:00:01 EthernetType=IPv4}',
        ipv4: 'IPv4\t{TTL=63 Protocol=TCP SrcIP=10.11.0.23 DstIP=10.11.0.40}',
        tcp: 'TCP\t{SrcPort=51034 DstPort=80 Flags=[SYN]}',
        l2: { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' },
        l3: { src: '10.11.0.23', dst: '10.11.0.40' },
        l4: { src: '51034', dst: '80' },
      },
    },
  );
  const drop = JSON.parse(
    eventJson(decoded(dropRecord({ ...ENDS, reason: 133, line: 7, ifindex: 9 })), STYLE),
  ) as object;
  assert.partialDeepStrictEqual(drop, {
    type: 'drop',
    reason: 'Policy denied',
    Line: 7,
    File: 1,
    Ifindex: 9,
    ExtError: 0,
  });
  const verdict = JSON.parse(
    eventJson(decoded(verdictRecord({ remoteIdentity: 2, verdict: -133, match: 0 })), STYLE),
  ) as object;
  assert.partialDeepStrictEqual(verdict, {
    type: 'policy-verdict',
    action: 'deny',
    direction: 'ingress',
    dport: 80,
    match: 'none',
  });
});

test('a packet of which nothing was captured is still an event', () => {
  const event = decoded(dropRecord({ reason: 134, payload: SYN }));
  const empty = { ...event, payload: Buffer.alloc(0) };
  assert.match(eventText(empty, STYLE), /: \[unknown\]$/);
  assert.deepEqual((JSON.parse(eventJson(empty, STYLE)) as { summary: object }).summary, {});
});
