// SPDX-License-Identifier: Apache-2.0

/** ICMP errors belong to the flow that they complain about, or they don't pass. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import { allow, Bed, ends, EXT_MAC, FAMILIES, IDENTITY, NODE, OTHER, type Station, WORLD } from './support/bed.ts';
import { addressText } from './support/dissect.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, ETH, icmpError, packet, PROTOCOL, sctp, TCP, tcp, type Transport, udp } from './support/packet.ts';

const KINDS = ['unreachable', 'too-big', 'time-exceeded'] as const;

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;
  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const l3 = family === 4 ? 20 : 40;
    const make = (from: Station, to: Station, transport: Transport): Buffer =>
      packet(ends(from, to, family), transport);
    /** `from` tells `to` that `failed` did not get through. */
    const complain = (
      from: Station,
      to: Station,
      failed: Buffer,
      kind: (typeof KINDS)[number] = 'unreachable',
    ): Buffer => make(from, to, icmpError(family, kind, failed, 1280));
    /** As it arrives at the device. */
    const outside = (sent: Buffer): Buffer => {
      const copy = Buffer.from(sent);
      Buffer.from(EXT_MAC.replaceAll(':', ''), 'hex').copy(copy);
      return copy;
    };

    test(title('an error about a packet of a flow passes as part of the flow'), () => {
      bed.policy(a, [allow({ egress: true, protocol: PROTOCOL.udp, port: 53 })]);
      bed.policy(b, [allow({ egress: false, protocol: PROTOCOL.udp, port: 53 })]);
      const question = make(a, b, udp(5000, 53));
      bed.send(a, question);
      for (const kind of KINDS) {
        const result = bed.send(b, complain(b, a, question, kind));
        assertDelivered(result, a.ifindex, kind);
        const trace = result.events.at(-1);
        assert.ok(trace?.type === 'trace' && trace.reason === 3);
      }
      assertDelivered(bed.send(a, complain(a, b, make(b, a, udp(53, 5000)))), b.ifindex, 'about the reply');
      bed.policy(b, []);
      assertDropped(bed.send(b, complain(b, a, question)), 'DROP_POLICY');
    });

    test(title('errors about TCP, SCTP and echo pass, too'), () => {
      const forth = [tcp(33000, 80, TCP.syn), sctp(7, 8), echo(family, 'request', 9)];
      const back = [tcp(80, 33000, TCP.ack), sctp(8, 7), echo(family, 'reply', 9)];
      for (const [i, transport] of forth.entries()) {
        const question = make(a, b, transport);
        bed.send(a, question);
        assert.equal(bed.send(b, complain(b, a, question)).target, a.ifindex, `${i}`);
        assert.equal(bed.send(a, complain(a, b, make(b, a, back[i]!))).target, b.ifindex, `${i}, reply`);
      }
    });

    test(title('an error that belongs to no flow is dropped'), () => {
      assertDropped(bed.send(b, complain(b, a, make(a, b, udp(5000, 53)))), 'DROP_UNKNOWN_CT');
      bed.send(a, make(a, b, udp(5000, 53)));
      assertDropped(bed.send(b, complain(b, a, make(a, b, udp(5001, 53)))), 'DROP_UNKNOWN_CT');
      assertDropped(bed.send(b, complain(b, a, make(a, b, tcp(5000, 53, TCP.ack)))), 'DROP_UNKNOWN_CT');
    });

    test(title("a container can't complain about the packets of others, nor to others"), () => {
      bed.send(a, make(a, b, udp(5000, 53)));
      const foreign = make(a, OTHER, udp(5000, 53));
      assertDropped(bed.send(b, complain(b, a, foreign)), 'DROP_CT_INVALID_HDR', 'it was not the receiver');
      const elsewhere = make(WORLD, b, udp(5000, 53));
      assertDropped(bed.send(b, complain(b, a, elsewhere)), 'DROP_CT_INVALID_HDR', 'to somebody else');
    });

    test(title('errors that quote nothing usable are dropped'), () => {
      const question = make(a, b, udp(5000, 53));
      bed.send(a, question);
      const quote = (change: (copy: Buffer) => Buffer): Buffer => complain(b, a, change(Buffer.from(question)));
      const changes: Record<string, (copy: Buffer) => Buffer> = {
        nothing: (p) => p.subarray(0, ETH),
        'half a header': (p) => p.subarray(0, ETH + 10),
        'no ports': (p) => p.subarray(0, ETH + l3 + 7),
        'another version': (p) => (p.writeUInt8(0x75, ETH), p),
        'an unknown protocol': (p) => (p.writeUInt8(47, ETH + (family === 4 ? 9 : 6)), p),
        'an ICMP error': (p) => (p.writeUInt8(family === 4 ? 1 : 58, ETH + (family === 4 ? 9 : 6)), p),
      };
      if (family === 4) {
        changes['a later fragment'] = (p) => (p.writeUInt16BE(100, ETH + 6), p);
        changes['a short header'] = (p) => (p.writeUInt8(0x44, ETH), p);
      }
      for (const [what, change] of Object.entries(changes)) {
        if (what === 'an ICMP error') question[ETH + l3] = 3;
        assertDropped(bed.send(b, quote(change)), 'DROP_CT_INVALID_HDR', what);
      }
    });

    test(title('an error leaves its flow as it is'), () => {
      const question = make(a, b, tcp(33000, 80, TCP.syn));
      bed.send(a, question);
      const read = (): string => {
        const map = bed.map(`cilium_ct${family}_tcp`);
        const values = [...map.entries()].map(({ value }) => value.toString('hex'));
        map.close();
        return values.join();
      };
      const before = read();
      bed.send(b, complain(b, a, question));
      assert.equal(read(), before);
    });

    test(title('an error of a router about a masqueraded packet reaches the container as about its own packet'), () => {
      for (const transport of [udp(40_000, 53), tcp(40_000, 80, TCP.syn), echo(family, 'request', 40_000)]) {
        const sent = bed.send(a, make(a, WORLD, transport)).packet;
        const router: Station = OTHER;
        const result = bed.fromOutside(outside(complain(router, NODE, sent, 'time-exceeded')));
        const seen = assertDelivered(result, a.ifindex);
        assert.deepEqual([seen.src, seen.dst], [router[family], a[family]]);
        const quoted = seen.rest;
        const source = quoted.subarray(family === 4 ? 12 : 8, family === 4 ? 16 : 24);
        assert.equal(addressText(source), a[family]);
        const port = quoted.readUInt16BE(
          l3 + (transport.protocol === PROTOCOL.icmp || transport.protocol === 58 ? 4 : 0),
        );
        assert.equal(port, 40_000);
        bed.flush();
      }
    });

    test(title('an error of a container about a masqueraded flow leaves as about the packet on the wire'), () => {
      const sent = bed.send(a, make(a, WORLD, udp(40_000, 53))).packet;
      const port = sent.readUInt16BE(ETH + l3);
      const seen = assertDelivered(bed.send(a, complain(a, WORLD, make(WORLD, a, udp(53, 40_000)))), bed.ext);
      assert.deepEqual([seen.src, seen.dst], [NODE[family], WORLD[family]]);
      const destination = seen.rest.subarray(family === 4 ? 16 : 24, family === 4 ? 20 : 40);
      assert.equal(addressText(destination), NODE[family]);
      assert.equal(seen.rest.readUInt16BE(l3 + 2), port);
    });

    test(title('errors for the node itself are left to it'), () => {
      const own = make(NODE, WORLD, udp(25_000, 53));
      const sent = outside(complain(OTHER, NODE, own));
      assertUntouched(bed.fromOutside(sent), sent);
    });

    test(title('an error from outside about a flow of a container’s own address is judged with that flow'), () => {
      bed.policy(a, [allow({ egress: false, identity: family === 4 ? 9 : 10, protocol: PROTOCOL.udp, port: 53 })]);
      bed.fromOutside(outside(make(WORLD, a, udp(5000, 53))));
      const reply = bed.send(a, make(a, WORLD, udp(53, 5000))).packet;
      assertDelivered(bed.fromOutside(outside(complain(OTHER, a, reply))), a.ifindex);
      assertDropped(bed.fromOutside(outside(complain(OTHER, a, make(a, WORLD, udp(54, 5000))))), 'DROP_UNKNOWN_CT');
    });

    test(title('an error of the node to a container belongs to the flow, too'), () => {
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.host, protocol: PROTOCOL.udp, port: 53 })]);
      const question = make(a, NODE, udp(5000, 53));
      bed.send(a, question);
      assertDelivered(bed.fromHost(complain(NODE, a, question)), a.ifindex);
      bed.policy(a, []);
      assertDropped(bed.fromHost(complain(NODE, a, question)), 'DROP_POLICY');
    });
  }
});
