// SPDX-License-Identifier: Apache-2.0

/** What is told at which aggregation, and what is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CT_ENTRY } from '../../datapath/maps/conntrack-map.ts';
import { METRIC_EGRESS, METRIC_INGRESS, REASON_FORWARDED } from '../../datapath/maps/metrics-map.ts';
import { ACTION, allow, Bed, ends, FAMILIES, NODE, type Result, WORLD } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';
import { packet, TCP, tcp, udp } from './support/packet.ts';

const { fin, syn, rst, psh, ack } = TCP;

const kinds = (result: Result): string[] =>
  result.events.map((event) => (event.type === 'trace' ? `trace ${event.point}` : event.type));

inNamespace(import.meta.filename, () => {
  const all = new Bed({ aggregation: 0 });
  const low = new Bed({ aggregation: 1 });
  const medium = new Bed({ aggregation: 3, report_interval_s: 100 });

  for (const family of FAMILIES) {
    const title = (text: string): string => `privileged: IPv${family}: ${text}`;
    const forth = (bed: Bed, flags: number): string[] =>
      kinds(bed.send(bed.a, packet(ends(bed.a, bed.b, family), tcp(33000, 80, flags))));
    const back = (bed: Bed, flags: number): string[] =>
      kinds(bed.send(bed.b, packet(ends(bed.b, bed.a, family), tcp(80, 33000, flags))));

    test(title('without aggregation each packet is told where it comes from and where it goes'), () => {
      forth(all, syn);
      assert.deepEqual(back(all, syn | ack), ['trace 5', 'trace 0']);
      assert.deepEqual(forth(all, ack), ['trace 5', 'trace 0']);
      const { a } = all;
      assert.deepEqual(kinds(all.send(a, packet(ends(a, NODE, family), udp(1, 2)))).at(-1), 'trace 2');
      assert.deepEqual(kinds(all.send(a, packet(ends(a, WORLD, family), udp(1, 2)))).at(-1), 'trace 11');
      assert.deepEqual(kinds(all.fromHost(packet(ends(NODE, a, family), udp(2, 1))))[0], 'trace 7');
      assert.deepEqual(kinds(all.fromOutside(packet(ends(WORLD, a, family), udp(9, 9))))[0], 'trace 10');
    });

    test(title('at low aggregation each packet is told where it goes'), () => {
      forth(low, syn);
      assert.deepEqual(back(low, syn | ack), ['trace 0']);
      assert.deepEqual(forth(low, ack), ['trace 0']);
    });

    test(title('at medium aggregation only what is new about a flow is told'), () => {
      assert.deepEqual(forth(medium, syn), ['policy-verdict', 'policy-verdict', 'trace 0']);
      assert.deepEqual(back(medium, syn | ack), ['trace 0']);
      assert.deepEqual(forth(medium, ack), []);
      assert.deepEqual(forth(medium, ack | psh), []);
      assert.deepEqual(back(medium, ack | psh), []);
      assert.deepEqual(forth(medium, fin | ack), ['trace 0']);
      assert.deepEqual(back(medium, fin | ack), ['trace 0']);
      assert.deepEqual(forth(medium, ack), []);
      assert.deepEqual(forth(medium, rst), ['trace 0']);
    });

    test(title('a flow is told of again when the interval is over'), () => {
      const { a, b } = medium;
      medium.flush();
      const sent = packet(ends(a, b, family), udp(5000, 53));
      medium.send(a, sent);
      assert.deepEqual(kinds(medium.send(a, sent)), []);
      const map = medium.map(`cilium_ct${family}_any`);
      const [flow] = [...map.entries()].map(({ key, value }) => ({ key: Buffer.from(key), value: Buffer.from(value) }));
      flow!.value.writeUInt32LE(
        flow!.value.readUInt32LE(CT_ENTRY.at.initiator_report) - 100,
        CT_ENTRY.at.initiator_report,
      );
      map.update(flow!.key, flow!.value);
      map.close();
      assert.deepEqual(kinds(medium.send(a, sent)), ['trace 0']);
      assert.deepEqual(kinds(medium.send(a, sent)), []);
    });

    test(title('packets and bytes are counted by fate and direction'), () => {
      const { a, b, metrics } = all;
      const counted = (reason: number, direction: number, act: () => void): [number, number] => {
        const before = metrics.get(reason, direction);
        act();
        const after = metrics.get(reason, direction);
        return [after.packets - before.packets, after.bytes - before.bytes];
      };
      const sent = packet(ends(a, b, family), udp(5000, 53));
      const out = packet(ends(a, WORLD, family), udp(5000, 53));
      const one: [number, number] = [1, sent.length];
      assert.deepEqual(
        counted(REASON_FORWARDED, METRIC_INGRESS, () => all.send(a, sent)),
        one,
      );
      assert.deepEqual(
        counted(REASON_FORWARDED, METRIC_EGRESS, () => all.send(a, out)),
        one,
      );
      all.policy(b, [allow({ egress: true })]);
      assert.deepEqual(
        counted(133, METRIC_EGRESS, () => all.send(a, sent)),
        one,
      );
      assert.deepEqual(
        counted(133, METRIC_INGRESS, () => all.receive(b, sent)),
        one,
      );
      all.policy(b);
    });
  }

  test('privileged: records that the ring has no room for are counted, and the packets pass', () => {
    const bed = all;
    const { a, b } = bed;
    const program = bed.program('cil_from_container');
    const sent = packet(ends(a, b, 4), udp(5000, 53));
    const context = Buffer.alloc(192);
    context.writeUInt32LE(a.ifindex, 40);
    assert.equal(bed.metrics.eventsLost(), 0);
    program.testRun({ packet: sent, context, repeat: 20_000 });
    const lost = bed.metrics.eventsLost();
    assert.ok(lost > 0);
    assert.equal(program.testRun({ packet: sent, context }).retval, ACTION.redirect);
    assert.ok(bed.metrics.eventsLost() > lost);
  });
});
