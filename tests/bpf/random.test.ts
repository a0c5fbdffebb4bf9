// SPDX-License-Identifier: Apache-2.0

/**
 * Packets with random bytes in their headers: whatever they are, only what the policy allows arrives, and only from its
 * own sender. `BPF_SEED` runs another series; the seed is in every message.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACTION, allow, Bed, ends, FAMILIES, IDENTITY, NODE, OTHER, type Result } from './support/bed.ts';
import { dissect } from './support/dissect.ts';
import { inNamespace } from './support/namespace.ts';
import { ETH, ETHERTYPE, echo, icmpError, packet, PROTOCOL, TCP, tcp, udp } from './support/packet.ts';

const SEED = Number(process.env['BPF_SEED'] ?? 1);
const PACKETS = 4000;
const TO_CONTAINER = 0;

/** Mulberry32: small, and the same everywhere. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % below;
  };
}

inNamespace(import.meta.filename, () => {
  const bed = new Bed();
  const { a, b, c } = bed;

  for (const family of FAMILIES) {
    const random = randomNumbers(SEED * 2 + family);
    const icmp = family === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6;
    const request = family === 4 ? 8 : 128;
    const models = [tcp(33000, 80, TCP.syn), tcp(33000, 80, TCP.ack), udp(5000, 53), echo(family, 'request', 9)];
    const lookalike = icmpError(family, 'unreachable', packet(ends(b, a, family), udp(53, 5000)));

    const spoil = (model: Buffer): Buffer => {
      const copy = Buffer.from(model);
      const headers = Math.min(copy.length, ETH + (family === 4 ? 48 : 68)) - 12;
      for (let flips = random(4); flips > 0; flips--) copy[12 + random(headers)] = random(256);
      if (random(8) === 0) copy[6 + random(6)] = random(256);
      // BPF_PROG_TEST_RUN wants whole IP headers.
      return random(8) === 0 ? copy.subarray(0, ETH + 40 + random(copy.length - ETH - 39)) : copy;
    };

    const check = (sent: Buffer, result: Result): void => {
      const told = `seed ${SEED}: ${sent.toString('hex')}`;
      const trace = result.events.findLast((event) => event.type === 'trace');
      const arrived = result.action === ACTION.redirect && trace?.type === 'trace' && trace.point === TO_CONTAINER;
      if (result.action === ACTION.drop || !arrived) return;
      assert.equal(result.packet.readUInt16BE(12), family === 4 ? ETHERTYPE.ipv4 : ETHERTYPE.ipv6, told);
      const seen = dissect(result.packet);
      assert.equal(seen.src, a[family], told);
      assert.equal(seen.dst, b[family], told);
      assert.equal(seen.srcMac, b.hostMac, told);
      const first = family === 6 || (result.packet.readUInt16BE(ETH + 6) & 0x1fff) === 0;
      if (!first) return;
      if (seen.protocol === PROTOCOL.tcp) assert.equal(seen.dport, 80, told);
      else if (seen.protocol === PROTOCOL.udp) assert.equal(seen.dport, 53, told);
      else if (seen.protocol === icmp) assert.equal(seen.type, request, told);
      else assert.ok(family === 6, told); // extension headers
    };

    test(`privileged: IPv${family}: of ${PACKETS} spoilt packets only what is allowed arrives`, () => {
      bed.policy(a, [allow({ egress: true })]);
      bed.policy(c, []);
      const peer = { egress: false, identity: IDENTITY.a };
      bed.policy(b, [
        allow({ ...peer, protocol: PROTOCOL.tcp, port: 80 }),
        allow({ ...peer, protocol: PROTOCOL.udp, port: 53 }),
        allow({ ...peer, protocol: icmp, port: request }),
      ]);
      for (let i = 0; i < PACKETS; i++) {
        const model = models[random(models.length)]!;
        const sent = spoil(packet(ends(a, b, family), model));
        check(sent, bed.send(a, sent));
      }
    });

    test(`privileged: IPv${family}: spoilt packets to the node and from outside harm nobody`, () => {
      bed.policy(b, []);
      for (let i = 0; i < PACKETS / 4; i++) {
        const model = [...models, lookalike][random(models.length + 1)]!;
        bed.send(a, spoil(packet(ends(a, NODE, family), model)));
        bed.send(a, spoil(packet(ends(a, OTHER, family), model)));
        for (const result of [
          bed.fromOutside(spoil(packet(ends(OTHER, b, family), model))),
          bed.fromOutside(spoil(packet(ends(OTHER, NODE, family), model))),
          bed.fromHost(spoil(packet(ends(NODE, b, family), model))),
          bed.receive(b, spoil(packet(ends(a, b, family), model))),
        ]) {
          const passed = result.events.some((event) => event.type === 'trace' && event.point === TO_CONTAINER);
          assert.ok(!passed || result.events.at(-1)?.destination !== b.id, `seed ${SEED}`);
        }
      }
      bed.policy(b);
    });
  }
});
