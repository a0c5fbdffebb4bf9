// SPDX-License-Identifier: Apache-2.0

/** ARP and neighbour discovery of containers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertDropped, assertSilent } from './support/assert.ts';
import { ACTION, Bed, ends, HOST_MAC, OTHER, ROUTER } from './support/bed.ts';
import { addressText, dissect } from './support/dissect.ts';
import { inNamespace } from './support/namespace.ts';
import { arp, ethernet, ETHERTYPE, icmp, macText, neighbourSolicit, packet, PROTOCOL } from './support/packet.ts';

const UNSPECIFIED = '::';
const LINK_LOCAL = 'fe80::1ff:fe00:101';
const ALL_NODES = 'ff02::1';

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b } = bed;

  test('privileged: ARP for any address but its own is answered with the MAC of the host side', () => {
    for (const target of [b[4], ROUTER[4], OTHER[4], '169.254.1.1']) {
      const result = bed.send(a, arp({ srcMac: a.mac, sender: a[4], target }));
      assert.equal(result.action, ACTION.redirect, target);
      const reply = result.packet;
      assert.equal(macText(reply.subarray(0, 6)), a.mac);
      assert.equal(macText(reply.subarray(6, 12)), a.hostMac);
      assert.equal(reply.readUInt16BE(20), 2);
      assert.equal(macText(reply.subarray(22, 28)), a.hostMac);
      assert.equal(addressText(reply.subarray(28, 32)), target);
      assert.equal(macText(reply.subarray(32, 38)), a.mac);
      assert.equal(addressText(reply.subarray(38, 42)), a[4]);
    }
  });

  test('privileged: ARP probes, announcements, replies and questions for its own address stay unanswered', () => {
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: '0.0.0.0', target: b[4] })), 'probe');
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: '0.0.0.0', target: a[4] })), 'probe for its own');
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: a[4], target: a[4] })), 'announcement');
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: b[4], target: b[4] })), 'announcement of another');
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: b[4], target: a[4], operation: 2 })), 'reply');
  });

  test('privileged: a container with two addresses gets no answer for the other one', () => {
    bed.setEndpoint(b, { ifindex: a.ifindex });
    assertSilent(bed.send(a, arp({ srcMac: a.mac, sender: a[4], target: b[4] })));
    bed.setEndpoint(b);
  });

  test('privileged: ARP in the name of another is dropped', () => {
    assertDropped(bed.send(a, arp({ srcMac: a.mac, sender: b[4], target: ROUTER[4] })), 'DROP_INVALID_SIP');
    assertDropped(bed.send(a, arp({ srcMac: a.mac, sender: '10.0.1.77', target: ROUTER[4] })), 'DROP_INVALID_SIP');
    assertDropped(bed.send(a, arp({ srcMac: b.mac, sender: a[4], target: ROUTER[4] })), 'DROP_INVALID_SMAC');
    const frame = arp({ srcMac: b.mac, senderMac: a.mac, sender: a[4], target: ROUTER[4] });
    assertDropped(bed.send(a, frame), 'DROP_INVALID_SMAC');
    const lie = arp({ srcMac: a.mac, senderMac: b.mac, sender: a[4], target: ROUTER[4] });
    assertDropped(bed.send(a, lie), 'DROP_INVALID_SMAC');
  });

  test('privileged: malformed ARP is dropped', () => {
    const good = arp({ srcMac: a.mac, sender: a[4], target: b[4] });
    for (const [offset, value] of [
      [15, 6],
      [16, 9],
      [18, 8],
      [19, 16],
    ] as const) {
      const bad = Buffer.from(good);
      bad[offset] = value;
      assertDropped(bed.send(a, bad), 'DROP_INVALID', `byte ${offset}`);
    }
    assertDropped(bed.send(a, good.subarray(0, 41)), 'DROP_INVALID', 'truncated');
    assertDropped(bed.send(a, ethernet(a.hostMac, a.mac, ETHERTYPE.arp, Buffer.alloc(4))), 'DROP_INVALID', 'empty');
  });

  const solicit = (src: string, target: string, dstMac = '33:33:ff:00:00:02', ttl = 255): Buffer =>
    packet({ srcMac: a.mac, dstMac, src, dst: ALL_NODES }, neighbourSolicit(target, a.mac), { ttl });

  test('privileged: a solicitation for any address but its own is answered with the MAC of the host side', () => {
    for (const target of [b[6], ROUTER[6], OTHER[6], 'fe80::1']) {
      const result = bed.send(a, solicit(a[6], target));
      assert.equal(result.action, ACTION.redirect, target);
      const advert = dissect(result.packet);
      assert.ok(advert.checksumsRight);
      assert.equal(advert.dstMac, a.mac);
      assert.equal(advert.srcMac, a.hostMac);
      assert.equal(advert.src, target);
      assert.equal(advert.dst, a[6]);
      assert.equal(advert.ttl, 255);
      assert.equal(advert.protocol, PROTOCOL.icmp6);
      assert.equal(advert.type, 136);
      assert.equal(advert.info, 0xe0000000);
      assert.equal(addressText(advert.rest.subarray(0, 16)), target);
      assert.deepEqual([...advert.rest.subarray(16, 18)], [2, 1]);
      assert.equal(macText(advert.rest.subarray(18, 24)), a.hostMac);
    }
  });

  test('privileged: a solicitation without the option that names the asker is answered too', () => {
    const sent = packet(ends(a, b, 6), neighbourSolicit(b[6]), { ttl: 255 });
    const advert = dissect(bed.send(a, sent).packet);
    assert.ok(advert.checksumsRight && advert.type === 136);
  });

  test('privileged: a link-local asker is answered with the MAC that it asked, or that of the node', () => {
    assert.equal(dissect(bed.send(a, solicit(LINK_LOCAL, ROUTER[6])).packet).srcMac, HOST_MAC);
    assert.equal(dissect(bed.send(a, solicit(LINK_LOCAL, ROUTER[6], a.hostMac)).packet).srcMac, a.hostMac);
  });

  test('privileged: address probes and questions for its own address stay unanswered', () => {
    assertSilent(bed.send(a, solicit(UNSPECIFIED, b[6])));
    assertSilent(bed.send(a, solicit(UNSPECIFIED, a[6])));
    assertSilent(bed.send(a, solicit(a[6], a[6])));
    assertSilent(bed.send(a, solicit(LINK_LOCAL, a[6])));
  });

  test('privileged: solicitations in the name of another are dropped', () => {
    assertDropped(bed.send(a, solicit(b[6], ROUTER[6])), 'DROP_INVALID_SIP');
    const lie = packet({ ...ends(a, b, 6), srcMac: b.mac }, neighbourSolicit(b[6]), { ttl: 255 });
    assertDropped(bed.send(a, lie), 'DROP_INVALID_SMAC');
  });

  test('privileged: malformed solicitations are dropped', () => {
    assertDropped(bed.send(a, solicit(a[6], b[6], a.hostMac, 254)), 'DROP_INVALID', 'came from afar');
    const short = packet(ends(a, b, 6), icmp(6, 135, 0, Buffer.alloc(8)), { ttl: 255 });
    assertDropped(bed.send(a, short), 'DROP_INVALID', 'truncated');
    const code = packet(ends(a, b, 6), icmp(6, 135, 1, Buffer.alloc(20)), { ttl: 255 });
    assertDropped(bed.send(a, code), 'DROP_INVALID', 'code');
    const transport = neighbourSolicit(b[6]);
    const fragment = { id: 1, offset: 0, more: true };
    assertDropped(bed.send(a, packet(ends(a, b, 6), transport, { ttl: 255, fragment })), 'DROP_INVALID', 'fragment');
  });

  test('privileged: router solicitations, adverts of neighbours and multicast reports are dropped without a word', () => {
    for (const type of [130, 131, 132, 133, 136, 143]) {
      for (const src of [a[6], LINK_LOCAL, UNSPECIFIED]) {
        const sent = packet({ ...ends(a, b, 6), src, dst: 'ff02::2' }, icmp(6, type, 0, Buffer.alloc(24)), { ttl: 1 });
        assertSilent(bed.send(a, sent), `type ${type} from ${src}`);
      }
    }
    const routerAlert: [number, Buffer] = [0, Buffer.from([0, 0, 5, 2, 0, 0, 1, 0])];
    const report = icmp(6, 143, 0, Buffer.alloc(24));
    const sent = packet({ ...ends(a, b, 6), src: UNSPECIFIED, dst: 'ff02::16' }, report, { extensions: [routerAlert] });
    assertSilent(bed.send(a, sent));
  });

  test('privileged: a container is no router', () => {
    for (const type of [134, 137]) {
      const sent = packet({ ...ends(a, b, 6), src: LINK_LOCAL, dst: ALL_NODES }, icmp(6, type, 0, Buffer.alloc(12)));
      assertDropped(bed.send(a, sent), 'DROP_FORBIDDEN_ICMP6', `type ${type}`);
    }
  });

  test('privileged: link-local and unspecified sources are for neighbour discovery only', () => {
    for (const src of [LINK_LOCAL, UNSPECIFIED]) {
      const sent = packet({ ...ends(a, b, 6), src }, icmp(6, 128, 0, Buffer.alloc(12)));
      assertDropped(bed.send(a, sent), 'DROP_INVALID_SIP', src);
    }
  });
});
