// SPDX-License-Identifier: Apache-2.0

/** The tunnel between nodes: what leaves through it, what comes in, and who is believed. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { IpAddress, type IpFamily } from '../../net/ip.ts';
import { assertAnswered, assertDelivered, assertDropped, assertUntouched, verdicts } from './support/assert.ts';
import { allow, Bed, DIRECT_TUNNEL, ends, FAMILIES, HOST_MAC, NODE, type Result, ROUTER } from './support/bed.ts';
import { type Station, TUNNEL, WORLD } from './support/bed.ts';
import { type Dissected, dissect } from './support/dissect.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, ETH, ethernet, icmpError, packet, PROTOCOL, TCP, tcp, type Transport, udp } from './support/packet.ts';
import type { IpOptions } from './support/packet.ts';
import {
  NEW,
  type Node,
  NODE_2,
  NODE_3,
  R,
  REMOTE_NODE,
  type RemoteStation,
  inside,
  ROUTER_2,
  S,
  STRANGER,
  tellNodes,
  tellRouter,
  Tunnel,
  wrap,
} from './support/tunnel.ts';

const OVERHEAD = { 4: 50, 6: 70 } as const;

inNamespace(import.meta.filename, () => {
  const device = new Bed({}, TUNNEL);
  const direct = new Bed({}, DIRECT_TUNNEL);
  const tunnels = new Map([device, direct].map((bed) => [bed, new Tunnel(bed)]));
  const node: Station = { ...NODE, 4: ROUTER[4], 6: ROUTER[6] };

  for (const underlay of FAMILIES) {
    for (const family of FAMILIES) testTunnel(underlay, family, device);
  }
  for (const family of FAMILIES) testTunnel(4, family, direct);

  function testTunnel(underlay: IpFamily, family: IpFamily, bed: Bed): void {
    const by = bed === direct ? ', its device not passed' : '';
    const title = (text: string): string => `privileged: IPv${family} over IPv${underlay}${by}: ${text}`;
    const tunnel = tunnels.get(bed)!;
    const { a, b, c } = bed;
    afterEach(() => {
      bed.flush();
      for (const end of [a, b, c]) bed.policy(end);
    });
    const innerMtu = TUNNEL.mtu - OVERHEAD[underlay];
    const make = (from: Station, to: Station, transport: Transport, options?: IpOptions): Buffer =>
      packet(ends(from, to, family), transport, options);
    const sent = (result: Result): Dissected => assertDelivered(inside(result), bed.vxlan);
    const answered = (result: Result): Dissected => assertAnswered(inside(result));
    /** From a container of another node, or from where a liar says. */
    const arrive = (from: RemoteStation, packet: Buffer, by: Node = from.node, identity = from.identity): Result =>
      bed === direct
        ? bed.fromOutside(wrap(packet, by[underlay], identity))
        : tunnel.receive(packet, by[underlay], identity);

    test(title('a packet for a container of another node leaves as it is, with one hop less'), () => {
      tellNodes(bed, underlay);
      const packet = make(a, R, tcp(33000, 80, TCP.syn));
      const result = bed.send(a, packet);
      const seen = sent(result);
      assert.deepEqual([seen.src, seen.dst, seen.sport, seen.ttl], [a[family], R[family], 33000, 63]);
      const trace = result.events.at(-1);
      assert.ok(trace?.type === 'trace' && trace.point === 4 && trace.destinationIdentity === R.identity);
      assert.equal(verdicts(result)[0]?.remoteIdentity, R.identity);
    });

    test(title('on the wire it goes to the node of its receiver, with the identity of its sender'), () => {
      tellNodes(bed, underlay);
      for (const to of [R, S]) {
        const outer = tunnel.transmit(make(a, to, udp(5000, 53)), 'lxc_a', 'cil_from_container');
        assert.ok(outer, to[family]);
        assert.deepEqual([outer.src, outer.dst, outer.port], [NODE[underlay], to.node[underlay], TUNNEL.port]);
        assert.deepEqual([outer.vni, outer.ttl], [a.identity, 64]);
        assert.equal(outer.checksum === 0, underlay === 4, 'IPv6 wants a checksum');
        const inner = dissect(outer.inner);
        assert.ok(inner.checksumsRight);
        assert.deepEqual([inner.src, inner.dst, inner.dport], [a[family], to[family], 53]);
      }
    });

    test(title('the node itself sends as remote-node, by the address of its router only'), () => {
      tellNodes(bed, underlay);
      tellRouter(bed, true);
      const outer = tunnel.transmit(make(node, R, udp(5000, 53)), 'host', 'cil_from_host');
      assert.ok(outer);
      assert.deepEqual([outer.vni, outer.dst], [REMOTE_NODE, NODE_2[underlay]]);
      assert.equal(dissect(outer.inner).ttl, 64, 'the hop count is kept');
      const result = bed.fromHost(make(node, R, udp(5000, 53)));
      assert.equal(sent(result).src, node[family]);
      assertDropped(bed.fromHost(make(WORLD, R, udp(5000, 53))), 'DROP_INVALID_IDENTITY');
      assertDropped(bed.fromHost(make(a, R, udp(5000, 53))), 'DROP_INVALID_IDENTITY');
      const tooBig = assertAnswered(bed.fromHost(make(node, R, udp(1, 2, Buffer.alloc(innerMtu)))));
      assert.deepEqual([tooBig.info, tooBig.dst, tooBig.dstMac], [innerMtu, node[family], HOST_MAC]);
      assert.equal(tooBig.src, R[family]);
      tellRouter(bed, false);
    });

    test(title('the egress policy of the sender knows the receiver by ipcache'), () => {
      tellNodes(bed, underlay);
      bed.policy(a, [allow({ egress: true, identity: R.identity, protocol: PROTOCOL.udp, port: 53 })]);
      sent(bed.send(a, make(a, R, udp(5000, 53))));
      assertDropped(bed.send(a, make(a, R, udp(5000, 54))), 'DROP_POLICY');
      assertDropped(bed.send(a, make(a, S, udp(5000, 53))), 'DROP_POLICY');
    });

    test(title('what comes in is judged by the identity that came with it, whatever ipcache says'), () => {
      tellNodes(bed, underlay);
      bed.policy(a, [allow({ egress: false, identity: R.identity, protocol: PROTOCOL.tcp, port: 80 })]);
      const result = arrive(R, make(R, a, tcp(5000, 80, TCP.syn)));
      const seen = assertDelivered(result, a.ifindex);
      assert.deepEqual([seen.src, seen.dst, seen.ttl], [R[family], a[family], 63]);
      assert.deepEqual([seen.dstMac, seen.srcMac], [a.mac, a.hostMac]);
      assert.equal(verdicts(result)[0]?.remoteIdentity, R.identity);
      assert.ok(result.events.some((event) => event.type === 'trace' && event.point === 9));
      assertDropped(arrive(R, make(R, a, tcp(5000, 81, TCP.syn))), 'DROP_POLICY');
      assertDropped(arrive(R, make(R, a, tcp(5000, 80, TCP.syn)), NODE_2, S.identity), 'DROP_POLICY');
      bed.policy(a, [allow({ egress: false, identity: NEW.identity })]);
      assertDelivered(arrive(NEW, make(NEW, a, udp(1, 2))), a.ifindex);
    });

    test(title('a frame on the wire finds the receiver, and one that is forged does not'), () => {
      tellNodes(bed, underlay);
      const target = (from: string, vni: number): (number | undefined)[] => {
        bed.takeEvents();
        tunnel.receiveFrame(wrap(make(R, a, udp(1, 2)), from, vni));
        return bed.takeEvents().map((event) => {
          if (event.type === 'drop') return -event.reason;
          return event.type === 'trace' && event.point === 0 ? event.ifindex : undefined;
        });
      };
      assert.ok(target(NODE_2[underlay], R.identity).includes(a.ifindex));
      assert.deepEqual(target(NODE_3[underlay], R.identity), [-172]);
      assert.deepEqual(target(STRANGER[underlay], R.identity), [-172]);
    });

    test(title('replies go both ways by the policy of the flow'), () => {
      tellNodes(bed, underlay);
      bed.policy(a, [allow({ egress: true, identity: R.identity, protocol: PROTOCOL.udp, port: 53 })]);
      sent(bed.send(a, make(a, R, udp(5000, 53))));
      assertDelivered(arrive(R, make(R, a, udp(53, 5000))), a.ifindex);
      assertDropped(arrive(R, make(R, a, udp(53, 5001))), 'DROP_POLICY');
      bed.policy(a, [allow({ egress: true, identity: R.identity })]);
      sent(bed.send(a, make(a, R, echo(family, 'request', 3))));
      assertDelivered(arrive(R, make(R, a, echo(family, 'reply', 3))), a.ifindex);
      assertDropped(arrive(R, make(R, a, echo(family, 'request', 3))), 'DROP_POLICY');
      bed.policy(a, []);
      assertDropped(arrive(R, make(R, a, udp(53, 5000))), 'DROP_POLICY');
      bed.flush();
      bed.policy(a, [allow({ egress: false, identity: R.identity, protocol: PROTOCOL.tcp, port: 80 })]);
      assertDelivered(arrive(R, make(R, a, tcp(5000, 80, TCP.syn))), a.ifindex);
      sent(bed.send(a, make(a, R, tcp(80, 5000, TCP.syn | TCP.ack))));
      assertDropped(bed.send(a, make(a, R, tcp(81, 5000, TCP.ack))), 'DROP_POLICY');
      bed.policy(a, []);
      assertDropped(bed.send(a, make(a, R, tcp(80, 5000, TCP.ack))), 'DROP_POLICY');
    });

    test(title('nobody speaks for a container but the node that it lives on'), () => {
      tellNodes(bed, underlay);
      const packet = (from: Station): Buffer => make(from, a, udp(1, 2));
      const forged: readonly (readonly [string, RemoteStation, Node])[] = [
        ['no node', R, STRANGER],
        ['another node', R, NODE_3],
        ['another node, an address not yet known', NEW, NODE_3],
        ['a node for its neighbour', S, NODE_2],
      ];
      for (const [what, from, by] of forged) assertDropped(arrive(from, packet(from), by), 'DROP_UNKNOWN_SENDER', what);
      for (const from of [b, a, NODE, WORLD, { ...R, [family]: NODE_2[family] }]) {
        const result = arrive(R, packet(from));
        assertDropped(result, 'DROP_UNKNOWN_SENDER', from[family]);
      }
      const loopback = { ...R, [family]: family === 4 ? '127.0.0.1' : '::1' };
      assertDropped(arrive(R, packet(loopback)), 'DROP_UNKNOWN_SENDER');
    });

    test(title('each part of the address of the node counts, and its family'), () => {
      tellNodes(bed, underlay);
      const bytes = Buffer.from(IpAddress.parse(NODE_2[underlay]).bytes);
      for (let i = 0; i < bytes.length; i++) {
        const other = Buffer.from(bytes);
        other[i]! ^= 0x10;
        const text = new IpAddress(Uint8Array.from(other)).toString();
        assertDropped(arrive(R, make(R, a, udp(1, 2)), { ...NODE_2, [underlay]: text }), 'DROP_UNKNOWN_SENDER', text);
      }
      const wrongFamily = NODE_2[underlay === 4 ? 6 : 4];
      assertDropped(tunnel.receive(make(R, a, udp(1, 2)), wrongFamily, R.identity), 'DROP_UNKNOWN_SENDER');
    });

    test(title('identities that never cross between nodes are refused'), () => {
      tellNodes(bed, underlay);
      bed.identities.replace([256, 65_535]);
      for (const identity of [0, 1, 2, 3, 7, 9, 10, 127, 128, 255, 257, 65_534, 65_536, 0xffffff]) {
        const result = arrive(R, make(R, a, udp(1, 2)), NODE_2, identity);
        assertDropped(result, 'DROP_INVALID_IDENTITY', String(identity));
      }
      for (const identity of [4, 5, REMOTE_NODE, 256, 65_535]) {
        assertDelivered(arrive(R, make(R, a, udp(1, 2)), NODE_2, identity), a.ifindex, String(identity));
      }
      for (const identity of [1, 0x0100_0001]) {
        bed.setEndpoint(a, { identity });
        assertDropped(bed.send(a, make(a, R, udp(1, 2))), 'DROP_INVALID_IDENTITY');
      }
      bed.setEndpoint(a);
    });

    test(title('an address that no container has is nobody, and the node gets what is for it'), () => {
      tellNodes(bed, underlay);
      const nobody = { ...a, [family]: family === 4 ? '10.0.1.99' : 'fd00:1::99' };
      assertDropped(arrive(R, make(R, nobody, udp(1, 2))), 'DROP_UNKNOWN_TARGET');
      assertDropped(arrive(R, make(R, S, udp(1, 2))), 'DROP_UNKNOWN_TARGET');
      const seen = assertDelivered(arrive(R, make(R, NODE, udp(1, 2))), bed.host);
      assert.deepEqual([seen.dstMac, seen.ttl], [HOST_MAC, 64]);
      assertDropped(arrive(R, make(R, NODE, udp(1, 2)), NODE_3), 'DROP_UNKNOWN_SENDER');
    });

    test(title('hops are counted and sizes checked on the way out'), () => {
      tellNodes(bed, underlay);
      const expired = assertAnswered(bed.send(a, make(a, R, udp(1, 2), { ttl: 1 })));
      assert.deepEqual([expired.src, expired.type], [ROUTER[family], family === 4 ? 11 : 3]);
      const header = family === 4 ? 28 : 48;
      sent(bed.send(a, make(a, R, udp(1, 2, Buffer.alloc(innerMtu - header)))));
      const tooBig = assertAnswered(bed.send(a, make(a, R, udp(1, 2, Buffer.alloc(innerMtu - header + 1)))));
      assert.deepEqual([tooBig.info, tooBig.dst], [innerMtu, a[family]]);
      assert.equal(assertAnswered(bed.send(b, make(b, R, udp(1, 2, Buffer.alloc(1400))))).info, b.mtu);
      sent(bed.send(a, make(a, R, tcp(1, 2, TCP.ack, Buffer.alloc(3000))), innerMtu - header - 12));
    });

    test(title('what cannot go on is answered through the tunnel, as from the node'), () => {
      tellNodes(bed, underlay);
      const expired = answered(arrive(R, make(R, a, udp(1, 2), { ttl: 1 })));
      assert.deepEqual([expired.src, expired.dst], [ROUTER[family], R[family]]);
      assert.equal(answered(arrive(R, make(R, b, udp(1, 2, Buffer.alloc(1400))))).info, b.mtu);
      const outer = tunnel.receiveFrame(wrap(make(R, a, udp(1, 2), { ttl: 1 }), NODE_2[underlay], R.identity));
      assert.ok(outer);
      assert.deepEqual([outer.vni, outer.dst], [REMOTE_NODE, NODE_2[underlay]]);
      assert.equal(dissect(outer.inner).dst, R[family]);
      assertDropped(arrive(R, make(R, a, icmpError(family, 'unreachable', make(a, R, udp(7, 7))))), 'DROP_UNKNOWN_CT');
    });

    test(title('errors belong to their flow, and come from the node that its other end lives on'), () => {
      tellNodes(bed, underlay);
      bed.policy(a, [allow({ egress: true, identity: R.identity, protocol: PROTOCOL.udp, port: 53 })]);
      const question = make(a, R, udp(5000, 53));
      sent(bed.send(a, question));
      const error = (from: RemoteStation): Buffer => make(from, a, icmpError(family, 'too-big', question, 1280));
      const result = arrive(R, error(R));
      assertDelivered(result, a.ifindex);
      assert.equal(result.events.findLast((event) => event.type === 'trace')?.reason, 3);
      assertDelivered(arrive(ROUTER_2, error(ROUTER_2)), a.ifindex, 'of its node');
      assertDropped(arrive(S, error(S)), 'DROP_UNKNOWN_SENDER', 'another node');
      assertDropped(arrive(R, error(R), STRANGER), 'DROP_UNKNOWN_SENDER', 'no node');
      bed.policy(a, []);
      assertDropped(arrive(R, error(R)), 'DROP_POLICY');
    });

    test(title('fragments follow their first, both ways'), () => {
      tellNodes(bed, underlay);
      const big = udp(5000, 53, Buffer.alloc(2000));
      const part = (offset: number): IpOptions => ({
        fragment: { id: 9, offset, more: offset === 0 },
        slice: offset === 0 ? [0, 1200] : [1200, 2008],
      });
      assertDropped(bed.send(a, make(a, R, big, part(1200))), 'DROP_FRAG_NOT_FOUND');
      assertDropped(arrive(R, make(R, a, big, part(1200))), 'DROP_FRAG_NOT_FOUND');
      const forms = [
        (offset: number) => bed.send(a, make(a, R, big, part(offset))),
        (offset: number) => arrive(R, make(R, b, big, part(offset))),
      ];
      for (const form of forms) {
        for (const offset of [0, 1200]) assert.equal(form(offset).dropReason, undefined);
      }
      const liar = (offset: number): Result => arrive(S, make(S, b, big, part(offset)), NODE_2);
      assertDropped(liar(0), 'DROP_UNKNOWN_SENDER');
      assertDropped(arrive(S, make(S, b, big, part(1200))), 'DROP_FRAG_NOT_FOUND', 'a liar opens no datagram');
    });

    test(title('an internal network reaches containers of other nodes and nothing else there'), () => {
      tellNodes(bed, underlay);
      sent(bed.send(c, make(c, R, udp(1, 2))));
      assertDropped(bed.send(c, make(c, ROUTER_2, udp(1, 2))), 'DROP_UNROUTABLE');
      assertDropped(bed.send(c, make(c, NEW, udp(1, 2))), 'DROP_INVALID_IDENTITY', 'not known yet');
      assertDelivered(arrive(NEW, make(NEW, c, udp(1, 2))), c.ifindex);
      sent(bed.send(c, make(c, NEW, udp(2, 1))));
      assertDelivered(arrive(R, make(R, c, udp(3, 4))), c.ifindex);
      assertDropped(arrive(ROUTER_2, make(ROUTER_2, c, udp(1, 2))), 'DROP_UNROUTABLE');
    });

    test(title('who has to come through the tunnel does not come without'), () => {
      tellNodes(bed, underlay);
      assertDropped(bed.fromOutside(make(R, a, udp(1, 2))), 'DROP_INVALID_SIP');
      assertDropped(bed.fromOutside(make(NEW, a, udp(1, 2))), 'DROP_INVALID_SIP');
      assertDelivered(bed.fromOutside(make(WORLD, a, udp(1, 2))), a.ifindex);
    });

    test(title('a container cannot speak to the tunnel of a node'), () => {
      tellNodes(bed, underlay);
      const forged = wrap(make(b, a, udp(1, 2)), NODE_2[underlay], b.identity).subarray(ETH);
      const to = { ...R, [family]: NODE_2[family] };
      assertDropped(bed.send(a, make(a, to, udp(4000, TUNNEL.port, forged))), 'DROP_ENCAP_PROHIBITED');
      assertDropped(bed.send(a, make(a, WORLD, udp(4000, TUNNEL.port, forged))), 'DROP_ENCAP_PROHIBITED');
      const fragment = { id: 12, offset: 0, more: true };
      const split = make(a, to, udp(4000, TUNNEL.port, Buffer.alloc(2000)), { fragment, slice: [0, 800] });
      assertDropped(bed.send(a, split), 'DROP_ENCAP_PROHIBITED');
      assertDelivered(bed.send(a, make(a, to, tcp(4000, TUNNEL.port, TCP.syn))), bed.ext);
      assertDelivered(bed.send(a, make(a, to, udp(4000, TUNNEL.port + 1))), bed.ext);
    });

    test(title("the addresses of other nodes are reached with this node's, and its tunnel is left alone"), () => {
      tellNodes(bed, underlay);
      const to = { ...R, [family]: NODE_2[family] };
      assert.equal(assertDelivered(bed.send(a, make(a, to, udp(25_000, 53))), bed.ext).src, NODE[family]);
      const incoming = make(to, NODE, udp(40_000, TUNNEL.port));
      assertUntouched(bed.fromOutside(incoming), incoming);
    });

    test(title('addresses that are to skip the tunnel take the routes, both ways'), () => {
      tellNodes(bed, underlay, true);
      const seen = assertDelivered(bed.send(a, make(a, R, udp(5000, 53))), bed.ext);
      assert.deepEqual([seen.src, seen.sport], [a[family], 5000]);
      assertDelivered(bed.fromOutside(make(R, a, udp(53, 5000))), a.ifindex);
      assertDropped(arrive(R, make(R, a, udp(53, 5000))), 'DROP_UNKNOWN_SENDER');
    });

    test(title('a malformed packet is dropped before anybody is asked'), () => {
      tellNodes(bed, underlay);
      const broken = make(R, a, udp(1, 2));
      broken[ETH] = 0x33;
      assertDropped(arrive(R, broken), 'DROP_INVALID');
      const whole = make(R, a, udp(1, 2));
      for (const missing of [1, 8, 15]) {
        assertDropped(arrive(R, whole.subarray(0, whole.length - missing)), 'DROP_INVALID', `${missing} missing`);
      }
      assertDropped(arrive(R, make(R, a, tcp(1, 2, TCP.syn | TCP.fin))), 'DROP_CT_INVALID_HDR');
    });
  }

  test('privileged: what came through no tunnel, is no IP or has a VLAN tag is dropped', () => {
    const tunnel = tunnels.get(device)!;
    const { a } = device;
    tellNodes(device, 4);
    const plain = packet(ends(R, a, 4), udp(1, 2));
    assertDropped(device.run('cil_from_overlay', plain, device.vxlan), 'DROP_NO_TUNNEL_KEY');
    const arp = ethernet('ff:ff:ff:ff:ff:ff', R.mac, 0x0806, Buffer.alloc(28));
    assertDropped(tunnel.receive(arp, NODE_2[4], R.identity), 'DROP_UNSUPPORTED_L2');
    const tagged = ethernet(a.mac, R.mac, 0x8100, Buffer.alloc(60));
    assertDropped(tunnel.receive(tagged, NODE_2[4], R.identity), 'DROP_UNSUPPORTED_L2');
  });
});
