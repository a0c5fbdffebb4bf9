// SPDX-License-Identifier: Apache-2.0

/** Which entry of a policy decides, and what the verdict event says about it. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { PolicyEntry } from '../../datapath/maps/policy-map.ts';
import { assertDelivered, assertDropped, verdicts } from './support/assert.ts';
import { ALLOW, allow, Bed, DENY, ends, FAMILIES, IDENTITY } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, icmp, packet, PROTOCOL, TCP, tcp, udp } from './support/packet.ts';

const MATCH = { none: 0, l3: 1, l3l4: 2, l4: 3, all: 4, l3proto: 5, proto: 6 } as const;
const { tcp: TCP_PROTOCOL, udp: UDP_PROTOCOL } = PROTOCOL;

const ingress = (entry: Partial<PolicyEntry>): PolicyEntry => allow({ egress: false, ...entry });
const deny = (entry: Partial<PolicyEntry>): PolicyEntry => ingress({ deny: true, ...entry });

interface Case {
  readonly name: string;
  readonly entries: readonly PolicyEntry[];
  /** For a TCP SYN from A to port 80: 0 or a name of enum drop_reason. */
  readonly verdict: 0 | string;
  readonly match: number;
  /** Cookie of the entry that decides. */
  readonly cookie?: number;
}

const peer = IDENTITY.a;
const port80 = { protocol: TCP_PROTOCOL, port: 80 };

const CASES: readonly Case[] = [
  { name: 'an empty policy allows nothing', entries: [], verdict: 'DROP_POLICY', match: MATCH.none },
  { name: 'identity', entries: [ingress({ identity: peer, cookie: 5 })], verdict: 0, match: MATCH.l3, cookie: 5 },
  { name: 'everything', entries: [ingress({ cookie: 6 })], verdict: 0, match: MATCH.all, cookie: 6 },
  {
    name: 'identity and port',
    entries: [ingress({ identity: peer, ...port80, cookie: 7 })],
    verdict: 0,
    match: MATCH.l3l4,
    cookie: 7,
  },
  { name: 'port', entries: [ingress(port80)], verdict: 0, match: MATCH.l4 },
  {
    name: 'identity and protocol',
    entries: [ingress({ identity: peer, protocol: TCP_PROTOCOL })],
    verdict: 0,
    match: MATCH.l3proto,
  },
  { name: 'protocol', entries: [ingress({ protocol: TCP_PROTOCOL })], verdict: 0, match: MATCH.proto },
  {
    name: 'a range of ports that holds this one',
    entries: [ingress({ protocol: TCP_PROTOCOL, port: 64, bits: 8 + 10 })],
    verdict: 0,
    match: MATCH.l4,
  },
  {
    name: 'a range of ports that does not',
    entries: [ingress({ protocol: TCP_PROTOCOL, port: 128, bits: 8 + 9 })],
    verdict: 'DROP_POLICY',
    match: MATCH.none,
  },
  { name: 'another identity', entries: [ingress({ identity: 77 })], verdict: 'DROP_POLICY', match: MATCH.none },
  {
    name: 'another port',
    entries: [ingress({ protocol: TCP_PROTOCOL, port: 81 })],
    verdict: 'DROP_POLICY',
    match: MATCH.none,
  },
  {
    name: 'another protocol',
    entries: [ingress({ protocol: UDP_PROTOCOL, port: 80 })],
    verdict: 'DROP_POLICY',
    match: MATCH.none,
  },
  {
    name: 'the other direction',
    entries: [allow({ egress: true })],
    verdict: 'DROP_POLICY',
    match: MATCH.none,
  },
  {
    name: 'a deny of the peer beats an allow of the port',
    entries: [deny({ identity: peer, cookie: 9 }), ingress(port80)],
    verdict: 'DROP_POLICY_DENY',
    match: MATCH.l3,
    cookie: 9,
  },
  {
    name: 'a deny of anybody beats a longer allow of the peer',
    entries: [deny({ protocol: TCP_PROTOCOL }), ingress({ identity: peer, ...port80 })],
    verdict: 'DROP_POLICY_DENY',
    match: MATCH.proto,
  },
  {
    name: 'a redirect of anybody beats an allow of the peer, and is closed while there is no proxy',
    entries: [ingress({ identity: peer, ...port80 }), ingress({ ...port80, precedence: 0xffffff02, proxyPort: 9 })],
    verdict: 'DROP_PROXY_LOOKUP_FAILED',
    match: MATCH.l4,
  },
  {
    name: 'an allow of the peer loses against nothing of lower precedence',
    entries: [
      ingress({ identity: peer, precedence: ALLOW, cookie: 1 }),
      ingress({ ...port80, precedence: ALLOW - 1, cookie: 2 }),
    ],
    verdict: 0,
    match: MATCH.l3,
    cookie: 1,
  },
  {
    name: 'of equals the longer match decides',
    entries: [ingress({ identity: peer, cookie: 1 }), ingress({ ...port80, cookie: 2 })],
    verdict: 0,
    match: MATCH.l4,
    cookie: 2,
  },
  {
    name: "of equals with the same length the peer's own decides",
    entries: [ingress({ identity: peer, ...port80, cookie: 1 }), ingress({ ...port80, cookie: 2 })],
    verdict: 0,
    match: MATCH.l3l4,
    cookie: 1,
  },
];

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;
  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    for (const { name, entries, verdict, match, cookie } of CASES) {
      test(`privileged: IPv${family}: ${name}: ${verdict || 'allowed'}`, () => {
        bed.policy(b, entries);
        const result = bed.send(a, packet(ends(a, b, family), tcp(33000, 80, TCP.syn)));
        if (verdict === 0) assertDelivered(result, b.ifindex);
        else assertDropped(result, verdict);
        const event = verdicts(result).find(({ egress }) => !egress);
        assert.ok(event);
        assert.equal(event.verdict, verdict === 0 ? 0 : -result.dropReason!);
        assert.equal(event.match, match);
        assert.equal(event.cookie, cookie ?? 0);
        assert.equal(event.source, b.id);
        assert.equal(event.remoteIdentity, peer);
        assert.deepEqual([event.protocol, event.port], [TCP_PROTOCOL, 80]);
      });
    }

    const title = (text: string): string => `privileged: IPv${family}: ${text}`;

    test(title('the same entries hold for the egress of the sender'), () => {
      const sent = packet(ends(a, b, family), udp(33000, 80));
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.b, protocol: UDP_PROTOCOL, port: 80 })]);
      assertDelivered(bed.send(a, sent), b.ifindex);
      bed.policy(a, [
        allow({ egress: true }),
        allow({ egress: true, identity: IDENTITY.b, deny: true, precedence: DENY }),
      ]);
      assertDropped(bed.send(a, sent), 'DROP_POLICY_DENY');
    });

    test(title('ICMP is judged by its type'), () => {
      const protocol = family === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6;
      const [request, timestamp] = family === 4 ? [8, 13] : [128, 139];
      bed.policy(b, [ingress({ protocol, port: request })]);
      assertDelivered(bed.send(a, packet(ends(a, b, family), echo(family, 'request', 1))), b.ifindex);
      const other = packet(ends(a, b, family), icmp(family, timestamp, 0, Buffer.alloc(16)));
      assertDropped(bed.send(a, other), 'DROP_POLICY');
      assertDropped(bed.send(a, packet(ends(a, b, family), echo(family, 'reply', 2))), 'DROP_POLICY');
      bed.policy(b, [ingress({ protocol, port: timestamp })]);
      const result = bed.send(a, other);
      assertDelivered(result, b.ifindex);
      assert.equal(verdicts(result).at(-1)!.port, timestamp);
    });

    test(title('verdicts are told for new flows and for what is refused, not for each packet'), () => {
      const open = packet(ends(a, b, family), tcp(33000, 80, TCP.syn));
      const answer = packet(ends(b, a, family), tcp(80, 33000, TCP.syn | TCP.ack));
      const more = packet(ends(a, b, family), tcp(33000, 80, TCP.ack));
      assert.equal(verdicts(bed.send(a, open)).length, 2);
      assert.equal(verdicts(bed.send(b, answer)).length, 0);
      assert.equal(verdicts(bed.send(a, more)).length, 0);
      bed.policy(b, []);
      const refused = verdicts(bed.send(a, more));
      assert.deepEqual(
        refused.map(({ egress, verdict }) => [egress, verdict]),
        [[false, -133]],
      );
    });
  }
});
