// SPDX-License-Identifier: Apache-2.0

/** Headers of every layer that are cut short, lie about lengths or make no sense. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { IpFamily } from '../../net/ip.ts';
import { assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import { Bed, ends, FAMILIES, NODE, OTHER, type Station } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import {
  echo,
  ETH,
  type IpOptions,
  packet,
  PROTOCOL,
  raw,
  sctp,
  TCP,
  tcp,
  type Transport,
  udp,
} from './support/packet.ts';

type Change = (packet: Buffer) => void;

const L4 = { 4: ETH + 20, 6: ETH + 40 };

/** What is wrong, with the reason to be dropped for. */
const NETWORK: Readonly<Record<IpFamily, readonly (readonly [string, Change])[]>> = {
  4: [
    ['version', (p) => void (p[ETH] = 0x55)],
    ['header shorter than 20 bytes', (p) => void (p[ETH] = 0x44)],
    ['header beyond the packet', (p) => void p.writeUInt16BE(19, ETH + 2)],
    ['header longer than the total length', (p) => void (p[ETH] = 0x4f)],
    ['total length beyond the packet', (p) => void p.writeUInt16BE(p.length - ETH + 1, ETH + 2)],
    ['total length 0', (p) => void p.writeUInt16BE(0, ETH + 2)],
  ],
  6: [
    ['version', (p) => void (p[ETH] = 0x45)],
    ['payload beyond the packet', (p) => void p.writeUInt16BE(p.length - ETH - 39, ETH + 4)],
    ['payload length that wraps around', (p) => void p.writeUInt16BE(0xffff, ETH + 4)],
    ['payload too short for the transport header', (p) => void p.writeUInt16BE(7, ETH + 4)],
  ],
};

const flags = (value: number): Transport => tcp(1, 2, value);

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;
  afterEach(() => bed.flush());

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const l4 = L4[family];
    const make = (transport: Transport, options?: IpOptions): Buffer => packet(ends(a, b, family), transport, options);
    const changed = (transport: Transport, change: Change): Buffer => {
      const copy = make(transport);
      change(copy);
      return copy;
    };

    test(title('wrong IP headers are dropped'), () => {
      for (const [what, change] of NETWORK[family]) {
        assertDropped(bed.send(a, changed(udp(1, 2), change)), 'DROP_INVALID', what);
      }
    });

    // BPF_PROG_TEST_RUN itself refuses frames without a whole IP header.
    test(title('packets cut short in their transport header are dropped, or left to the node'), () => {
      for (const transport of [
        tcp(1, 2, TCP.syn),
        udp(1, 2, Buffer.alloc(0)),
        echo(family, 'request', 1),
        sctp(1, 2),
      ]) {
        const needed = transport.protocol === PROTOCOL.tcp ? 20 : transport.protocol === PROTOCOL.sctp ? 12 : 8;
        for (let length = 0; length < needed; length++) {
          const cut = (from: Station, to: Station): Buffer =>
            packet(ends(from, to, family), transport, { slice: [0, length] });
          const what = `protocol ${transport.protocol}, ${length} bytes`;
          assertDropped(bed.send(a, cut(a, b)), 'DROP_INVALID', what);
          assertDropped(bed.receive(a, cut(b, a)), 'DROP_INVALID', what);
          assertDropped(bed.fromHost(cut(NODE, a)), 'DROP_INVALID', what);
          assertDropped(bed.fromOutside(cut(OTHER, a)), 'DROP_INVALID', what);
          assertUntouched(bed.fromOutside(cut(OTHER, NODE)), cut(OTHER, NODE), what);
          const lying = make(transport).subarray(0, l4 + length);
          assertDropped(bed.send(a, lying), 'DROP_INVALID', what);
        }
      }
    });

    test(title('lengths in the transport header that are not those of the packet are dropped'), () => {
      assertDropped(
        bed.send(
          a,
          changed(udp(1, 2), (p) => p.writeUInt16BE(7, l4 + 4)),
        ),
        'DROP_INVALID',
        'UDP 7',
      );
      assertDropped(
        bed.send(
          a,
          changed(udp(1, 2), (p) => p.writeUInt16BE(17, l4 + 4)),
        ),
        'DROP_INVALID',
        'UDP 17',
      );
      assertDropped(
        bed.send(
          a,
          changed(flags(TCP.syn), (p) => (p[l4 + 12] = 4 << 4)),
        ),
        'DROP_INVALID',
        'TCP 16',
      );
      assertDropped(
        bed.send(
          a,
          changed(flags(TCP.syn), (p) => (p[l4 + 12] = 6 << 4)),
        ),
        'DROP_INVALID',
        'TCP 24',
      );
      assertDelivered(bed.send(a, make(udp(1, 2))), b.ifindex);
    });

    test(title('TCP flags that no connection has are dropped'), () => {
      const { fin, syn, rst, psh, ack } = TCP;
      for (const value of [0, psh, syn | fin, syn | rst, syn | fin | rst | psh | ack, 0x20]) {
        assertDropped(bed.send(a, make(flags(value))), 'DROP_CT_INVALID_HDR', `flags ${value}`);
      }
      for (const value of [syn, syn | ack, ack, fin | ack, fin, rst, rst | ack, psh | ack, 0xc0 | syn]) {
        assertDelivered(bed.send(a, make(flags(value))), b.ifindex, `flags ${value}`);
      }
    });

    test(title('transports other than TCP, UDP, SCTP and ICMP are dropped'), () => {
      for (const protocol of [4, 41, 47, 103, 136, 255, family === 4 ? 50 : 1, family === 4 ? 58 : 50]) {
        const sent = make(raw(protocol, Buffer.alloc(16)));
        assertDropped(bed.send(a, sent), 'DROP_CT_UNKNOWN_PROTO', `protocol ${protocol}`);
      }
      assert.equal(bed.send(a, make(sctp(1, 2))).target, b.ifindex);
    });

    test(title('padding after the packet does not count'), () => {
      const padded = Buffer.concat([make(udp(1, 2, Buffer.alloc(0))), Buffer.alloc(18)]);
      assertDelivered(bed.send(a, padded), b.ifindex);
    });
  }

  test('privileged: IPv4 options are walked over', () => {
    for (const bytes of [4, 20, 40]) {
      const sent = packet(ends(a, b, 4), udp(1, 80), { options: Buffer.alloc(bytes, 1) });
      assertDelivered(bed.send(a, sent), b.ifindex, `${bytes} bytes`);
    }
  });

  test('privileged: IPv4 source routes are refused wherever they stand among the options', () => {
    const withOptions = (...bytes: number[]): Buffer =>
      packet(ends(a, b, 4), udp(1, 80), {
        options: Buffer.concat([Buffer.from(bytes)], Math.ceil(bytes.length / 4) * 4),
      });
    for (const type of [131, 137]) {
      const route = [type, 7, 4, 10, 0, 0, 9];
      for (const before of [
        [],
        [1],
        [1, 1, 1],
        [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        Array.from({ length: 33 }, () => 1),
      ]) {
        assertDropped(bed.send(a, withOptions(...before, ...route)), 'DROP_INVALID');
      }
      // Behind the end of the options it is padding.
      assertDelivered(bed.send(a, withOptions(0, ...route)), b.ifindex);
    }
    for (const length of [0, 1]) assertDropped(bed.send(a, withOptions(7, length, 4, 0)), 'DROP_INVALID');
  });

  const hopByHop = [0, Buffer.from([0, 0, 1, 4, 0, 0, 0, 0])] as const;
  const destination = [60, Buffer.from([0, 0, 1, 4, 0, 0, 0, 0])] as const;
  const long = [60, Buffer.from([0, 2, 1, 20, ...Buffer.alloc(20)])] as const;
  const routing = (left: number): readonly [number, Buffer] => [43, Buffer.from([0, 0, 0, left, 0, 0, 0, 0])];
  const authentication = [51, Buffer.from([0, 4, 0, 0, ...Buffer.alloc(20)])] as const;
  const withExtensions = (...extensions: (readonly [number, Buffer])[]): Buffer =>
    packet(ends(a, b, 6), udp(1, 80), { extensions });

  test('privileged: IPv6 extension headers are walked over', () => {
    const chains = [[hopByHop], [destination], [long], [routing(0)], [authentication]];
    chains.push([hopByHop, destination, routing(0), long, authentication]);
    for (const chain of chains) {
      const result = bed.send(a, withExtensions(...chain));
      assert.equal(result.target, b.ifindex, chain.map(([type]) => type).join());
    }
    const atomic = packet(ends(a, b, 6), udp(1, 80), { fragment: { id: 1, offset: 0, more: false } });
    assert.equal(bed.send(a, atomic).target, b.ifindex);
  });

  test('privileged: IPv6 extension headers too many, out of place or with a route to take are dropped', () => {
    const cases = {
      'seven of them': Array.from({ length: 7 }, () => destination),
      'hop-by-hop not first': [destination, hopByHop],
      'segments left': [routing(1)],
      'after a fragment header': [[44, Buffer.from([0, 0, 0, 1, 0, 0, 0, 9])] as const, destination],
      'two fragment headers': [0, 1].map(() => [44, Buffer.from([0, 0, 0, 1, 0, 0, 0, 9])] as const),
    };
    for (const [what, chain] of Object.entries(cases)) {
      assertDropped(bed.send(a, withExtensions(...chain)), 'DROP_INVALID_EXTHDR', what);
    }
  });

  test('privileged: IPv6 extension headers that end outside the packet are dropped', () => {
    const outside = [60, Buffer.from([0, 200, 1, 4, 0, 0, 0, 0])] as const;
    assertDropped(bed.send(a, withExtensions(outside)), 'DROP_INVALID');
    const whole = withExtensions(hopByHop);
    for (let length = ETH + 40; length < ETH + 48; length++) {
      const cut = Buffer.from(whole.subarray(0, length));
      cut.writeUInt16BE(length - ETH - 40, ETH + 4);
      assertDropped(bed.send(a, cut), 'DROP_INVALID', `${length} bytes`);
    }
    const nothing = packet(ends(a, b, 6), raw(59, Buffer.alloc(8)));
    assertDropped(bed.send(a, nothing), 'DROP_CT_UNKNOWN_PROTO');
  });
});
