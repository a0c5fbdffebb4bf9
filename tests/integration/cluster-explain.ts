// SPDX-License-Identifier: Apache-2.0

/** What `cilium policy explain` says of flows between nodes that do not have the same rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FlowExplanationModel } from '../../api/explain-models.ts';
import { containerRanges } from '../../lab/addresses.ts';
import type { LabNode } from '../../lab/node.ts';
import { assertClosed, assertOpen, between } from './cluster-cases.ts';
import type { ClusterWorld } from './cluster-world.ts';
import { eventually } from './support.ts';

async function explain(node: LabNode, from: string, to: string): Promise<FlowExplanationModel> {
  const text = await node.cilium(['policy', 'explain', from, to, '--dport', '80', '-o', 'json']);
  return JSON.parse(text) as FlowExplanationModel;
}

export function testExplanations(world: ClusterWorld): void {
  test('privileged: explain says which node decides, and what becomes of addresses that nobody has', async (t) => {
    const [node1, node2] = [world.lab.node(1), world.lab.node(2)];
    const [receiver, sender] = [await world.run(1, 'why1', 'why1'), await world.run(2, 'why2', 'why2')];
    t.after(async () => {
      await world.importPolicy([]);
      for (const name of ['why1', 'why2']) await world.remove(name);
    });
    await world.importPolicy([]);
    await assertOpen(between([sender], [receiver]));
    const nobody = { endpointSelector: { matchLabels: { id: 'why1' } }, ingress: [{ fromEndpoints: [] }] };
    await world.importPolicy([nobody], [node1]);

    const decidedBy = { node: node1.name, address: node1.addresses.ipv4 };
    for (const to of ['why1', receiver.ipv4, receiver.ipv6]) {
      const { egress, ingress, to: end } = await explain(node2, 'why2', to);
      assert.deepEqual([egress.decidedBy, ingress.decidedBy, end.container], [undefined, decidedBy, 'why1'], to);
    }
    await eventually(async () => {
      const { ingress } = await explain(node1, 'why2', 'why1');
      assert.deepEqual([ingress.decidedBy, ingress.verdict, ingress.kernel?.verdict], [undefined, 'denied', 'denied']);
    });
    await eventually(() => assertClosed(between([sender], [receiver])));

    const unknown = containerRanges(1).ipv4.replace(/\d+\.\d+\/\d+$/, '200.77');
    const { verdict, egress, to } = await explain(node2, 'why2', unknown);
    assert.deepEqual([verdict, egress.cause, to.place], ['denied', 'unknown-address', decidedBy]);
    await assertClosed([{ from: sender.place, to: unknown, about: unknown }]);
  });
}
