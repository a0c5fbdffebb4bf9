// SPDX-License-Identifier: Apache-2.0

/** What becomes of a cluster when its nodes lose each other, or one of them for good. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { containerRanges } from '../../lab/addresses.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { assertClosed, assertOpen, between, KINDS, NODES } from './cluster-cases.ts';
import { FAULT_RULES, type FaultWorld } from './cluster-faults.ts';
import type { Pair } from './cluster-watch.ts';
import type { ClusterWorld, Member } from './cluster-world.ts';
import { eventually } from './support.ts';

/** Long enough for TCP to send again a few times, short enough for it not to give up. */
const PARTITION_MS = 4_000;
const MEMBERS = [...KINDS, 'banned'] as const;
const SETTLE_LIMIT_MS = 30_000;
/** A lease that runs out, and the time that others then still wait for the node. */
const GONE_LIMIT_MS = 120_000;

export function testPartitions(world: ClusterWorld, faults: FaultWorld): void {
  const { lab } = world;
  const servers = (nodes: readonly number[] = NODES): Member[] => nodes.map((number) => world.get(`server${number}`));

  test('privileged: who may reach whom in the tests of partitions', async () => {
    await Promise.all(NODES.map((number) => world.run(number, `banned${number}`, 'client', '-l', 'banned=yes')));
    await world.importPolicy(FAULT_RULES);
  });

  const apart = (): Pair[] => faults.allowed('1 2', '2 1');
  const together = (): Pair[] => faults.allowed('3 1', '3 2', '3 3');
  faults.fault(
    'two nodes are apart for a while: only what is between them waits',
    () => ({ allowed: [...apart(), ...together()], forbidden: faults.forbidden('1 2', '2 3', '3 1') }),
    async () => {
      await lab.cut('node1', 'node2');
      const late = await world.run(2, 'late2', 'client');
      await assertOpen(between([late], servers([2, 3])));
      await assertClosed(between([late], servers([1])));
      await delay(PARTITION_MS);
      await lab.heal();
      await assertOpen(between([late], servers()));
      await world.remove('late2');
    },
    (watch) => {
      watch.assertWhole(together());
      watch.assertApart(apart());
      watch.assertStreamsSurvived(apart());
    },
  );

  faults.fault(
    'a node does not reach etcd, which forgets its past meanwhile',
    () => ({ allowed: faults.allowed('1 2', '2 1', '2 3', '3 2'), forbidden: faults.forbidden('1 2', '2 1', '2 3') }),
    async () => {
      const gone = await world.run(1, 'gone1', 'client');
      await eventually(() => world.assertKnown(gone, [2, 3]));
      await lab.cut('node2', 'etcd');
      await world.remove('gone1');
      const late = [await world.run(1, 'late1', 'client'), await world.run(2, 'late2', 'client')];
      await assertOpen(between([late[0]!], servers([1, 3])));
      await assertClosed(between([late[0]!], servers([2]))); // node2 has not heard of it
      await compact(world);
      await lab.member(1).kill(); // its connections are gone, too: the watch begins again, from what is no more
      await lab.member(1).start();
      await lab.heal();
      await assertOpen(between(late, servers()));
      await eventually(() => world.assertForgotten(gone, [2, 3]), SETTLE_LIMIT_MS);
      await Promise.all(late.map(({ name }) => world.remove(name)));
    },
  );

  faults.fault(
    'an address changes hands while nobody can be told: not before they are',
    () => ({ allowed: faults.allowed('1 2', '2 1'), forbidden: faults.forbidden('1 2', '2 1') }),
    async () => {
      const second = lab.node(2);
      const part = ['--subnet', '10.99.0.0/24', 'part'];
      await second.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', ...part]);
      const tenant = ['run', '-d', '--name', 'tenant', '--network', 'part', '--ip', '10.99.0.7'];
      const start = async (id: string): Promise<Member> => {
        await second.docker([...tenant, '-l', `id=${id}`, 'web']);
        return world.found(2, 'tenant');
      };
      await assertOpen(between([await start('client')], servers([1])));
      await lab.cut('node2', 'etcd');
      await world.remove('tenant');
      await assert.rejects(start('stranger'), /other nodes still take 10\.99\.0\.7 for another container/);
      await second.docker(['rm', '-f', 'tenant']);
      await lab.heal();
      const stranger = await eventually(async () => {
        await second.docker(['rm', '-f', 'tenant']);
        return start('stranger');
      }, SETTLE_LIMIT_MS);
      await assertClosed(between([stranger], servers([1])));
      await world.remove('tenant');
      await second.docker(['network', 'rm', 'part']);
    },
  );

  faults.fault(
    'a node loses its power: its containers start again, and are known again',
    () => ({ allowed: faults.allowed('1 2', '2 1'), forbidden: faults.forbidden('1 2', '2 1') }),
    async () => {
      const third = lab.node(3);
      const gone = await world.run(3, 'gone3', 'client');
      await eventually(() => world.assertKnown(gone, [1, 2]));
      await third.machine.cgroup.kill();
      await lab.up();
      await third.docker(['rm', 'gone3']);
      for (const kind of MEMBERS) {
        await third.docker(['start', `${kind}3`]);
        await world.found(3, `${kind}3`);
      }
      await assertOpen([
        ...between([world.get('client3')], servers()),
        ...between([world.get('client1')], servers([3])),
      ]);
      await assertClosed([
        ...between([world.get('stranger3'), world.get('banned3')], servers([1, 2])),
        ...between([world.get('stranger1')], servers([3])),
      ]);
      await eventually(() => assertGone(gone), SETTLE_LIMIT_MS);
    },
  );

  faults.fault(
    'a node is gone for good, and another one for longer than its lease',
    () => ({ allowed: faults.allowed('1 1'), forbidden: faults.forbidden('1 1', '1 2', '2 1') }),
    async () => {
      const [first, second, third] = lab.nodes;
      const old = KINDS.flatMap((kind) => [2, 3].map((number) => world.get(`${kind}${number}`)));
      await third!.machine.cgroup.kill();
      await lab.cut('node2');
      for (const folder of ['cilium', 'docker']) {
        rmSync(join(third!.machine.dir, folder), { recursive: true, force: true });
      }
      await new Lab({ name: lab.name, agent: false }).up(); // a new machine with the address of the old one
      await assert.rejects(third!.startAgent(['--node-name=spare']), /overlaps \S+ of node node3 /);

      await eventually(async () => {
        for (const member of old) await world.assertForgotten(member, [1]);
        assert.deepEqual(await routesTo(first!, third!), []);
      }, GONE_LIMIT_MS);
      await third!.startAgent(['--node-name=spare']);
      await world.createNetwork([third!]);
      await world.importPolicy(FAULT_RULES, [third!]);
      const heir = await world.run(3, 'heir3', 'client');
      await assertOpen(between([heir], servers([1])));
      await assertClosed(between([heir, world.get('client1')], servers([2])));

      await lab.heal('node2');
      await assertOpen([...between([heir], servers([1, 2])), ...between([world.get('client2')], servers([1, 2]))]);
      await assertOpen(between([world.get('client1')], servers([2])));
      await assertClosed(between([heir], [world.get('stranger2')]));
      assert.notEqual(second!.agentPid, undefined);
    },
  );

  /** Nobody takes its addresses for what they were; another container may have got one. */
  async function assertGone(gone: Member): Promise<void> {
    const present = MEMBERS.map((kind) => world.get(`${kind}3`)).flatMap(({ prefixes }) => prefixes);
    for (const number of [1, 2]) {
      const known = await world.ipcacheOf(number);
      for (const prefix of gone.prefixes) assert.ok(present.includes(prefix) || !known.has(prefix), prefix);
    }
  }

  test('privileged: no second node of a name, or with a range of another', async () => {
    const third = lab.node(3);
    await third.stopAgent();
    const range = `--ipv4-range=${containerRanges(1).ipv4}`;
    await assert.rejects(third.startAgent(['--node-name=node1']), /the node name node1 is in use by /);
    await assert.rejects(third.startAgent([range]), /overlaps \S+ of node node1 /);
  });
}

/** Etcd forgets all that has been, but for what is there now. */
async function compact({ lab }: ClusterWorld): Promise<void> {
  const { header } = JSON.parse(await lab.member(1).etcdctl('get', 'x', '-w', 'json')) as {
    header: { revision: number };
  };
  await lab.member(1).etcdctl('compact', '--physical', String(header.revision));
}

/** How `node` reaches containers of `other`. */
async function routesTo(node: LabNode, other: LabNode): Promise<string[]> {
  const { ipv4, ipv6 } = containerRanges(other.number);
  const found = await Promise.all([
    node.exec(['ip', '-4', 'route', 'show', 'root', ipv4]),
    node.exec(['ip', '-6', 'route', 'show', 'root', ipv6]),
  ]);
  return found.map((text) => text.trim()).filter((text) => text !== '');
}
