// SPDX-License-Identifier: Apache-2.0

/**
 * Addresses and identities of other nodes that this one has not heard of: nothing comes in or goes out that a policy could
 * not be asked about, but answers to what was let in.
 */
import { afterEach, test } from 'node:test';
import { IpAddress, type IpFamily, Prefix } from '../../net/ip.ts';
import { assertDelivered, assertDropped, assertUntouched } from './support/assert.ts';
import { allow, Bed, ends, EXT_MAC, FAMILIES, NODE, OTHER, prefixOf, type Result } from './support/bed.ts';
import { type Station, TUNNEL, WORLD } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { icmpError, packet, TCP, tcp, type Transport, udp } from './support/packet.ts';
import { NEW, NODE_2, R, type RemoteStation, ROUTER_2, tellNodes, Tunnel } from './support/tunnel.ts';

inNamespace(import.meta.filename, () => {
  const overlay = new Bed({}, TUNNEL);
  const native = new Bed();
  const tunnel = new Tunnel(overlay);

  for (const bed of [overlay, native]) {
    for (const family of FAMILIES) testMode(bed, family);
  }

  function testMode(bed: Bed, family: IpFamily): void {
    const { a, b } = bed;
    const title = (text: string): string =>
      `privileged: ${bed === overlay ? 'tunnel' : 'routes'}, IPv${family}: ${text}`;
    const make = (from: Station, to: Station, transport: Transport): Buffer =>
      packet(ends(from, to, family), transport);
    const outside = bed === overlay ? bed.vxlan : bed.ext;
    const out = (to: Station, transport: Transport): Result => bed.send(a, make(a, to, transport));
    const device = (from: Station, to: Station, transport: Transport): Result =>
      bed.fromOutside(packet({ ...ends(from, to, family), dstMac: EXT_MAC }, transport));
    /** By the way on which other nodes' packets come in this mode. */
    const arrive = (from: RemoteStation, transport: Transport): Result =>
      bed === overlay
        ? tunnel.receive(make(from, a, transport), from.node[4], from.identity)
        : device(from, a, transport);
    /** Only its range is known from now on. */
    const forget = ({ [family]: address }: RemoteStation): void => void bed.ipcache.delete(prefixOf(address));

    afterEach(() => {
      bed.flush();
      bed.policy(a);
      for (const address of [WORLD, OTHER]) bed.ipcache.delete(prefixOf(address[family]));
    });

    test(title('nothing goes to an address that only its range is known of, nor to an identity without policy'), () => {
      tellNodes(bed, 4);
      assertDropped(out(NEW, udp(1, 2)), 'DROP_INVALID_IDENTITY');
      assertDelivered(out(R, udp(1, 2)), outside);
      bed.identities.set(R.identity, false);
      assertDropped(out(R, udp(1, 2)), 'DROP_INVALID_IDENTITY', 'the flow is known, its end is not');
      assertDelivered(out(ROUTER_2, udp(1, 2)), outside, 'reserved ones are always known');
      bed.identities.set(R.identity, true);
      assertDelivered(out(R, udp(1, 2)), outside);
    });

    test(title('nothing comes from an identity without policy'), () => {
      tellNodes(bed, 4);
      bed.identities.set(R.identity, false);
      assertDropped(arrive(R, udp(1, 2)), 'DROP_INVALID_IDENTITY');
      assertDelivered(arrive(ROUTER_2, udp(1, 2)), a.ifindex);
      bed.identities.set(R.identity, true);
      assertDelivered(arrive(R, udp(1, 2)), a.ifindex);
    });

    test(title('a flow that was let in is answered whatever becomes of the address, by its policy'), () => {
      tellNodes(bed, 4);
      assertDelivered(arrive(R, tcp(5000, 80, TCP.syn)), a.ifindex);
      forget(R);
      assertDelivered(out(R, tcp(80, 5000, TCP.syn | TCP.ack)), outside);
      assertDropped(out(R, tcp(80, 5001, TCP.ack)), 'DROP_INVALID_IDENTITY', 'no flow');
      const answer = make(a, R, tcp(80, 5000, TCP.ack));
      assertDelivered(arrive(R, icmpError(family, 'too-big', answer, 1300)), a.ifindex, 'errors about the answer');
      bed.policy(a, [allow({ egress: false }), allow({ egress: false, identity: R.identity, deny: true })]);
      assertDropped(out(R, tcp(80, 5000, TCP.ack)), 'DROP_POLICY_DENY');
      bed.identities.set(R.identity, false);
      assertDropped(out(R, tcp(80, 5000, TCP.ack)), 'DROP_INVALID_IDENTITY');
      bed.policy(a);
      assertDropped(out(R, tcp(80, 5000, TCP.ack)), 'DROP_INVALID_IDENTITY');
      assertDropped(arrive(R, icmpError(family, 'too-big', answer, 1300)), 'DROP_INVALID_IDENTITY');
    });

    test(title('a flow that was opened from here ends with what is known of its receiver'), () => {
      tellNodes(bed, 4);
      bed.identities.set(a.identity, true); // there are such containers on other nodes, too
      const question = make(a, R, udp(5000, 53));
      assertDelivered(bed.send(a, question), outside);
      forget(R);
      assertDropped(bed.send(a, question), 'DROP_INVALID_IDENTITY');
      assertDropped(arrive(R, icmpError(family, 'too-big', question, 1300)), 'DROP_INVALID_IDENTITY');
    });

    test(title('prefixes outside may have numbers of this node only, other nodes may not'), () => {
      tellNodes(bed, 4);
      const identity = 0x0100_0001;
      bed.ipcache.update(prefixOf(WORLD[family]), { identity });
      assertDelivered(out(WORLD, udp(25_000, 2)), bed.ext);
      assertDelivered(device(WORLD, a, udp(1, 2)), a.ifindex);
      bed.ipcache.update(prefixOf(WORLD[family]), { identity, tunnelEndpoint: IpAddress.parse(NODE_2[4]) });
      assertDropped(out(WORLD, udp(25_000, 2)), 'DROP_INVALID_IDENTITY');
      const by = { ...R, ...{ [family]: WORLD[family] }, identity };
      assertDropped(arrive(by, udp(1, 2)), 'DROP_INVALID_IDENTITY');
    });

    test(title('what the stack of this node brings is no better known'), () => {
      tellNodes(bed, 4);
      bed.ipcache.update(prefixOf(OTHER[family]), { identity: 0 });
      for (const to of [a, b]) {
        assertDropped(bed.fromHost(make(OTHER, to, udp(1, 2))), 'DROP_INVALID_IDENTITY');
        assertDropped(bed.receive(to, make(OTHER, to, udp(1, 2))), 'DROP_INVALID_IDENTITY');
      }
      assertDropped(device(OTHER, a, udp(1, 2)), 'DROP_INVALID_IDENTITY');
      assertDropped(out(OTHER, udp(1, 2)), 'DROP_INVALID_IDENTITY');
    });

    test(title('a masqueraded flow ends when its receiver turns out to be of another node'), () => {
      tellNodes(bed, 4);
      const seen = assertDelivered(out(OTHER, udp(25_000, 53)), bed.ext);
      const reply = packet({ ...ends(OTHER, NODE, family), dstMac: EXT_MAC }, udp(53, seen.sport));
      assertDelivered(bed.fromOutside(reply), a.ifindex);
      const tunnelEndpoint = IpAddress.parse(NODE_2[4]);
      bed.ipcache.update(prefixOf(OTHER[family]), { identity: 0, tunnelEndpoint });
      assertUntouched(bed.fromOutside(reply), reply, 'of nobody known');
      bed.ipcache.update(prefixOf(OTHER[family]), { identity: R.identity, tunnelEndpoint });
      if (bed === overlay) assertUntouched(bed.fromOutside(reply), reply, 'not through the tunnel');
      bed.ipcache.update(prefixOf(OTHER[family]), { identity: 9 });
      assertDelivered(bed.fromOutside(reply), a.ifindex);
    });
  }

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const make = (from: Station, to: Station, transport: Transport): Buffer =>
      packet(ends(from, to, family), transport);

    test(title('the tunnel says who a new container is before ipcache does, and it is answered'), () => {
      const { a } = overlay;
      tellNodes(overlay, 4);
      const arrive = (): Result => tunnel.receive(make(NEW, a, tcp(5000, 80, TCP.syn)), NODE_2[4], NEW.identity);
      overlay.policy(a, [allow({ egress: false, identity: NEW.identity })]);
      assertDelivered(arrive(), a.ifindex);
      assertDelivered(overlay.send(a, make(a, NEW, tcp(80, 5000, TCP.syn | TCP.ack))), overlay.vxlan);
      overlay.identities.set(NEW.identity, false);
      assertDropped(arrive(), 'DROP_INVALID_IDENTITY', 'and not before its policy is known');
    });

    test(title('without a tunnel nobody says it'), () => {
      const { a } = native;
      tellNodes(native, 4);
      const incoming = packet({ ...ends(NEW, a, family), dstMac: EXT_MAC }, udp(1, 2));
      assertDropped(native.fromOutside(incoming), 'DROP_INVALID_IDENTITY');
      native.ipcache.update(Prefix.of(IpAddress.parse(NEW[family])), {
        identity: NEW.identity,
        tunnelEndpoint: IpAddress.parse(NODE_2[4]),
      });
      assertDelivered(native.fromOutside(incoming), a.ifindex);
      native.ipcache.delete(prefixOf(NEW[family]));
      assertDropped(native.fromOutside(incoming), 'DROP_INVALID_IDENTITY', 'a flow that was let in does not keep it');
      assertDelivered(native.send(a, make(a, NEW, udp(2, 1))), native.ext, 'its answers do');
    });

    test(title('what has to come through the tunnel does not come by the stack of this node either'), () => {
      const { a } = overlay;
      tellNodes(overlay, 4);
      for (const from of [R, ROUTER_2, NEW]) {
        assertDropped(overlay.fromHost(make(from, a, udp(1, 2))), 'DROP_INVALID_SIP', from[family]);
        assertDropped(overlay.receive(a, make(from, a, udp(1, 2))), 'DROP_INVALID_SIP', from[family]);
      }
      const question = make(a, R, udp(5000, 53));
      overlay.send(a, question);
      const error = icmpError(family, 'too-big', question, 1300);
      for (const from of [WORLD, OTHER]) {
        assertDropped(overlay.fromHost(make(from, a, error)), 'DROP_INVALID_SIP', 'no router sees what is in there');
        assertDropped(overlay.receive(a, make(from, a, error)), 'DROP_INVALID_SIP');
        const incoming = packet({ ...ends(from, a, family), dstMac: EXT_MAC }, error);
        assertDropped(overlay.fromOutside(incoming), 'DROP_INVALID_SIP');
      }
      assertDelivered(overlay.fromHost(make(NODE, a, error)), a.ifindex, 'the node may have tried to send it');
      tellNodes(native, 4);
      assertDelivered(native.fromHost(make(R, native.a, udp(1, 2))), native.a.ifindex, 'nor is there a tunnel');
    });
  }
});
