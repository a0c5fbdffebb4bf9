// SPDX-License-Identifier: Apache-2.0

/**
 * Packets of a tunnel over IPv4 that pass by its device: on the wire they are as those that don't, and what is out of the
 * ordinary takes the device's way. overlay.test.ts holds both ways to the same rules.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { TC_INGRESS } from '../../datapath/ffi/bpf-program.ts';
import { IpAddress } from '../../net/ip.ts';
import { assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import {
  Bed,
  DIRECT_TUNNEL,
  ends,
  FAMILIES,
  prefixOf,
  type Result,
  type Station,
  TUNNEL,
  WORLD,
} from './support/bed.ts';
import { dissect } from './support/dissect.ts';
import { inNamespace, run } from './support/namespace.ts';
import { ETH, packet, sum16, TCP, tcp, type Transport, udp } from './support/packet.ts';
import { inside, NODE_2, NODE_3, type OuterFrame, R, STRANGER, tellNodes, Tunnel, wrap } from './support/tunnel.ts';

const [TOS, TOTAL_LENGTH, FRAGMENT, CHECKSUM, SOURCE, TARGET] = [1, 2, 6, 10, 12, 16].map((at) => ETH + at) as [
  ...[number, number, number, number, number, number],
];
const [UDP_PORT, UDP_LENGTH, UDP_CHECKSUM, VXLAN_FLAGS] = [22, 24, 26, 28].map((at) => ETH + at) as [
  ...[number, number, number, number],
];
const INNER_TYPE = ETH + 36 + 12;

inNamespace(import.meta.filename, () => {
  const bed = new Bed({}, DIRECT_TUNNEL);
  const device = new Bed({}, TUNNEL);
  const tunnel = new Tunnel(bed);
  const deviceTunnel = new Tunnel(device);
  const { a } = bed;
  afterEach(() => bed.flush());

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const make = (from: Station, to: Station, transport: Transport): Buffer =>
      packet(ends(from, to, family), transport);
    const incoming = (transport: Transport = udp(1, 2)): Buffer => wrap(make(R, a, transport), NODE_2[4], R.identity);
    /** The way that a packet takes when it is sent: whether the program has wrapped it itself. */
    const isDirect = (sent: Buffer): boolean => {
      const result = bed.send(a, sent);
      assert.equal(result.target, bed.vxlan);
      return inside(result).packet !== result.packet;
    };

    test(title('on the wire a packet is as one that has passed the device'), () => {
      for (const each of [bed, device]) tellNodes(each, 4);
      const sent = make(a, R, tcp(5000, 80, TCP.syn, Buffer.alloc(100, 7)));
      const facts = (by: Tunnel): Omit<OuterFrame, 'inner'> & { inner: string } => {
        const frame = by.transmit(sent, 'lxc_a', 'cil_from_container');
        assert.ok(frame && dissect(frame.inner).checksumsRight);
        return { ...frame, inner: frame.inner.toString('hex') };
      };
      assert.deepEqual(facts(tunnel), facts(deviceTunnel));
      assert.ok(isDirect(sent));
    });

    test(title('its outer headers are right, and flows differ in their port'), () => {
      tellNodes(bed, 4);
      const ports = new Set<number>();
      for (let port = 1; port <= 20; port++) {
        const { packet: frame } = bed.send(a, make(a, R, udp(port, 2)));
        assert.equal(sum16(frame.subarray(ETH, ETH + 20)), 0xffff);
        assert.equal(frame.readUInt16BE(TOTAL_LENGTH), frame.length - ETH);
        assert.equal(frame.readUInt16BE(UDP_LENGTH), frame.length - ETH - 20);
        ports.add(frame.readUInt16BE(UDP_PORT - 2));
      }
      assert.ok(ports.size > 10, String(ports.size));
      for (const port of ports) assert.ok(port >= 0x8000);
    });

    test(title('marks of congestion, sizes that the route does not take and unknown routes want the device'), () => {
      tellNodes(bed, 4);
      const sent = make(a, R, tcp(1, 2, TCP.ack, Buffer.alloc(1300)));
      assert.ok(isDirect(sent));
      const marked = Buffer.from(sent);
      if (family === 4) {
        marked[TOS] = 2;
        marked.writeUInt16BE(marked.readUInt16BE(CHECKSUM) - 2, CHECKSUM);
      } else {
        marked[TOS] = 0x20;
      }
      assert.ok(!isDirect(marked));
      const narrow = ['route', 'add', `${NODE_2[4]}/32`, 'dev', 'ext', 'mtu', 'lock', '1300'];
      run('ip', ...narrow);
      assert.ok(!isDirect(sent));
      assert.ok(isDirect(make(a, R, udp(1, 2))));
      run('ip', 'route', 'replace', 'unreachable', `${NODE_2[4]}/32`);
      assert.ok(!isDirect(make(a, R, udp(1, 2))));
      run('ip', 'route', 'del', 'unreachable', `${NODE_2[4]}/32`);
      tellNodes(bed, 6);
      assert.ok(!isDirect(make(a, R, udp(1, 2))), 'a node known by IPv6');
    });

    test(title('a frame on the wire finds the receiver without the device'), () => {
      tellNodes(bed, 4);
      bed.program('cil_from_netdev').attach(bed.ext, TC_INGRESS);
      const seen = (frame: Buffer): (number | undefined)[] => {
        bed.takeEvents();
        tunnel.receiveFrame(frame);
        return bed.takeEvents().map((event) => {
          if (event.type === 'drop') return -event.ifindex;
          return event.type === 'trace' && event.point === 0 ? event.ifindex : undefined;
        });
      };
      const from = (node: string): Buffer => wrap(make(R, a, udp(1, 2)), node, R.identity);
      assert.ok(seen(from(NODE_2[4])).includes(a.ifindex));
      for (const liar of [NODE_3, STRANGER])
        assert.deepEqual(seen(from(liar[4])), [-bed.ext], 'dropped where it came in');
      const odd = from(STRANGER[4]);
      odd[TOS] = 1;
      odd.writeUInt16BE(odd.readUInt16BE(CHECKSUM) - 1, CHECKSUM);
      assert.deepEqual(seen(odd), [-bed.vxlan], 'dropped where the device has it');
    });

    test(title('what is out of the ordinary is left to the device, or to nobody'), () => {
      tellNodes(bed, 4);
      assertDelivered(bed.fromOutside(incoming()), a.ifindex);
      const odd: Readonly<Record<string, (frame: Buffer) => void>> = {
        'a mark of congestion': (frame) => (frame[TOS] = 3),
        'a fragment': (frame) => frame.writeUInt16BE(0x2000, FRAGMENT),
        'a later fragment': (frame) => frame.writeUInt16BE(1, FRAGMENT),
        'bytes behind its end': (frame) => frame.writeUInt16BE(frame.readUInt16BE(TOTAL_LENGTH) - 1, TOTAL_LENGTH),
        'a checksum': (frame) => frame.writeUInt16BE(1, UDP_CHECKSUM),
        'another length': (frame) => frame.writeUInt16BE(frame.readUInt16BE(UDP_LENGTH) - 1, UDP_LENGTH),
        'other flags': (frame) => frame.writeUInt32BE(0, VXLAN_FLAGS),
        'another port': (frame) => frame.writeUInt16BE(4789, UDP_PORT),
        'another receiver': (frame) => frame.writeUInt8(99, TARGET + 3),
        'no IP inside': (frame) => frame.writeUInt16BE(0x0806, INNER_TYPE),
        'another MAC address': (frame) => frame.writeUInt8(frame[5]! ^ 1, 5),
      };
      for (const [what, change] of Object.entries(odd)) {
        const frame = incoming();
        change(frame);
        frame.writeUInt16BE(0, CHECKSUM);
        frame.writeUInt16BE(~sum16(frame.subarray(ETH, ETH + 20)) & 0xffff, CHECKSUM);
        assertUntouched(bed.fromOutside(frame), frame, what);
      }
      const broken = incoming();
      broken[SOURCE]! ^= 1;
      assertUntouched(bed.fromOutside(broken), broken, 'a wrong checksum of the header');
      const joined = incoming(tcp(1, 2, TCP.ack, Buffer.alloc(1000)));
      assert.equal(bed.run('cil_from_netdev', joined, bed.ext, 500).action, 0, 'segments that came in together');
      const harmless = incoming();
      harmless.writeUInt16BE(0x4000, FRAGMENT);
      harmless.writeUInt16BE(harmless.readUInt16BE(CHECKSUM) - 0x4000, CHECKSUM);
      assertDelivered(bed.fromOutside(harmless), a.ifindex, "what may not be cut up isn't");
    });

    test(title('without a tunnel, or without the program to call, the packet is the stack’s'), () => {
      tellNodes(device, 4);
      const frame = incoming();
      assertUntouched(device.fromOutside(frame), frame);
      const short = packet({ ...ends(WORLD, { ...R, 4: NODE_2[4], 6: NODE_2[6] }, family) }, udp(1, TUNNEL.port));
      assertUntouched(bed.fromOutside(short), short, 'no tunnel at all in it');
    });

    test(title('who is no node says nothing'), () => {
      tellNodes(bed, 4);
      const lie = (node: string, identity: number): Result =>
        bed.fromOutside(wrap(make(R, a, udp(1, 2)), node, identity));
      assertDropped(lie(STRANGER[4], R.identity), 'DROP_UNKNOWN_SENDER');
      assertDropped(lie(NODE_2[4], 1), 'DROP_INVALID_IDENTITY');
      tellNodes(bed, 6);
      assertDropped(lie(NODE_2[4], R.identity), 'DROP_UNKNOWN_SENDER', 'it is known by IPv6');
      // In memory the same as the address that the frame comes from, 192.0.2.2.
      const tunnelEndpoint = IpAddress.parse('202:c0::');
      bed.ipcache.update(prefixOf(R[family]), { identity: R.identity, tunnelEndpoint });
      assertDropped(lie(NODE_2[4], R.identity), 'DROP_UNKNOWN_SENDER', 'families are never mixed up');
    });
  }
});
