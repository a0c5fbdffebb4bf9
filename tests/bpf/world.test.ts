// SPDX-License-Identifier: Apache-2.0

/** To the world and back: routes, masquerade, replies, and what comes for a container's own address. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, test } from 'node:test';
import { IpAddress } from '../../net/ip.ts';
import type { Transport } from './support/packet.ts';
import { assertAnswered, assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import {
  allow,
  Bed,
  type Container,
  ends,
  FAMILIES,
  NODE,
  OTHER,
  prefixOf,
  type Result,
  ROUTER,
} from './support/bed.ts';
import { EXT_MAC, type Station, WORLD, worldIdentity } from './support/bed.ts';
import type { Dissected } from './support/dissect.ts';
import { inNamespace, run } from './support/namespace.ts';
import { echo, icmp, packet, PROTOCOL, sctp, TCP, tcp, udp } from './support/packet.ts';

/** Inside the ranges that the bed masquerades with. */
const IN_RANGE = 25_000;
const OUT_OF_RANGE = 40_000;
const LOWER = [20_000, 29_999] as const;
const UPPER = [61_000, 65_535] as const;

const inRanges = (port: number): boolean =>
  (port >= LOWER[0] && port <= LOWER[1]) || (port >= UPPER[0] && port <= UPPER[1]);

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b, c } = bed;
  const device = { ipv4: IpAddress.parse(NODE[4]), ipv6: IpAddress.parse(NODE[6]) };

  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
    bed.devices.update(bed.ext, device);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const world = worldIdentity(family);
    const out = (from: Container, transport: Transport, to = WORLD, ttl = 64): Result =>
      bed.send(from, packet(ends(from, to, family), transport, { ttl }));
    const incoming = (from: Station, to: Station, transport: Transport, ttl = 64): Buffer =>
      packet({ ...ends(from, to, family), dstMac: EXT_MAC }, transport, { ttl });
    const back = (transport: Transport, from = WORLD): Result => bed.fromOutside(incoming(from, NODE, transport));
    const left = (result: Result): Dissected => assertDelivered(result, bed.ext);

    test(title('a packet to the world leaves with the address of the device and one hop less'), () => {
      const seen = left(out(a, tcp(IN_RANGE, 80, TCP.syn)));
      assert.deepEqual([seen.src, seen.dst, seen.sport, seen.dport], [NODE[family], WORLD[family], IN_RANGE, 80]);
      assert.equal(seen.ttl, 63);
    });

    test(title('replies come back to the container with its own address and port'), () => {
      for (const make of [(s: number, d: number) => tcp(s, d, TCP.ack), udp]) {
        const { sport } = left(out(a, make(OUT_OF_RANGE, 80)));
        const result = back(make(80, sport));
        const seen = assertDelivered(result, a.ifindex);
        assert.deepEqual([seen.src, seen.dst, seen.sport, seen.dport], [WORLD[family], a[family], 80, OUT_OF_RANGE]);
        assert.deepEqual([seen.dstMac, seen.srcMac, seen.ttl], [a.mac, a.hostMac, 63]);
        const trace = result.events.at(-1);
        assert.ok(trace?.type === 'trace' && trace.reason === 2 && trace.sourceIdentity === world);
      }
    });

    test(title('an echo keeps its identifier if it can and comes back with the one that the container chose'), () => {
      assert.equal(left(out(a, echo(family, 'request', IN_RANGE))).id, IN_RANGE);
      const { id } = left(out(b, echo(family, 'request', IN_RANGE)));
      assert.ok(id !== IN_RANGE && inRanges(id));
      const seen = assertDelivered(back(echo(family, 'reply', id)), b.ifindex);
      assert.deepEqual([seen.dst, seen.id], [b[family], IN_RANGE]);
      assert.equal(assertDelivered(back(echo(family, 'reply', IN_RANGE)), a.ifindex).id, IN_RANGE);
    });

    test(title('two containers with the same port get different ones, and each its own replies'), () => {
      const first = left(out(a, udp(IN_RANGE, 53))).sport;
      const second = left(out(b, udp(IN_RANGE, 53))).sport;
      assert.equal(first, IN_RANGE);
      assert.notEqual(second, IN_RANGE);
      assert.ok(inRanges(second));
      assert.equal(assertDelivered(back(udp(53, first)), a.ifindex).dst, a[family]);
      assert.equal(assertDelivered(back(udp(53, second)), b.ifindex).dst, b[family]);
      assert.equal(left(out(b, udp(IN_RANGE, 53))).sport, second, 'the flow keeps its port');
      assert.equal(left(out(b, udp(IN_RANGE, 53), OTHER)).sport, IN_RANGE, 'the port is free towards others');
    });

    test(title('a port outside the ranges is replaced by one inside'), () => {
      for (const port of [0, 80, 1024, 19_999, 30_000, OUT_OF_RANGE, 60_999]) {
        const { sport } = left(out(a, udp(port, 53)));
        assert.ok(inRanges(sport), `${port} became ${sport}`);
      }
      bed.flush(); // one of the ports given at random may be one of these
      for (const port of [20_000, 29_999, 61_000, 65_535]) assert.equal(left(out(a, udp(port, 53))).sport, port);
    });

    test(title("a port that a socket of the node has isn't used"), async (context) => {
      const server = createServer().listen(IN_RANGE, family === 4 ? '0.0.0.0' : '::');
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6').bind(IN_RANGE, family === 4 ? '0.0.0.0' : '::');
      context.after(() => {
        server.close();
        socket.close();
      });
      await Promise.all([once(server, 'listening'), once(socket, 'listening')]);
      assert.notEqual(left(out(a, tcp(IN_RANGE, 80, TCP.syn))).sport, IN_RANGE);
      assert.notEqual(left(out(a, udp(IN_RANGE, 80))).sport, IN_RANGE);
    });

    test(title('either half of a mapping is made again from the other'), () => {
      const { sport } = left(out(a, udp(OUT_OF_RANGE, 53)));
      const halves = (): Buffer[] => {
        const map = bed.map(`cilium_snat${family}`);
        const keys = [...map.entries()].map(({ key }) => Buffer.from(key));
        map.close();
        return keys;
      };
      const [first, second] = halves();
      for (const lost of [first!, second!]) {
        const map = bed.map(`cilium_snat${family}`);
        map.delete(lost);
        map.close();
        assert.equal(halves().length, 1);
        const forward = lost[family === 4 ? 13 : 37] === 0;
        if (forward) assertDelivered(back(udp(53, sport)), a.ifindex);
        else assert.equal(left(out(a, udp(OUT_OF_RANGE, 53))).sport, sport);
        assert.equal(halves().length, 2);
      }
    });

    test(title('a mapping follows the address of the device'), () => {
      left(out(a, udp(IN_RANGE, 53)));
      const address = family === 4 ? '192.0.2.9' : '2001:db8::9';
      bed.devices.update(bed.ext, { ipv4: IpAddress.parse('192.0.2.9'), ipv6: IpAddress.parse('2001:db8::9') });
      assert.equal(left(out(a, udp(IN_RANGE, 53))).src, address);
    });

    test(title('where the device has no address to masquerade with, packets leave as they are'), () => {
      bed.devices.update(bed.ext, {});
      assert.equal(left(out(a, udp(7, 8))).src, a[family]);
      bed.devices.delete(bed.ext);
      assert.equal(left(out(a, udp(IN_RANGE, 80))).src, a[family]);
    });

    test(title('SCTP and ICMP that is no echo cannot be masqueraded'), () => {
      assertDropped(out(a, sctp(1, 2)), 'DROP_NAT_UNSUPP_PROTO');
      assertDropped(out(a, icmp(family, family === 4 ? 13 : 139, 0, Buffer.alloc(16))), 'DROP_NAT_UNSUPP_PROTO');
      assertDropped(out(a, echo(family, 'reply', 5)), 'DROP_NAT_UNSUPP_PROTO');
    });

    test(title('the egress policy knows the world by ipcache'), () => {
      bed.policy(a, [allow({ egress: true, identity: 4242, protocol: PROTOCOL.udp, port: 53 })]);
      assertDropped(out(a, udp(5000, 53)), 'DROP_POLICY');
      bed.ipcache.update(prefixOf(WORLD[family]), { identity: 4242 });
      left(out(a, udp(5000, 53)));
      assertDropped(out(a, udp(5000, 53), OTHER), 'DROP_POLICY');
      bed.ipcache.delete(prefixOf(WORLD[family]));
      bed.policy(a, [allow({ egress: true, identity: world })]);
      left(out(a, udp(5000, 53)));
    });

    test(title('replies stop when the policy of the flow is revoked'), () => {
      const { sport } = left(out(a, udp(5000, 53)));
      bed.policy(a, [allow({ egress: false })]);
      assertDropped(back(udp(53, sport)), 'DROP_POLICY');
    });

    test(title('what comes for the node but belongs to no flow of a container is left to the node'), () => {
      const { sport } = left(out(a, udp(IN_RANGE, 53)));
      const strangers: (readonly [string, Buffer])[] = [
        ['no mapping', incoming(WORLD, NODE, udp(53, 22_222))],
        ['another port of the sender', incoming(WORLD, NODE, udp(54, sport))],
        ['another sender', incoming(OTHER, NODE, udp(53, sport))],
        ['another protocol', incoming(WORLD, NODE, tcp(53, sport, TCP.syn))],
        ['a port below the ranges', incoming(WORLD, NODE, tcp(53, 22, TCP.syn))],
        ['echo request', incoming(WORLD, NODE, echo(family, 'request', 1))],
        ['another destination', incoming(WORLD, OTHER, udp(1, 2))],
      ];
      for (const [what, sent] of strangers) assertUntouched(bed.fromOutside(sent), sent, what);
    });

    test(title('a mapping whose flow is forgotten takes nothing from the node'), () => {
      const { sport } = left(out(a, udp(IN_RANGE, 53)));
      const map = bed.map(`cilium_ct${family}_any`);
      for (const key of [...map.entries()].map((entry) => Buffer.from(entry.key))) map.delete(key);
      map.close();
      const sent = incoming(WORLD, NODE, udp(53, sport));
      assertUntouched(bed.fromOutside(sent), sent);
    });

    test(title('hops are counted and sizes checked both ways'), () => {
      assert.equal(assertAnswered(out(a, udp(1, 2), WORLD, 1)).src, ROUTER[family]);
      const { sport } = left(out(b, udp(IN_RANGE, 53)));
      const dying = incoming(WORLD, NODE, udp(53, sport), 1);
      const expired = assertAnswered(bed.fromOutside(dying));
      assert.deepEqual([expired.dst, expired.type], [WORLD[family], family === 4 ? 11 : 3]);
      assert.ok(dying.subarray(14).indexOf(expired.rest) === 0, 'it quotes the packet as it came');
      const tooBig = assertAnswered(back(udp(53, sport, Buffer.alloc(1400))));
      assert.equal(tooBig.info, b.mtu);
    });

    test(title('a packet too big for the device or the route is answered with its MTU'), () => {
      run('ip', 'link', 'set', 'ext', 'mtu', '1300');
      const answer = assertAnswered(out(a, udp(1, 2, Buffer.alloc(1300))));
      run('ip', 'link', 'set', 'ext', 'mtu', '1500');
      if (family === 6) run('ip', '-6', 'route', 'replace', 'default', 'via', '2001:db8::fe');
      assert.deepEqual([answer.info, answer.dst], [1300, a[family]]);
    });

    test(title('an address of a container range that no container has is no part of the world'), () => {
      const nobody = { ...WORLD, [family]: family === 4 ? '10.0.1.99' : 'fd00:1::99' };
      assertDropped(out(a, udp(1, 2), nobody), 'DROP_UNKNOWN_TARGET');
    });

    test(title('where there is no route, the reason of the look-up is told'), () => {
      const target = family === 4 ? '203.0.113.1' : '2001:db8:bad::1';
      run('ip', `-${family}`, 'route', 'add', 'unreachable', target);
      const result = out(a, udp(1, 2), { ...WORLD, [family]: target });
      assertDropped(result, 'DROP_FIB_FAILED');
      const drop = result.events.find((event) => event.type === 'drop');
      assert.equal(drop?.extendedError, 2);
      run('ip', `-${family}`, 'route', 'del', 'unreachable', target);
    });

    test(title('an address of the node that nobody told us of is not reached as world'), () => {
      const alias = family === 4 ? '127.1.2.3' : NODE[6];
      if (family === 6) bed.endpoints.delete(IpAddress.parse(alias));
      if (family === 6) bed.ipcache.delete(prefixOf(alias));
      const result = out(a, udp(1, 2), { ...WORLD, [family]: alias });
      assertDropped(result, family === 4 ? 'DROP_UNROUTABLE' : 'DROP_FIB_FAILED');
      bed.restoreNode();
    });

    test(
      title("what comes for a container's own address passes its policy, and replies go out under that address"),
      () => {
        bed.policy(a, [allow({ egress: false, identity: world, protocol: PROTOCOL.tcp, port: 80 })]);
        const seen = assertDelivered(bed.fromOutside(incoming(WORLD, a, tcp(5000, 80, TCP.syn))), a.ifindex);
        assert.deepEqual([seen.src, seen.dst, seen.ttl, seen.dstMac], [WORLD[family], a[family], 63, a.mac]);
        const reply = left(out(a, tcp(80, 5000, TCP.syn | TCP.ack)));
        assert.deepEqual([reply.src, reply.sport], [a[family], 80]);
        assertDropped(bed.fromOutside(incoming(WORLD, a, tcp(5000, 81, TCP.syn))), 'DROP_POLICY');
        assertDropped(bed.fromOutside(incoming(WORLD, c, tcp(5000, 80, TCP.syn))), 'DROP_UNROUTABLE');
      },
    );

    test(title('from outside nobody comes with an address of the node or its containers'), () => {
      const loopback = { ...WORLD, [family]: family === 4 ? '127.0.0.1' : '::1' };
      for (const from of [b, NODE, loopback]) {
        assertDropped(bed.fromOutside(incoming(from, a, udp(1, 2))), 'DROP_INVALID_SIP', from[family]);
      }
      bed.ipcache.update(prefixOf(OTHER[family]), { identity: 1 });
      assertDropped(bed.fromOutside(incoming(OTHER, a, udp(1, 2))), 'DROP_INVALID_SIP', 'host by ipcache');
      bed.ipcache.delete(prefixOf(OTHER[family]));
    });
  }

  test('privileged: a UDP packet without a checksum stays one', () => {
    const sent = packet(ends(a, WORLD, 4), udp(OUT_OF_RANGE, 53));
    sent.writeUInt16BE(0, 40);
    const result = bed.send(a, sent);
    assert.equal(result.packet.readUInt16BE(40), 0);
    assert.ok(inRanges(result.packet.readUInt16BE(34)));
  });

  test('privileged: other frames of a device are left to the node', () => {
    const sent = Buffer.from(packet(ends(WORLD, a, 4), udp(1, 2)));
    sent.writeUInt16BE(0x88cc, 12);
    assertUntouched(bed.fromOutside(sent), sent);
  });
});
