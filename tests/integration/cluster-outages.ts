// SPDX-License-Identifier: Apache-2.0

/** What becomes of a cluster when its etcd is in trouble, or agents die or lose the time while they work with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ClockShift } from '../support/clock-shift.ts';
import { assertClosed, assertOpen, between, NODES } from './cluster-cases.ts';
import { FAULT_RULES, type FaultWorld } from './cluster-faults.ts';
import type { ClusterWorld, Member } from './cluster-world.ts';
import { eventually } from './support.ts';

const OUTAGE_MS = 60_000;
const DAY_MS = 86_400_000;
/** Far more than a container's start takes when its agent is killed, or etcd is away for a while. */
const START_LIMIT_MS = 120_000;
const SETTLE_LIMIT_MS = 30_000;

export function testOutages(world: ClusterWorld, faults: FaultWorld): void {
  const { lab } = world;
  const servers = (): Member[] => NODES.map((number) => world.get(`server${number}`));
  const everyWay = () => ({
    allowed: faults.allowed('1 2', '2 3', '3 1', '2 2'),
    forbidden: faults.forbidden('1 2', '2 3', '3 1'),
  });

  test('privileged: who may reach whom in the tests of outages', async () => {
    await Promise.all(NODES.map((number) => world.run(number, `banned${number}`, 'client', '-l', 'banned=yes')));
    await world.importPolicy(FAULT_RULES);
  });

  faults.fault('etcd is away for a minute: nothing stops, what changed is told afterwards', everyWay, async () => {
    const gone = await world.run(2, 'gone2', 'client');
    await eventually(() => world.assertKnown(gone, [1, 3]));
    const outage = delay(OUTAGE_MS);
    for (const member of lab.etcd) member.hang();
    const late = await world.run(2, 'late2', 'client');
    await assertOpen(between([late], [world.get('server2')]));
    await world.remove('gone2');
    await lab.node(3).killAgent();
    await lab.node(3).startAgent();
    await assertOpen(between([world.get('client3')], servers()));
    await Promise.all(lab.etcd.map((member) => member.kill()));
    const fresh = runUntilItStarts(world, 2, 'fresh2', 'fresh'); // labels that no node has seen: has to wait
    await lab.node(1).killAgent();
    await lab.node(1).startAgent();
    await assertOpen(between([world.get('client1')], servers()));
    await assertClosed(between([world.get('stranger1'), world.get('banned3')], servers()));
    await outage;
    assert.deepEqual(world.names().includes('fresh2'), false, 'an identity is made without etcd');
    await Promise.all(lab.etcd.map((member) => member.start()));
    await assertOpen(between([late], servers()));
    await assertClosed(between([await fresh], servers()));
    await eventually(() => world.assertForgotten(gone, [1, 3]), SETTLE_LIMIT_MS);
    await Promise.all(['late2', 'fresh2'].map((name) => world.remove(name)));
  });

  faults.fault('one member of etcd of three is lost, with its disk, and comes back empty', everyWay, async () => {
    const [first, second] = lab.etcd;
    await first!.wipe();
    const labels = ['client', 'fresh'] as const;
    const members = await Promise.all(labels.map((id, index) => world.run(index + 2, `without-${id}`, id)));
    await assertOpen(between([members[0]!], servers()));
    await first!.rejoin(second!);
    await second!.kill();
    await world.remove('without-client');
    await eventually(() => world.assertForgotten(members[0]!, [1, 3]), SETTLE_LIMIT_MS);
    await second!.start();
    await world.remove('without-fresh');
  });

  faults.fault('agents are killed on either side while both take new identities', everyWay, async () => {
    const ids = ['race1', 'race2', 'race3'];
    const starts = ids.map((id) => {
      return Promise.all([1, 2].map((number) => runUntilItStarts(world, number, `${id}-on${number}`, id)));
    });
    for (const number of [1, 2]) {
      await delay(100);
      await lab.node(number).killAgent();
      await lab.node(number).startAgent();
    }
    for (const [one, other] of await Promise.all(starts)) {
      assert.equal(await one!.identity(), await other!.identity(), one!.name);
      await assertClosed(between([one!, other!], servers()));
      await Promise.all([one!, other!].map(({ name }) => world.remove(name)));
    }
  });

  faults.fault("an agent's clock jumps a day ahead and back behind", everyWay, async () => {
    const node = lab.node(2);
    const clock = new ClockShift(node.machine.dir);
    await node.stopAgent();
    await node.startAgent([], clock.environment());
    for (const shift of [DAY_MS, -DAY_MS, 0]) {
      clock.set(shift);
      const jumped = await world.run(2, 'jumped', `jump${shift}`);
      await assertOpen(between([world.get('client1')], servers()));
      await assertClosed(between([jumped], servers()));
      await world.remove('jumped');
    }
    await node.stopAgent();
    await node.startAgent();
  });

  faults.fault('etcd loses everything: all is written again, with the same numbers', everyWay, async () => {
    const before = await identities(world);
    await Promise.all(lab.etcd.map((member) => member.wipe()));
    await Promise.all(lab.etcd.map((member) => member.start()));
    const late = await world.run(3, 'late3', 'client');
    await assertOpen(between([late], servers()));
    assert.deepEqual(await identities(world), before);
    const keys = await lab.member(1).etcdctl('get', 'cilium/state/', '--prefix', '--keys-only');
    for (const server of servers()) for (const address of [server.ipv4, server.ipv6]) assert.ok(keys.includes(address));
    await world.remove('late3');
  });
}

/** Starts a container, again and again while the agent that is asked dies. */
async function runUntilItStarts(world: ClusterWorld, number: number, name: string, id: string): Promise<Member> {
  return eventually(async () => {
    try {
      return await world.run(number, name, id);
    } catch (error) {
      await world.lab.node(number).docker(['rm', '-f', name]);
      throw error;
    }
  }, START_LIMIT_MS);
}

async function identities(world: ClusterWorld): Promise<Record<string, number>> {
  const names = NODES.flatMap((number) => [`server${number}`, `client${number}`, `stranger${number}`]);
  const found = await Promise.all(names.map(async (name) => [name, await world.get(name).identity()] as const));
  return Object.fromEntries(found);
}
