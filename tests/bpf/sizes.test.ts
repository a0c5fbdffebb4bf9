// SPDX-License-Identifier: Apache-2.0

/** How large a packet may be that goes to another node, and what its sender hears when it is larger. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { IpFamily } from '../../net/ip.ts';
import { assertAnswered, assertDelivered } from './support/assert.ts';
import { Bed, ends, FAMILIES, type Result, type Station, TUNNEL } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { packet, sctp, TCP, tcp, type Transport, udp } from './support/packet.ts';
import { NODE_2, R, type RemoteStation, tellNodes, Tunnel } from './support/tunnel.ts';

const OVERHEAD = { 4: 50, 6: 70 } as const;
const IPV6_MIN_MTU = 1280;
const GSO_BY_FRAGS = 0xffff;

inNamespace(import.meta.filename, () => {
  const wide = new Bed({}, TUNNEL);
  const narrow = new Bed({ tunnel_mtu: 1300 }, TUNNEL);
  const native = new Bed();
  const tunnel = new Tunnel(wide);
  afterEach(() => {
    for (const bed of [wide, narrow, native]) bed.flush();
  });

  for (const underlay of FAMILIES) {
    for (const family of FAMILIES) testSizes(underlay, family);
  }

  function testSizes(underlay: IpFamily, family: IpFamily): void {
    const title = (text: string): string => `privileged: IPv${family} over IPv${underlay}: ${text}`;
    const headers = family === 4 ? 28 : 48;
    const make = (from: Station, to: Station, transport: Transport): Buffer =>
      packet(ends(from, to, family), transport);
    /** An IP packet of so many bytes from a container of this bed to one of another node. */
    const ofLength = (bed: Bed, length: number): Buffer => make(bed.a, R, udp(1, 2, Buffer.alloc(length - headers)));
    const send = (bed: Bed, length: number): Result => bed.send(bed.a, ofLength(bed, length));
    const arrive = (from: RemoteStation, sent: Buffer, gsoSize = 0): Result =>
      tunnel.receive(sent, NODE_2[underlay], from.identity, gsoSize);

    test(title('the largest packet that passes leaves a place for the headers around it'), () => {
      for (const [bed, mtu] of [
        [wide, TUNNEL.mtu],
        [narrow, 1300],
      ] as const) {
        tellNodes(bed, underlay);
        const room = mtu - OVERHEAD[underlay];
        const largest = family === 6 ? Math.max(room, IPV6_MIN_MTU) : room;
        assertDelivered(send(bed, largest), bed.vxlan);
        const answer = assertAnswered(send(bed, largest + 1));
        assert.deepEqual([answer.info, answer.dst], [largest, bed.a[family]]);
      }
    });

    test(title('the packet around it may be cut up on its way'), () => {
      tellNodes(wide, underlay);
      const outer = tunnel.transmit(ofLength(wide, 1400), 'lxc_a', 'cil_from_container');
      assert.equal(outer?.dontFragment, false);
    });

    test(title('of a packet that is yet to be cut up its segments count, both ways'), () => {
      tellNodes(wide, underlay);
      const { a, b } = wide;
      const room = TUNNEL.mtu - OVERHEAD[underlay];
      const segments = (to: Station, from: Station): Buffer => make(from, to, tcp(1, 2, TCP.ack, Buffer.alloc(3000)));
      const header = headers + 12;
      assertDelivered(wide.send(a, segments(R, a), room - header), wide.vxlan);
      assert.equal(assertAnswered(wide.send(a, segments(R, a), room - header + 1)).info, room);
      assertDelivered(arrive(R, segments(b, R), b.mtu - header), b.ifindex);
      assert.equal(assertAnswered(arrive(R, segments(b, R), b.mtu - header + 1)).info, b.mtu);
      const cut = make(a, R, sctp(1, 2));
      assert.equal(wide.send(a, cut, GSO_BY_FRAGS).target, wide.vxlan, 'its sender has seen to it');
    });

    test(title('without a tunnel there are no headers around'), () => {
      tellNodes(native, underlay);
      assertDelivered(send(native, 1500), native.ext);
      assert.equal(assertAnswered(send(native, 1501)).info, 1500);
      assert.equal(native.send(native.a, make(native.a, R, sctp(1, 2)), GSO_BY_FRAGS).target, native.ext);
    });
  }
});
