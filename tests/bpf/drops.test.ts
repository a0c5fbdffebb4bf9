// SPDX-License-Identifier: Apache-2.0

/** Each reason of enum drop_reason is reached by a packet here, or is listed with why no packet can reach it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IpFamily } from '../../net/ip.ts';
import { assertDropped, dropReasons } from './support/assert.ts';
import { ACTION, allow, Bed, ends, FAMILIES, NODE, type Result, type Station, TUNNEL, WORLD } from './support/bed.ts';
import { inNamespace, run } from './support/namespace.ts';
import { ETH, ethernet, icmp, icmpError, type IpOptions, packet, raw, sctp, TCP, tcp, udp } from './support/packet.ts';
import { R, tellNodes } from './support/tunnel.ts';
import type { Transport } from './support/packet.ts';

/** One port is all there is to masquerade with. */
const ONE_PORT = { snat_port_min1: 20_000, snat_port_max1: 20_000, snat_port_min2: 1, snat_port_max2: 0 };

const UNREACHABLE: Readonly<Record<string, string>> = {
  DROP_CT_CREATE_FAILED: 'a full LRU map evicts an entry instead of refusing one',
  DROP_WRITE_ERROR: 'a helper that changes a packet fails only when memory is short',
};

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const narrow = new Bed(ONE_PORT);
  const tunnelled = new Bed({}, TUNNEL);
  const { a, b } = bed;
  tellNodes(tunnelled, 4);

  const toB = (family: IpFamily, transport: Transport, options?: IpOptions): Result =>
    bed.send(a, packet(ends(a, b, family), transport, options));
  const toWorld = (family: IpFamily, transport: Transport): Result =>
    bed.send(a, packet(ends(a, WORLD, family), transport));
  const judged = (family: IpFamily, entries: Parameters<Bed['policy']>[1]): Result => {
    bed.policy(b, entries);
    const result = toB(family, tcp(1, 80, TCP.syn));
    bed.policy(b);
    return result;
  };
  const frame = (family: IpFamily, type: number): Result =>
    bed.send(a, ethernet(a.hostMac, a.mac, type, packet(ends(a, b, family), udp(1, 2)).subarray(ETH)));
  const unreachableRoute = (family: IpFamily): Result => {
    const to = { ...WORLD, 4: '203.0.113.1', 6: '2001:db8:bad::1' };
    run('ip', `-${family}`, 'route', 'add', 'unreachable', to[family]);
    return bed.send(a, packet(ends(a, to, family), udp(1, 2)));
  };
  const errorWithoutHops = (family: IpFamily): Result => {
    const question = packet(ends(b, a, family), udp(5000, 53));
    bed.send(b, question);
    return toB(family, icmpError(family, 'unreachable', question), { ttl: 1 });
  };
  const toOtherNode = (family: IpFamily, identity: number): Result => {
    tunnelled.setEndpoint(tunnelled.a, { identity });
    const result = tunnelled.send(tunnelled.a, packet(ends(a, R, family), udp(1, 2)));
    tunnelled.setEndpoint(tunnelled.a);
    return result;
  };
  const fromOtherNode = (family: IpFamily, from: Station): Result =>
    tunnelled.run('cil_from_overlay', packet(ends(from, a, family), udp(1, 2)), tunnelled.vxlan);
  const laterFragmentTooBig = (family: IpFamily): Result => {
    const big = udp(5000, 53, Buffer.alloc(3000));
    const part = (offset: number): Result =>
      toB(family, big, { fragment: { id: 3, offset, more: true }, slice: [offset, offset + 1480] });
    part(0);
    return part(1480);
  };

  const attempts: Readonly<Record<string, (family: IpFamily) => Result>> = {
    DROP_INVALID_SMAC: (family) => bed.send(a, packet({ ...ends(a, b, family), srcMac: b.mac }, udp(1, 2))),
    DROP_INVALID_SIP: (family) => bed.send(a, packet({ ...ends(a, b, family), src: b[family] }, udp(1, 2))),
    DROP_POLICY: (family) => judged(family, []),
    DROP_INVALID: (family) => toB(family, udp(1, 2), { slice: [0, 7] }),
    DROP_CT_INVALID_HDR: (family) => toB(family, tcp(1, 2, TCP.syn | TCP.fin)),
    DROP_FRAG_NEEDED: laterFragmentTooBig,
    DROP_CT_UNKNOWN_PROTO: (family) => toB(family, raw(47, Buffer.alloc(8))),
    DROP_NO_TUNNEL_KEY: (family) => fromOtherNode(family, R),
    DROP_UNKNOWN_TARGET: (family) => bed.fromHost(packet(ends(NODE, WORLD, family), udp(1, 2))),
    DROP_UNROUTABLE: (family) =>
      bed.send(a, packet({ ...ends(a, b, family), dst: family === 4 ? '224.0.0.1' : 'ff02::1' }, udp(1, 2))),
    DROP_INVALID_EXTHDR: () => toB(6, udp(1, 2), { extensions: [[43, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])]] }),
    DROP_UNKNOWN_CT: (family) =>
      toB(family, icmpError(family, 'unreachable', packet(ends(b, a, family), udp(7777, 7777)))),
    DROP_UNSUPPORTED_L2: (family) => frame(family, 0x88cc),
    DROP_NAT_NO_MAPPING: (family) => {
      const send = (port: number): Result => narrow.send(narrow.a, packet(ends(a, WORLD, family), udp(port, 53)));
      assert.equal(send(1).action, ACTION.redirect);
      return send(2);
    },
    DROP_NAT_UNSUPP_PROTO: (family) => toWorld(family, sctp(1, 2)),
    DROP_FIB_FAILED: unreachableRoute,
    DROP_ENCAP_PROHIBITED: (family) => tunnelled.send(tunnelled.a, packet(ends(a, WORLD, family), udp(1, TUNNEL.port))),
    DROP_INVALID_IDENTITY: (family) => toOtherNode(family, 0x0100_0001),
    DROP_UNKNOWN_SENDER: (family) => fromOtherNode(family, WORLD),
    DROP_FRAG_NOT_FOUND: (family) =>
      toB(family, udp(1, 2), { fragment: { id: 77, offset: 8, more: false }, slice: [8, 16] }),
    DROP_FORBIDDEN_ICMP6: () => toB(6, icmp(6, 134, 0, Buffer.alloc(12))),
    DROP_PROXY_LOOKUP_FAILED: (family) => judged(family, [allow({ egress: false, proxyPort: 10_000 })]),
    DROP_POLICY_DENY: (family) => judged(family, [allow({ egress: false, deny: true })]),
    DROP_VLAN_FILTERED: (family) => frame(family, 0x8100),
    DROP_TTL_EXCEEDED: errorWithoutHops,
  };

  test('privileged: every drop reason of the C has an attempt or an excuse, and none has both', () => {
    const listed = [...Object.keys(attempts), ...Object.keys(UNREACHABLE)];
    assert.deepEqual(listed.sort(), [...dropReasons().keys()].sort());
  });

  for (const [reason, attempt] of Object.entries(attempts)) {
    test(`privileged: ${reason} is reached`, () => {
      for (const family of FAMILIES) assertDropped(attempt(family), reason, `IPv${family}`);
    });
  }
});
