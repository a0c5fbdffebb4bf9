// SPDX-License-Identifier: Apache-2.0

/** What people are shown of a cluster, and what they may do to it: the same wherever they ask. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HealthStatus } from '../../api/health-models.ts';
import { etcdUrls } from '../../lab/addresses.ts';
import type { LabNode } from '../../lab/node.ts';
import type { ClusterWorld } from './cluster-world.ts';
import { eventually } from './support.ts';

/** Containers of these tests, one on each of two nodes. */
const NAMES = ['cmd1', 'cmd2'] as const;

async function health(node: LabNode, ...args: string[]): Promise<HealthStatus> {
  return JSON.parse(await node.exec(['cilium-health', 'status', ...args, '-o', 'json'])) as HealthStatus;
}

/** Every address of each node, with whether it answered to ICMP and to HTTP when it was last asked. */
function answers(status: HealthStatus, name: string): Record<string, [icmp: boolean, http: boolean]> {
  const node = status.nodes.find((candidate) => candidate.name === name);
  assert.ok(node, name);
  const paths = [node.host, node['health-endpoint']].flatMap((part) => [
    ...(part['primary-address'] ? [part['primary-address']] : []),
    ...part['secondary-addresses'],
  ]);
  return Object.fromEntries(paths.map(({ ip, icmp, http }) => [ip, [icmp?.status === '', http?.status === '']]));
}

export function testCommands(world: ClusterWorld): void {
  const { lab } = world;

  test('privileged: commands show and change the same on every node', async (t) => {
    for (const [i, name] of NAMES.entries()) await world.run(i + 1, name, name);
    t.after(async () => {
      for (const name of NAMES) await world.remove(name);
    });

    await t.test('every node lists all nodes, itself as local, with the same addresses and ranges', async () => {
      const lists = await Promise.all(lab.nodes.map((node) => node.cilium(['node', 'list'])));
      const withoutSource = lists.map((list) => list.replace(/ +(local|kvstore)$/gm, ''));
      for (const [i, list] of lists.entries()) {
        assert.equal(withoutSource[i], withoutSource[0]);
        assert.equal([...list.matchAll(/ kvstore$/gm)].length, lab.nodes.length - 1);
        const { name, addresses } = lab.nodes[i]!;
        assert.match(list, new RegExp(`^${name} +${addresses.ipv4} .* ${addresses.ipv6} .* local$`, 'm'));
      }
    });

    await t.test('addresses, identities and names of a container are known on another node', async () => {
      const [first] = lab.nodes;
      const { ipv4, ipv6, node } = world.get('cmd2');
      const identity = await world.get('cmd2').identity();
      const metadata = { name: 'cmd2', source: 'kvstore' };
      const expected = world.get('cmd2').prefixes.map((cidr) => {
        return { cidr, encryptKey: 0, hostIP: node.addresses.ipv4, identity, metadata };
      });
      await eventually(async () => {
        const found = await first!.cilium(['ip', 'get', '-l', 'container:id=cmd2', '-o', 'json']);
        assert.deepEqual(JSON.parse(found), expected);
      });
      const list = await first!.cilium(['ip', 'list']);
      for (const address of [ipv4, ipv6])
        assert.match(list, new RegExp(`^${address}/\\d+ +container:id=cmd2 +kvstore$`, 'm'));
      assert.match(await first!.cilium(['identity', 'get', String(identity)]), /^\d+ +container:id=cmd2$/m);
      const mine = await first!.cilium(['identity', 'list', '--endpoints']);
      assert.match(mine, /container:id=cmd1 +1/);
      assert.doesNotMatch(mine, /container:id=cmd2/);
    });

    await t.test('keys are the same through any agent and straight from etcd', async () => {
      const [first, second] = lab.nodes;
      const { ipv4 } = world.get('cmd1');
      const prefix = 'cilium/state/ip/v1/default/';
      const direct = ['--kvstore', 'etcd', '--kvstore-opt', `etcd.address=${etcdUrls(1).ipv4}`];
      const get = (node: LabNode, ...args: string[]) => node.cilium(['kvstore', 'get', ...args]);
      const shown = await get(first!, '--recursive', prefix);
      assert.match(
        shown,
        new RegExp(`^${prefix}${ipv4} => {"IP":"${ipv4}",.*"HostIP":"${first!.addresses.ipv4}"`, 'm'),
      );
      assert.equal(await get(second!, '--recursive', prefix), shown);
      assert.equal(await get(second!, '--recursive', prefix, ...direct), shown);
      await first!.cilium(['kvstore', 'set', '--key', 'app/greeting', '--value', 'hello']);
      assert.equal(await get(second!, 'app/greeting'), 'app/greeting => hello');
      await second!.cilium(['kvstore', 'delete', '--recursive', 'app/', ...direct]);
      const missing = await first!.run(['cilium', 'kvstore', 'get', 'app/greeting']);
      assert.deepEqual([missing.status, missing.stderr], [1, 'Error: key app/greeting is not found\n']);
      for (const how of [[], direct]) {
        const refused = await first!.run(['cilium', 'kvstore', 'delete', '--recursive', 'cilium/', ...how]);
        assert.equal(refused.status, 1);
        assert.match(refused.stderr, /belong to the agents/);
      }
      assert.equal(await get(first!, '--recursive', prefix), shown, 'nothing is lost');
    });

    await t.test('nodes answer at all their addresses; one that is cut off does not, until it is back', async () => {
      const [first] = lab.nodes;
      const last = lab.nodes.at(-1)!;
      const all = await eventually(async () => {
        const status = await health(first!, '--probe');
        for (const { name } of lab.nodes) {
          const results = Object.entries(answers(status, name));
          assert.equal(results.length, 4, `${name}: host and router in both families`);
          for (const [ip, result] of results) assert.deepEqual(result, [true, true], `${name} at ${ip}`);
        }
        return status;
      });
      assert.equal(all.local.name, first!.name);
      await lab.cut(last.name);
      try {
        const status = await health(first!, '--probe');
        assert.deepEqual(new Set(Object.values(answers(status, last.name)).flat()), new Set([false]));
        assert.deepEqual(new Set(Object.values(answers(status, first!.name)).flat()), new Set([true]));
        const summary = await first!.cilium(['status']);
        const [n, m] = [lab.nodes.length - 1, lab.nodes.length];
        assert.match(
          summary,
          new RegExp(`^Cluster health: +${n}/${m} reachable .*\\n  Name .*\\n  ${last.name} .* 0/2 +0/2$`, 'm'),
        );
      } finally {
        await lab.heal(last.name);
      }
      await eventually(async () => {
        const results = answers(await health(first!, '--probe'), last.name);
        assert.deepEqual(new Set(Object.values(results).flat()), new Set([true]));
      });
    });
  });
}
