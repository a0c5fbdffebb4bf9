// SPDX-License-Identifier: Apache-2.0

/** From one container of the node to another: who may send as whom, both policies, delivery. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { assertAnswered, assertDelivered, assertDropped, assertSilent } from './support/assert.ts';
import {
  ACTION,
  allow,
  Bed,
  ends,
  FAMILIES,
  HOST_MAC,
  IDENTITY,
  NODE,
  OTHER,
  prefixOf,
  ROUTER,
} from './support/bed.ts';
import { addressText, dissect } from './support/dissect.ts';
import { inNamespace } from './support/namespace.ts';
import { echo, ETH, ethernet, ETHERTYPE, icmpError, packet, PROTOCOL, raw, TCP, tcp, udp } from './support/packet.ts';

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b, c } = bed;

  afterEach(() => {
    bed.flush();
    for (const end of [a, b, c]) bed.policy(end);
  });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const protocolName = family === 4 ? 'icmp' : 'icmp6';

    test(title('an allowed packet goes straight to the other container, and each step is told'), () => {
      const result = bed.send(a, packet(ends(a, b, family), tcp(33000, 80, TCP.syn)));
      const seen = assertDelivered(result, b.ifindex);
      assert.equal(seen.srcMac, b.hostMac);
      assert.equal(seen.dstMac, b.mac);
      assert.equal(seen.ttl, 63);
      const [arrival, egress, ingress, delivery] = result.events;
      assert.equal(result.events.length, 4);
      assert.ok(arrival?.type === 'trace' && arrival.point === 5);
      assert.ok(egress?.type === 'policy-verdict' && egress.egress && egress.source === a.id);
      assert.equal(egress.remoteIdentity, IDENTITY.b);
      assert.ok(ingress?.type === 'policy-verdict' && !ingress.egress && ingress.source === b.id);
      assert.equal(ingress.remoteIdentity, IDENTITY.a);
      assert.ok(delivery?.type === 'trace' && delivery.point === 0 && delivery.reason === 0);
      assert.equal(delivery.sourceIdentity, IDENTITY.a);
      assert.equal(delivery.destinationIdentity, IDENTITY.b);
      assert.equal(delivery.source, a.id);
      assert.equal(delivery.destination, b.id);
      assert.equal(delivery.ipv6, family === 6);
    });

    test(title("each end's policy alone can stop a packet"), () => {
      const sent = packet(ends(a, b, family), udp(33000, 80));
      bed.policy(a, [allow({ egress: false })]);
      assertDropped(bed.send(a, sent), 'DROP_POLICY');
      bed.policy(a);
      bed.policy(b, [allow({ egress: true })]);
      assertDropped(bed.send(a, sent), 'DROP_POLICY');
      bed.policy(b, [allow({ egress: false, identity: IDENTITY.a, protocol: PROTOCOL.udp, port: 80 })]);
      assertDelivered(bed.send(a, sent), b.ifindex);
    });

    test(title("a container can't send from the address of another, of the node or of the world"), () => {
      for (const other of [b, NODE, OTHER]) {
        const sent = packet({ ...ends(a, b, family), src: other[family] }, udp(1, 2));
        assertDropped(bed.send(a, sent), 'DROP_INVALID_SIP', other[family]);
      }
    });

    test(title("a container can't send from another MAC address"), () => {
      const sent = packet({ ...ends(a, b, family), srcMac: b.mac }, udp(1, 2));
      assertDropped(bed.send(a, sent), 'DROP_INVALID_SMAC');
      for (let i = 0; i < 6; i++) {
        const mac = Buffer.from(a.mac.replaceAll(':', ''), 'hex');
        mac[i]! ^= 4;
        const text = mac.toString('hex').replace(/..(?=.)/g, '$&:');
        assertDropped(
          bed.send(a, packet({ ...ends(a, b, family), srcMac: text }, udp(1, 2))),
          'DROP_INVALID_SMAC',
          text,
        );
      }
    });

    test(title('multicast, loopback and the like are not routed'), () => {
      const unroutable = {
        4: ['224.0.0.251', '239.1.1.1', '255.255.255.255', '240.0.0.1', '127.0.0.1', '0.0.0.0', '0.1.2.3'],
        6: ['ff02::fb', 'ff0e::1', '::1', '::', 'fe80::1', '::ffff:10.0.1.2', '::10.0.1.2'],
      };
      for (const dst of unroutable[family]) {
        assertDropped(bed.send(a, packet({ ...ends(a, b, family), dst }, udp(1, 2))), 'DROP_UNROUTABLE', dst);
      }
    });

    test(title('a packet with its hops used up is answered with time exceeded'), () => {
      for (const ttl of [0, 1]) {
        const sent = packet(ends(a, b, family), tcp(33000, 80, TCP.syn), { ttl });
        const answer = assertAnswered(bed.send(a, sent));
        assert.equal(answer.protocol, PROTOCOL[protocolName]);
        assert.deepEqual([answer.type, answer.code], family === 4 ? [11, 0] : [3, 0]);
        assert.equal(answer.src, ROUTER[family]);
        assert.equal(answer.dst, a[family]);
        assert.equal(answer.dstMac, a.mac);
        assert.ok(sent.subarray(ETH).indexOf(answer.rest) === 0, 'it quotes the packet');
      }
      assertDelivered(bed.send(a, packet(ends(a, b, family), tcp(33000, 80, TCP.syn), { ttl: 2 })), b.ifindex);
    });

    test(title('a packet too big for either end is answered with the smaller MTU'), () => {
      const overhead = (family === 4 ? 20 : 40) + 8;
      const fits = packet(ends(a, b, family), udp(1, 2, Buffer.alloc(b.mtu - overhead)));
      const tooBig = packet(ends(a, b, family), udp(1, 2, Buffer.alloc(b.mtu - overhead + 1)));
      assertDelivered(bed.send(a, fits), b.ifindex);
      const answer = assertAnswered(bed.send(a, tooBig));
      assert.deepEqual([answer.type, answer.code], family === 4 ? [3, 4] : [2, 0]);
      assert.equal(answer.info, b.mtu);
      assert.ok(tooBig.subarray(ETH).indexOf(answer.rest) === 0, 'it quotes the packet');
      assert.equal(assertAnswered(bed.send(b, packet(ends(b, a, family), udp(1, 2, Buffer.alloc(1450))))).info, b.mtu);
    });

    test(title('of a packet that will be segmented, the segments have to fit'), () => {
      const sent = packet(ends(a, b, family), tcp(33000, 80, TCP.ack, Buffer.alloc(3000)));
      const headers = (family === 4 ? 20 : 40) + 20;
      assertDelivered(bed.send(a, sent, b.mtu - headers), b.ifindex);
      assert.equal(assertAnswered(bed.send(a, sent, b.mtu - headers + 1)).info, b.mtu);
    });

    test(title('an ICMP error is never answered with another'), () => {
      bed.send(b, packet(ends(b, a, family), udp(5000, 33000)));
      const inner = packet(ends(b, a, family), udp(5000, 33000));
      const error = icmpError(family, 'unreachable', inner);
      assertDropped(bed.send(a, packet(ends(a, b, family), error, { ttl: 1 })), 'DROP_TTL_EXCEEDED');
      assertDelivered(bed.send(a, packet(ends(a, b, family), error)), b.ifindex);
    });

    test(title('the node is reached through cilium_host, with the hop count kept'), () => {
      const seen = assertDelivered(bed.send(a, packet(ends(a, NODE, family), echo(family, 'request', 7))), bed.host);
      assert.equal(seen.dstMac, HOST_MAC);
      assert.equal(seen.ttl, 64);
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.b })]);
      assertDropped(bed.send(a, packet(ends(a, NODE, family), echo(family, 'request', 8))), 'DROP_POLICY');
      bed.policy(a, [allow({ egress: true, identity: IDENTITY.host })]);
      assertDelivered(bed.send(a, packet(ends(a, NODE, family), echo(family, 'request', 8))), bed.host);
    });

    test(title('an address that only ipcache knows as the node is the node'), () => {
      const alias = family === 4 ? '203.0.113.9' : '2001:db8:9::9';
      const to = { ...NODE, [family]: alias };
      bed.ipcache.update(prefixOf(alias), { identity: IDENTITY.host });
      assertDelivered(bed.send(a, packet(ends(a, to, family), udp(1, 2))), bed.host);
      bed.ipcache.delete(prefixOf(alias));
    });

    test(title('a container of an internal network reaches neither node nor world, but other containers'), () => {
      assertDropped(bed.send(c, packet(ends(c, NODE, family), udp(1, 2))), 'DROP_UNROUTABLE');
      assertDropped(bed.send(c, packet(ends(c, OTHER, family), udp(1, 2))), 'DROP_UNROUTABLE');
      assertDelivered(bed.send(c, packet(ends(c, b, family), udp(1, 2))), b.ifindex);
    });

    test(title('a container whose policy slot is empty or missing is closed'), () => {
      for (const policySlot of [0, 9, 4095, 70_000]) {
        bed.setEndpoint(b, { policySlot });
        assertDropped(bed.send(a, packet(ends(a, b, family), udp(1, 2))), 'DROP_POLICY', `slot ${policySlot}`);
        assertDropped(bed.send(b, packet(ends(b, a, family), udp(1, 2))), 'DROP_POLICY', `slot ${policySlot}`);
      }
      bed.setEndpoint(b);
    });
  }

  test('privileged: frames that are neither IP nor ARP, and VLAN tags, are dropped', () => {
    const body = packet(ends(a, b, 4), udp(1, 2)).subarray(ETH);
    const frame = (type: number): Buffer => ethernet(a.hostMac, a.mac, type, body);
    assertDropped(bed.send(a, frame(0x88cc)), 'DROP_UNSUPPORTED_L2');
    assertDropped(bed.send(a, frame(0x0064)), 'DROP_UNSUPPORTED_L2'); // 802.3 length
    assertDropped(bed.send(a, frame(ETHERTYPE.vlan)), 'DROP_VLAN_FILTERED');
    assertDropped(bed.send(a, frame(0x88a8)), 'DROP_VLAN_FILTERED');
    assert.equal(bed.receive(a, frame(0x88cc)).action, ACTION.drop);
  });

  test('privileged: IGMP reports are dropped without a word', () => {
    const to = { ...ends(a, b, 4), dst: '224.0.0.22' };
    const sent = packet(to, raw(2, Buffer.alloc(16)), { options: Buffer.from([0x94, 4, 0, 0]), ttl: 1 });
    assertSilent(bed.send(a, sent));
    assertSilent(bed.receive(a, packet({ ...to, src: NODE[4] }, raw(2, Buffer.alloc(16)))));
    assertSilent(bed.fromHost(packet({ ...to, src: NODE[4] }, raw(2, Buffer.alloc(16)))));
  });

  test('privileged: a drop event carries the packet, its place in the source and who sent it', () => {
    bed.policy(a, []);
    const sent = packet(ends(a, b, 4), udp(1, 2, Buffer.alloc(300, 7)));
    const drop = bed.send(a, sent).events.find((event) => event.type === 'drop');
    assert.ok(drop);
    assert.equal(drop.source, a.id);
    assert.equal(drop.sourceIdentity, IDENTITY.a);
    assert.equal(drop.destinationIdentity, IDENTITY.b);
    assert.equal(drop.ifindex, a.ifindex);
    assert.equal(drop.file, 1);
    assert.ok(drop.line > 0);
    assert.equal(drop.packetBytes, sent.length);
    assert.ok(sent.subarray(0, 128).equals(drop.payload));
    assert.equal(addressText(drop.payload.subarray(26, 30)), a[4]);
    assert.equal(dissect(sent).src, a[4]);
  });
});
