// SPDX-License-Identifier: Apache-2.0

/** From the node to containers: by cilium_net, and by the stack (the egress of a container's veth). */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { assertAnswered, assertDelivered, assertDropped, assertSilent, verdicts } from './support/assert.ts';
import { ACTION, allow, Bed, ends, FAMILIES, HOST_MAC, IDENTITY, NODE, OTHER, worldIdentity } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import {
  echo,
  ethernet,
  icmp,
  icmpError,
  neighbourSolicit,
  packet,
  PROTOCOL,
  TCP,
  tcp,
  udp,
} from './support/packet.ts';

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b, c } = bed;
  afterEach(() => {
    bed.flush();
    for (const end of [a, b]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const chatter = family === 4 ? ['224.0.0.22', '255.255.255.255'] : ['ff02::16', 'fe80::1'];

    test(title('the node reaches a container as identity host, with the hop count kept'), () => {
      const open = packet(ends(NODE, a, family), tcp(33000, 80, TCP.syn));
      const result = bed.fromHost(open);
      const seen = assertDelivered(result, a.ifindex);
      assert.deepEqual([seen.dstMac, seen.srcMac, seen.ttl], [a.mac, a.hostMac, 64]);
      assert.equal(verdicts(result)[0]?.remoteIdentity, IDENTITY.host);
      bed.policy(a, [allow({ egress: false, identity: IDENTITY.host, protocol: PROTOCOL.tcp, port: 80 })]);
      assertDelivered(bed.fromHost(open), a.ifindex);
      assertDelivered(bed.send(a, packet(ends(a, NODE, family), tcp(80, 33000, TCP.syn | TCP.ack))), bed.host);
      assertDropped(bed.fromHost(packet(ends(NODE, a, family), tcp(33000, 81, TCP.syn))), 'DROP_POLICY');
    });

    test(title('what others send through the node has their identity'), () => {
      bed.policy(a, [allow({ egress: false, identity: worldIdentity(family) })]);
      assertDelivered(bed.fromHost(packet(ends(OTHER, a, family), udp(1, 2))), a.ifindex);
      assertDropped(bed.fromHost(packet(ends(NODE, a, family), udp(1, 2))), 'DROP_POLICY');
      bed.policy(a, [allow({ egress: false, identity: IDENTITY.b })]);
      assertDelivered(bed.fromHost(packet(ends(b, a, family), udp(1, 2))), a.ifindex);
    });

    test(title('replies of the node pass by the policy of the flow'), () => {
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.host, protocol: PROTOCOL.udp, port: 53 })]);
      bed.send(a, packet(ends(a, NODE, family), udp(5000, 53)));
      assertDelivered(bed.fromHost(packet(ends(NODE, a, family), udp(53, 5000))), a.ifindex);
      bed.policy(a, []);
      assertDropped(bed.fromHost(packet(ends(NODE, a, family), udp(53, 5000))), 'DROP_POLICY');
    });

    test(title('a packet of the node too big for the container is answered to the node'), () => {
      const answer = assertAnswered(bed.fromHost(packet(ends(NODE, b, family), udp(1, 2, Buffer.alloc(1400)))));
      assert.deepEqual([answer.info, answer.dst, answer.dstMac], [b.mtu, NODE[family], HOST_MAC]);
      assert.equal(answer.src, b[family], 'an address of the node itself it would take for a forged one');
      assertDelivered(
        bed.fromHost(packet(ends(NODE, a, family), udp(1, 2, Buffer.alloc(1400)), { ttl: 1 })),
        a.ifindex,
      );
    });

    test(title('an address that no container has, and a container of an internal network, are out of reach'), () => {
      const nobody = { ...a, [family]: family === 4 ? '10.0.1.99' : 'fd00:1::99' };
      assertDropped(bed.fromHost(packet(ends(NODE, nobody, family), udp(1, 2))), 'DROP_UNKNOWN_TARGET');
      assertDropped(bed.fromHost(packet(ends(NODE, NODE, family), udp(1, 2))), 'DROP_UNKNOWN_TARGET');
      assertDropped(bed.fromHost(packet(ends(NODE, c, family), udp(1, 2))), 'DROP_UNROUTABLE');
    });

    test(title("the kernel's own multicast on our devices is dropped without a word"), () => {
      for (const dst of chatter) {
        const sent = packet({ ...ends(NODE, a, family), dst }, udp(1, 2));
        assertSilent(bed.fromHost(sent), dst);
        assertSilent(bed.receive(a, sent), dst);
      }
    });

    test(title('a packet through the stack passes the ingress policy of its receiver'), () => {
      const result = bed.receive(b, packet(ends(a, b, family), tcp(33000, 80, TCP.syn)));
      assert.equal(result.action, ACTION.ok);
      assert.equal(result.target, b.ifindex);
      assert.equal(verdicts(result)[0]?.remoteIdentity, IDENTITY.a);
      bed.policy(b, [allow({ egress: false, identity: IDENTITY.host })]);
      assertDropped(bed.receive(b, packet(ends(a, b, family), tcp(33000, 80, TCP.ack))), 'DROP_POLICY');
      assert.equal(bed.receive(b, packet(ends(NODE, b, family), tcp(33000, 80, TCP.syn))).action, ACTION.ok);
      bed.policy(b, [allow({ egress: false, identity: worldIdentity(family) })]);
      assert.equal(bed.receive(b, packet(ends(OTHER, b, family), tcp(33000, 80, TCP.syn))).action, ACTION.ok);
    });

    test(title('a reply through the stack is judged as the flow it answers'), () => {
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.host })]);
      bed.send(a, packet(ends(a, NODE, family), echo(family, 'request', 3)));
      const reply = packet(ends(NODE, a, family), echo(family, 'reply', 3));
      assert.equal(bed.receive(a, reply).action, ACTION.ok);
      bed.policy(a, []);
      assertDropped(bed.receive(a, reply), 'DROP_POLICY');
    });

    test(title("a router's error that the node passes on is judged with the flow, not by its sender"), () => {
      bed.policy(a, [allow({ egress: true, identity: worldIdentity(family), protocol: PROTOCOL.udp, port: 53 })]);
      const question = packet(ends(a, OTHER, family), udp(5000, 53));
      bed.send(a, question);
      const error = packet(ends(NODE, a, family), icmpError(family, 'unreachable', question));
      assertDelivered(bed.fromHost(error), a.ifindex);
      assert.equal(bed.receive(a, error).action, ACTION.ok);
    });

    test(title('packets with a malformed IP header are dropped on both ways'), () => {
      const sent = packet(ends(NODE, a, family), udp(1, 2));
      sent[14] = 0x33;
      assertDropped(bed.fromHost(sent), 'DROP_INVALID');
      assertDropped(bed.receive(a, sent), 'DROP_INVALID');
    });

    test(title("on a container's veth nothing passes that is for another"), () => {
      assertDropped(bed.receive(b, packet(ends(NODE, a, family), udp(1, 2))), 'DROP_UNKNOWN_TARGET');
      assertDropped(bed.receive(b, packet(ends(a, OTHER, family), udp(1, 2))), 'DROP_UNKNOWN_TARGET');
    });
  }

  test('privileged: neighbour discovery and ARP of the node on its own devices are dropped without a word', () => {
    const solicit = packet({ ...ends(NODE, a, 6), src: 'fe80::1' }, neighbourSolicit(a[6]), { ttl: 255 });
    assertSilent(bed.receive(a, solicit));
    const report = packet({ ...ends(NODE, a, 6), src: 'fe80::1', dst: 'ff02::16' }, icmp(6, 143, 0, Buffer.alloc(24)));
    assertSilent(bed.receive(a, report));
    assertSilent(bed.fromHost(report));
    const request = ethernet(a.mac, HOST_MAC, 0x0806, Buffer.alloc(28));
    assertSilent(bed.receive(a, request));
    assertSilent(bed.fromHost(request));
  });
});
