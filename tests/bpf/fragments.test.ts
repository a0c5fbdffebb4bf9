// SPDX-License-Identifier: Apache-2.0

/** Later fragments are judged by the ports of their datagram's first. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import {
  ACTION,
  allow,
  Bed,
  type Container,
  ends,
  EXT_MAC,
  FAMILIES,
  NODE,
  type Result,
  WORLD,
} from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, ETH, icmp, icmpError, packet, PROTOCOL, TCP, tcp, type Transport, udp } from './support/packet.ts';

const FIRST_BYTES = 48;

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;
  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
  });
  const datagram = (sport: number, dport: number): Transport => udp(sport, dport, Buffer.alloc(120, 0x42));

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const l3 = family === 4 ? 20 : 48;
    const fragment = (
      from: Pick<Container, 4 | 6 | 'mac' | 'hostMac'>,
      to: Pick<Container, 4 | 6 | 'mac' | 'hostMac'>,
      transport: Transport,
      part: 'first' | 'last',
      id = 99,
    ): Buffer => {
      const first = part === 'first';
      return packet(ends(from, to, family), transport, {
        fragment: { id, offset: first ? 0 : FIRST_BYTES, more: first },
        slice: first ? [0, FIRST_BYTES] : [FIRST_BYTES, transport.length],
      });
    };
    const goes = (result: Result, ifindex: number): void => {
      assert.equal(result.dropReason, undefined);
      assert.equal(result.action, ACTION.redirect);
      assert.equal(result.target, ifindex);
    };

    test(title('later fragments take the way of their first, judged by its ports'), () => {
      bed.policy(b, [allow({ egress: false, protocol: PROTOCOL.udp, port: 53 })]);
      goes(bed.send(a, fragment(a, b, datagram(5000, 53), 'first')), b.ifindex);
      goes(bed.send(a, fragment(a, b, datagram(5000, 53), 'last')), b.ifindex);
      assertDropped(bed.send(a, fragment(a, b, datagram(5000, 54), 'first', 100)), 'DROP_POLICY');
      assertDropped(bed.send(a, fragment(a, b, datagram(5000, 54), 'last', 100)), 'DROP_POLICY');
    });

    test(title('a later fragment whose first was not seen is dropped'), () => {
      assertDropped(bed.send(a, fragment(a, b, datagram(5000, 53), 'last')), 'DROP_FRAG_NOT_FOUND');
      bed.send(a, fragment(a, b, datagram(5000, 53), 'first', 1));
      assertDropped(
        bed.send(a, fragment(a, b, datagram(5000, 53), 'last', 2)),
        'DROP_FRAG_NOT_FOUND',
        'another datagram',
      );
      assertDropped(
        bed.send(b, fragment(b, a, datagram(5000, 53), 'last', 1)),
        'DROP_FRAG_NOT_FOUND',
        'another sender',
      );
      const foreign = { ...ends(a, b, family), src: b[family] };
      const options = { fragment: { id: 1, offset: FIRST_BYTES, more: false }, slice: [FIRST_BYTES, 128] as const };
      assertDropped(bed.send(a, packet(foreign, datagram(5000, 53), options)), 'DROP_INVALID_SIP');
    });

    test(title('fragments of a reply belong to the flow'), () => {
      bed.policy(b, [allow({ egress: false, protocol: PROTOCOL.udp, port: 53 })]);
      bed.policy(a, [allow({ egress: true, protocol: PROTOCOL.udp, port: 53 })]);
      bed.send(a, packet(ends(a, b, family), udp(5000, 53)));
      goes(bed.send(b, fragment(b, a, datagram(53, 5000), 'first')), a.ifindex);
      goes(bed.send(b, fragment(b, a, datagram(53, 5000), 'last')), a.ifindex);
    });

    test(title('fragmented echo requests and replies pass, lone replies open nothing'), () => {
      const rest = Buffer.alloc(124, 7);
      rest.writeUInt16BE(77, 0);
      const [request, reply] = family === 4 ? [8, 0] : [128, 129];
      for (const part of ['first', 'last'] as const) {
        goes(bed.send(a, fragment(a, b, icmp(family, request, 0, rest), part)), b.ifindex);
      }
      for (const part of ['first', 'last'] as const) {
        goes(bed.send(b, fragment(b, a, icmp(family, reply, 0, rest), part)), a.ifindex);
      }
      bed.flush();
      for (const part of ['first', 'last'] as const) bed.send(a, fragment(a, b, icmp(family, reply, 0, rest), part));
      const map = bed.map(`cilium_ct${family}_any`);
      assert.equal([...map.entries()].length, 0);
      map.close();
    });

    test(title('first fragments that hold no whole transport header are dropped'), () => {
      for (const transport of [tcp(1, 2, TCP.syn, Buffer.alloc(40)), datagram(1, 2), echo(family, 'request', 1)]) {
        const options = {
          fragment: { id: 5, offset: 0, more: true },
          slice: [0, transport.protocol === 6 ? 16 : 7] as const,
        };
        assertDropped(bed.send(a, packet(ends(a, b, family), transport, options)), 'DROP_INVALID');
      }
    });

    test(title('a fragment that would overwrite the flags of a TCP header is dropped'), () => {
      const transport = tcp(1, 2, TCP.syn, Buffer.alloc(40));
      const part = (offset: number, more: boolean): Buffer =>
        packet(ends(a, b, family), transport, { fragment: { id: 5, offset, more }, slice: [offset, 60] });
      bed.send(a, part(0, true));
      assertDropped(bed.send(a, part(8, false)), 'DROP_INVALID');
      goes(bed.send(a, part(16, false)), b.ifindex);
    });

    test(title('fragmented ICMP errors and other ICMP are dropped'), () => {
      bed.send(a, packet(ends(a, b, family), udp(5000, 53)));
      const error = icmpError(family, 'unreachable', packet(ends(a, b, family), udp(5000, 53)));
      const other = icmp(family, family === 4 ? 13 : 139, 0, Buffer.alloc(60));
      for (const transport of [error, other]) {
        assertDropped(bed.send(b, fragment(b, a, transport, 'first')), 'DROP_INVALID');
      }
    });

    test(title('fragments are masqueraded together, and those of the reply find back'), () => {
      const sent = datagram(40_000, 53);
      const first = bed.send(a, fragment(a, WORLD, sent, 'first'));
      const last = bed.send(a, fragment(a, WORLD, sent, 'last'));
      goes(first, bed.ext);
      goes(last, bed.ext);
      const source = (result: Result): Buffer => result.packet.subarray(ETH + (family === 4 ? 12 : 8)).subarray(0, 4);
      assert.ok(source(first).equals(source(last)));
      const whole = Buffer.concat([first.packet.subarray(ETH + l3), last.packet.subarray(ETH + l3)]);
      const port = whole.readUInt16BE(0);
      assert.notEqual(port, 40_000);
      const rebuilt = packet(ends(NODE, WORLD, family), udp(port, 53, whole.subarray(8)));
      assert.equal(
        whole.readUInt16BE(6),
        rebuilt.readUInt16BE(rebuilt.length - whole.length + 6),
        'checksum of the whole',
      );
      for (const part of ['first', 'last'] as const) {
        const back = packet({ ...ends(WORLD, NODE, family), dstMac: EXT_MAC }, datagram(53, port), {
          fragment: { id: 7, offset: part === 'first' ? 0 : FIRST_BYTES, more: part === 'first' },
          slice: part === 'first' ? [0, FIRST_BYTES] : [FIRST_BYTES, 128],
        });
        goes(bed.fromOutside(back), a.ifindex);
      }
    });

    test(title("fragments for the node that aren't a container's are left to it"), () => {
      for (const part of ['first', 'last'] as const) {
        const sent = fragment(WORLD, NODE, datagram(53, 25_000), part);
        assertUntouched(bed.fromOutside(sent), sent, part);
      }
    });

    test(title('a later fragment is never answered'), () => {
      bed.send(a, fragment(a, b, datagram(5000, 53), 'first'));
      const dying = packet(ends(a, b, family), datagram(5000, 53), {
        fragment: { id: 99, offset: FIRST_BYTES, more: false },
        slice: [FIRST_BYTES, 128],
        ttl: 1,
      });
      assertDropped(bed.send(a, dying), 'DROP_TTL_EXCEEDED');
      const big = udp(5000, 53, Buffer.alloc(3000));
      const part = (offset: number): Buffer =>
        packet(ends(a, b, family), big, { fragment: { id: 3, offset, more: true }, slice: [offset, offset + 1480] });
      bed.send(a, part(0));
      assertDropped(bed.send(a, part(1480)), 'DROP_FRAG_NEEDED');
    });
  }

  test('privileged: a fragment whose whole datagram is in it is a packet like any other', () => {
    const atomic = packet(ends(a, b, 6), udp(1, 80), { fragment: { id: 1, offset: 0, more: false } });
    assert.equal(bed.send(a, atomic).target, b.ifindex);
    assertDelivered(bed.send(a, packet(ends(a, b, 4), udp(1, 80))), b.ifindex);
  });
});
