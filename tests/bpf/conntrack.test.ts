// SPDX-License-Identifier: Apache-2.0

/** Flows: replies, closing, expiry, revocation. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { IpFamily } from '../../net/ip.ts';
import {
  CT_F_INITIATOR_CLOSED,
  CT_F_INITIATOR_LOCAL,
  CT_F_LOWER_STARTED,
  CT_F_RESPONDER_CLOSED,
  CT_F_RESPONDER_LOCAL,
  CT_F_SEEN_NON_SYN,
  CT_ENTRY,
  type ConntrackEntry,
  decodeConntrack,
} from '../../datapath/maps/conntrack-map.ts';
import { assertDelivered, assertDropped } from './support/assert.ts';
import { allow, Bed, type Container, ends, FAMILIES, IDENTITY, type Result } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, icmp, packet, PROTOCOL, sctp, TCP, tcp, type Transport, udp } from './support/packet.ts';

const { fin, syn, rst, ack } = TCP;
const LOCAL = CT_F_INITIATOR_LOCAL | CT_F_RESPONDER_LOCAL;
const CLOSED = CT_F_INITIATOR_CLOSED | CT_F_RESPONDER_CLOSED;

/** TRACE_REASONS by number. */
const REASON = ['new', 'established', 'reply', 'related'];

function stateOf(result: Result): string | undefined {
  const trace = result.events.findLast((event) => event.type === 'trace');
  return trace?.type === 'trace' ? REASON[trace.reason] : undefined;
}

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;
  const peerOf = (end: Container): Container => (end === a ? b : a);
  const onlyTo = (end: Container, protocol: number, port: number): void => {
    bed.policy(end, [allow({ egress: false, identity: peerOf(end).identity, protocol, port })]);
    bed.policy(peerOf(end), [allow({ egress: true, identity: end.identity, protocol, port })]);
  };

  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const send = (from: Container, transport: Transport): Result =>
      bed.send(from, packet(ends(from, peerOf(from), family), transport));
    const delivered = (from: Container, transport: Transport, state: string): void => {
      const result = send(from, transport);
      assertDelivered(result, peerOf(from).ifindex);
      assert.equal(stateOf(result), state);
    };
    const flows = (tcpFlows: boolean): { key: Buffer; value: Buffer; entry: ConntrackEntry }[] => {
      const map = bed.map(`cilium_ct${family}_${tcpFlows ? 'tcp' : 'any'}`);
      const all = [...map.entries()].map(({ key, value }) => ({ key: Buffer.from(key), value: Buffer.from(value) }));
      map.close();
      return all.map(({ key, value }) => ({ key, value, entry: decodeConntrack(family, key, value) }));
    };
    const onlyFlow = (tcpFlow: boolean): ConntrackEntry => {
      const all = flows(tcpFlow);
      assert.equal(all.length, 1);
      return all[0]!.entry;
    };
    /** Lets the only TCP flow's time be over. */
    const expire = (tcpFlow: boolean): void => {
      const [flow] = flows(tcpFlow);
      const map = bed.map(`cilium_ct${family}_${tcpFlow ? 'tcp' : 'any'}`);
      flow!.value.writeUInt32LE(1, CT_ENTRY.at.expires);
      map.update(flow!.key, flow!.value);
      map.close();
    };

    test(title('whoever has the lower address, replies pass by the policy of the flow they answer'), () => {
      for (const server of [a, b]) {
        const client = peerOf(server);
        onlyTo(server, PROTOCOL.tcp, 80);
        delivered(client, tcp(33000, 80, syn), 'new');
        delivered(server, tcp(80, 33000, syn | ack), 'reply');
        delivered(client, tcp(33000, 80, ack), 'established');
        delivered(server, tcp(80, 33000, ack), 'reply');
        assertDropped(send(server, tcp(33000, 80, syn)), 'DROP_POLICY');
        assertDropped(send(server, tcp(80, 33001, syn | ack)), 'DROP_POLICY');
        const { flags } = onlyFlow(true);
        assert.equal(flags, LOCAL | CT_F_SEEN_NON_SYN | (client === a ? CT_F_LOWER_STARTED : 0));
        bed.flush();
      }
    });

    test(title('UDP, SCTP and echo replies pass, too'), () => {
      onlyTo(b, PROTOCOL.udp, 53);
      delivered(a, udp(5000, 53), 'new');
      delivered(b, udp(53, 5000), 'reply');
      assertDropped(send(b, udp(5000, 53)), 'DROP_POLICY');
      onlyTo(b, PROTOCOL.sctp, 53);
      assert.equal(stateOf(send(a, sctp(5000, 53))), 'new');
      assert.equal(stateOf(send(b, sctp(53, 5000))), 'reply');
      const [protocol, request] = family === 4 ? [PROTOCOL.icmp, 8] : [PROTOCOL.icmp6, 128];
      onlyTo(b, protocol, request);
      delivered(a, echo(family, 'request', 7), 'new');
      delivered(a, echo(family, 'request', 7), 'established');
      delivered(b, echo(family, 'reply', 7), 'reply');
      assertDropped(send(b, echo(family, 'reply', 8)), 'DROP_POLICY');
    });

    test(title('two containers that ping each other with the same identifier are judged apart'), () => {
      const [protocol, request] = family === 4 ? [PROTOCOL.icmp, 8] : [PROTOCOL.icmp6, 128];
      onlyTo(b, protocol, request);
      delivered(a, echo(family, 'request', 7), 'new');
      assertDropped(send(b, echo(family, 'request', 7)), 'DROP_POLICY');
      bed.policy(a);
      bed.policy(b);
      delivered(b, echo(family, 'request', 7), 'new');
      delivered(a, echo(family, 'reply', 7), 'reply');
      assert.equal(flows(false).length, 2);
    });

    test(title('an echo reply that nobody asked for and other ICMP open no flow'), () => {
      delivered(a, echo(family, 'reply', 9), 'new');
      delivered(a, icmp(family, family === 4 ? 13 : 139, 0, Buffer.alloc(16)), 'new');
      delivered(b, icmp(family, family === 4 ? 14 : 140, 0, Buffer.alloc(16)), 'new');
      assert.equal(flows(false).length, 0);
    });

    test(title('a flow whose policy is revoked stops both ways at once'), () => {
      onlyTo(b, PROTOCOL.tcp, 80);
      delivered(a, tcp(33000, 80, syn), 'new');
      delivered(b, tcp(80, 33000, syn | ack), 'reply');
      bed.policy(b, []);
      assertDropped(send(a, tcp(33000, 80, ack)), 'DROP_POLICY');
      assertDropped(send(b, tcp(80, 33000, ack)), 'DROP_POLICY');
      onlyTo(b, PROTOCOL.tcp, 80);
      bed.policy(a, []);
      assertDropped(send(a, tcp(33000, 80, ack)), 'DROP_POLICY');
      assertDropped(send(b, tcp(80, 33000, ack)), 'DROP_POLICY');
      onlyTo(b, PROTOCOL.tcp, 80);
      delivered(b, tcp(80, 33000, ack), 'reply');
    });

    test(title('only what the policy allows is remembered'), () => {
      bed.policy(b, []);
      assertDropped(send(a, tcp(33000, 80, syn)), 'DROP_POLICY');
      assertDropped(send(a, udp(33000, 80)), 'DROP_POLICY');
      assert.equal(flows(true).length + flows(false).length, 0);
    });

    test(title('a SYN is never a reply'), () => {
      onlyTo(b, PROTOCOL.tcp, 80);
      delivered(a, tcp(33000, 80, syn), 'new');
      assertDropped(send(b, tcp(80, 33000, syn)), 'DROP_POLICY');
    });

    test(title('the first packet of an unknown connection is judged as new, whatever its flags'), () => {
      onlyTo(b, PROTOCOL.tcp, 80);
      assertDropped(send(b, tcp(80, 33000, ack)), 'DROP_POLICY');
      delivered(a, tcp(33000, 80, ack), 'new');
      delivered(b, tcp(80, 33000, ack), 'reply');
    });

    test(title('lifetimes follow what was seen of a connection'), () => {
      const lifetime = (): number => {
        const now = Number(process.hrtime.bigint() / 1_000_000_000n);
        return onlyFlow(true).expires - now;
      };
      const near = (expected: number): void => {
        const actual = lifetime();
        assert.ok(Math.abs(actual - expected) <= 2, `${actual}, not ${expected}`);
      };
      send(a, tcp(33000, 80, syn));
      near(60);
      send(b, tcp(80, 33000, syn | ack));
      near(60);
      send(a, tcp(33000, 80, ack));
      near(8000);
      send(a, tcp(33000, 80, fin | ack));
      near(8000);
      assert.equal(onlyFlow(true).flags & CLOSED, CT_F_INITIATOR_CLOSED);
      send(b, tcp(80, 33000, fin | ack));
      near(10);
      assert.equal(onlyFlow(true).flags & CLOSED, CLOSED);
      send(a, tcp(33000, 80, ack));
      near(10);
    });

    test(title('a reset closes both ways'), () => {
      send(a, tcp(33000, 80, syn));
      send(b, tcp(80, 33000, rst | ack));
      assert.equal(onlyFlow(true).flags & CLOSED, CLOSED);
    });

    test(title('a SYN on a closed connection opens a new one, also from the other end'), () => {
      delivered(a, tcp(33000, 80, syn), 'new');
      delivered(a, tcp(33000, 80, syn), 'established');
      delivered(b, tcp(80, 33000, rst | ack), 'reply');
      delivered(a, tcp(33000, 80, syn), 'new');
      assert.equal(onlyFlow(true).flags & CLOSED, 0);
      delivered(b, tcp(80, 33000, rst | ack), 'reply');
      delivered(b, tcp(80, 33000, syn), 'new');
      delivered(a, tcp(33000, 80, syn | ack), 'reply');
    });

    test(title('an entry whose time is over does not count'), () => {
      onlyTo(b, PROTOCOL.tcp, 80);
      delivered(a, tcp(33000, 80, syn), 'new');
      expire(true);
      assertDropped(send(b, tcp(80, 33000, syn | ack)), 'DROP_POLICY');
      delivered(a, tcp(33000, 80, syn), 'new');
      onlyTo(b, PROTOCOL.udp, 53);
      delivered(a, udp(5000, 53), 'new');
      expire(false);
      assertDropped(send(b, udp(53, 5000)), 'DROP_POLICY');
    });

    test(title('an entry says who opened the flow and which flags each end has sent'), () => {
      send(b, tcp(33000, 80, syn));
      send(a, tcp(80, 33000, syn | ack));
      const entry = onlyFlow(true);
      assert.equal(entry.initiatorIdentity, IDENTITY.b);
      assert.deepEqual([entry.initiatorTcpFlags, entry.responderTcpFlags], [syn, syn | ack]);
    });
  }

  test('privileged: the two families and TCP and the rest have flows of their own', () => {
    const count = (family: IpFamily, kind: string): number => {
      const map = bed.map(`cilium_ct${family}_${kind}`);
      const entries = [...map.entries()].length;
      map.close();
      return entries;
    };
    for (const family of FAMILIES) bed.send(a, packet(ends(a, b, family), tcp(1, 2, syn)));
    bed.send(a, packet(ends(a, b, 6), udp(1, 2)));
    assert.deepEqual([count(4, 'tcp'), count(4, 'any'), count(6, 'tcp'), count(6, 'any')], [1, 0, 1, 1]);
  });
});
