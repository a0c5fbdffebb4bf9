// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../runtime/logger.ts';
import { fixed, NodeWorld } from './fake/node-world.ts';
import type { NodeRouting } from './node.ts';
import { RoutingCheck, routingDifference } from './routing.ts';

const TUNNEL: NodeRouting = { mode: 'tunnel', tunnelPort: 8472, underlay: 4 };
const NATIVE: NodeRouting = { ...TUNNEL, mode: 'native' };

for (const [theirs, difference] of [
  [TUNNEL, undefined],
  [NATIVE, 'b uses --routing-mode=native, this node tunnel: '],
  [{ ...TUNNEL, tunnelPort: 8473 }, 'b uses --tunnel-port=8473, this node 8472: '],
  [{ ...TUNNEL, underlay: 6 }, 'b uses --underlay-protocol=ipv6, this node ipv4: '],
] as const) {
  test(`to a node with tunnels: ${difference ?? 'no difference'}`, () => {
    const found = routingDifference(TUNNEL, 'b', theirs);
    assert.equal(found?.slice(0, difference?.length), difference);
  });
}

test('what tunnels need is nothing to nodes without', () => {
  assert.equal(routingDifference(NATIVE, 'b', { mode: 'native', tunnelPort: 1, underlay: 6 }), undefined);
  assert.match(routingDifference(NATIVE, 'b', TUNNEL) ?? '', /^b uses --routing-mode=tunnel, this node native: /);
});

test('a node that differs is told of once, until it is as this one, or gone', async (t) => {
  const world = await NodeWorld.create(t);
  const [a, c] = [
    await world.node('a', fixed('10.1.0.0/16', 'fd01::/64')),
    await world.node('c', fixed('10.3.0.0/16', 'fd03::/64'), { routing: NATIVE }),
  ];
  const warnings: unknown[] = [];
  const log = { ...silentLogger, warn: (_message: string, fields: unknown) => void warnings.push(fields) };
  const check = new RoutingCheck({ nodes: a.nodes, routing: TUNNEL, log });
  const asB = (routing: NodeRouting) => world.node('b', fixed('10.2.0.0/16', 'fd02::/64'), { routing });
  await a.start();
  assert.equal(check.problem, undefined);

  const b = await asB({ ...TUNNEL, tunnelPort: 1 });
  await b.start();
  await c.start();
  const said = routingDifference(TUNNEL, 'b', { ...TUNNEL, tunnelPort: 1 })!;
  await world.until(() => check.problem === `${said}; and 1 more`);
  b.addresses = ['192.0.2.200'];
  b.nodes.refreshAddresses();
  await world.until(() => a.nodes.get('b')?.addresses[0]?.ip.toString() === '192.0.2.200');
  assert.equal(warnings.length, 2);

  await b.nodes.stop();
  const fits = await asB(TUNNEL);
  await fits.start();
  await world.until(() => check.problem?.startsWith('c uses') === true);
  await c.nodes.stop();
  await world.vanish(c);
  await world.until(() => check.problem === undefined);
  assert.equal(warnings.length, 2);
});
