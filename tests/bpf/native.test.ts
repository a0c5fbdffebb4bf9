// SPDX-License-Identifier: Apache-2.0

/** Containers of other nodes without a tunnel: reached by routes, under their own addresses, known by ipcache. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { assertAnswered, assertDelivered, assertDropped, verdicts } from './support/assert.ts';
import { allow, Bed, ends, EXT_MAC, FAMILIES, NODE, type Result, type Station, WORLD } from './support/bed.ts';
import { inNamespace, run } from './support/namespace.ts';
import { icmpError, packet, PROTOCOL, sctp, TCP, tcp, type Transport, udp } from './support/packet.ts';
import { NODE_2, R, ROUTER_2, S, tellNodes } from './support/tunnel.ts';

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b, c } = bed;
  afterEach(() => {
    bed.flush();
    for (const end of [a, b, c]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const out = (from: Station & { ifindex: number }, to: Station, transport: Transport): Result =>
      bed.run('cil_from_container', packet(ends(from, to, family), transport), from.ifindex);
    const arrive = (from: Station, to: Station, transport: Transport): Result =>
      bed.fromOutside(packet({ ...ends(from, to, family), dstMac: EXT_MAC }, transport));
    const node2: Station = { ...R, [family]: NODE_2[family] };

    for (const underlay of FAMILIES) {
      test(title(`what goes to another node keeps its address (nodes known by IPv${underlay})`), () => {
        tellNodes(bed, underlay);
        for (const to of [R, S, ROUTER_2, node2]) {
          const seen = assertDelivered(out(a, to, udp(5000, 53)), bed.ext, to[family]);
          assert.deepEqual([seen.src, seen.sport, seen.ttl], [a[family], 5000, 63], to[family]);
        }
        assert.equal(out(a, R, sctp(1, 2)).target, bed.ext, 'no translation, no need to understand it');
        assert.equal(assertDelivered(out(a, WORLD, udp(25_000, 53)), bed.ext).src, NODE[family]);
        assertDelivered(out(a, WORLD, udp(25_000, 8472)), bed.ext, 'no tunnel, no port of it');
      });
    }

    test(title('both policies know containers of other nodes by ipcache'), () => {
      tellNodes(bed, 4);
      bed.policy(a, [
        allow({ egress: true, identity: R.identity, protocol: PROTOCOL.udp, port: 53 }),
        allow({ egress: false, identity: R.identity, protocol: PROTOCOL.tcp, port: 80 }),
      ]);
      assertDelivered(out(a, R, udp(5000, 53)), bed.ext);
      assertDelivered(arrive(R, a, udp(53, 5000)), a.ifindex, 'the reply');
      assertDropped(out(a, S, udp(5000, 53)), 'DROP_POLICY');
      const opened = arrive(R, a, tcp(5000, 80, TCP.syn));
      const seen = assertDelivered(opened, a.ifindex);
      assert.deepEqual([seen.src, seen.ttl], [R[family], 63]);
      assert.equal(verdicts(opened)[0]?.remoteIdentity, R.identity);
      assertDelivered(out(a, R, tcp(80, 5000, TCP.syn | TCP.ack)), bed.ext, 'the reply');
      assertDropped(arrive(S, a, tcp(5000, 80, TCP.syn)), 'DROP_POLICY');
      assertDropped(arrive(R, a, tcp(5000, 81, TCP.syn)), 'DROP_POLICY');
    });

    test(title('sizes are those of the route, and errors of routers follow their flow'), () => {
      tellNodes(bed, 4);
      run('ip', 'link', 'set', 'ext', 'mtu', '1400');
      const tooBig = assertAnswered(out(a, R, udp(1, 2, Buffer.alloc(1400))));
      run('ip', 'link', 'set', 'ext', 'mtu', '1500');
      if (family === 6) run('ip', '-6', 'route', 'replace', 'default', 'via', '2001:db8::fe');
      assert.deepEqual([tooBig.info, tooBig.dst], [1400, a[family]]);
      const question = packet(ends(a, R, family), udp(5000, 53));
      bed.send(a, question);
      assertDelivered(arrive(WORLD, a, icmpError(family, 'too-big', question, 1300)), a.ifindex);
      const other = packet(ends(a, R, family), udp(5001, 53));
      assertDropped(arrive(WORLD, a, icmpError(family, 'too-big', other, 1300)), 'DROP_UNKNOWN_CT');
    });

    test(title('an internal network reaches containers of other nodes and nothing else there'), () => {
      tellNodes(bed, 4);
      assertDelivered(out(c, R, udp(1, 2)), bed.ext);
      assertDelivered(arrive(R, c, udp(3, 4)), c.ifindex);
      for (const other of [ROUTER_2, node2, WORLD]) {
        assertDropped(out(c, other, udp(1, 2)), 'DROP_UNROUTABLE', other[family]);
        assertDropped(arrive(other, c, udp(1, 2)), 'DROP_UNROUTABLE', other[family]);
      }
    });

    test(title('what the routes bring back to the node has no container'), () => {
      tellNodes(bed, 4);
      assertDropped(bed.fromHost(packet(ends(NODE, R, family), udp(1, 2))), 'DROP_UNKNOWN_TARGET');
    });
  }
});
