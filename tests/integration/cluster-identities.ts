// SPDX-License-Identifier: Apache-2.0

/** What becomes of an identity whose number others take while its node is cut off from etcd. */
import assert from 'node:assert/strict';
import { assertOpen, between, NODES } from './cluster-cases.ts';
import type { FaultWorld } from './cluster-faults.ts';
import type { ClusterWorld } from './cluster-world.ts';
import { eventually } from './support.ts';

const LABELS = 'container:id=client;container:own=yes;';
/** May not reach anybody. */
const THIEF = 'container:id=stranger;container:own=yes;';
const PATH = 'cilium/state/identities/v1';
const SETTLE_LIMIT_MS = 30_000;

export function testTakenIdentities(world: ClusterWorld, faults: FaultWorld): void {
  const { lab } = world;
  const pairs = () => ({ allowed: faults.allowed('2 3', '3 2'), forbidden: faults.forbidden('1 2', '2 3', '3 1') });

  faults.fault('a number that is taken while its node is cut off is given up for another', pairs, async () => {
    const servers = NODES.map((number) => world.get(`server${number}`));
    const own = await world.run(1, 'own1', 'client', '-l', 'own=yes');
    await assertOpen(between([own], servers));
    const number = await own.identity();
    const etcdctl = (...args: string[]): Promise<string> => lab.member(1).etcdctl(...args);

    await lab.cut('node1', ...lab.etcd.map(({ name }) => name));
    // As after 15 minutes without the node, and half an hour more.
    const found = await etcdctl('get', `${PATH}/value/${LABELS}/`, '--prefix', '-w', 'json');
    const lease = /"lease":(\d+)/.exec(found)?.[1];
    assert.ok(lease !== undefined, found);
    await etcdctl('lease', 'revoke', BigInt(lease).toString(16));
    await etcdctl('put', `${PATH}/id/${number}`, THIEF);
    await lab.heal();

    const other = await eventually(async () => {
      const now = await own.identity();
      assert.notEqual(now, number);
      return now;
    }, SETTLE_LIMIT_MS);
    await assertOpen(between([own], servers));
    const labelsOf = async (id: number): Promise<string> => etcdctl('get', `${PATH}/id/${id}`, '--print-value-only');
    assert.deepEqual([await labelsOf(number), await labelsOf(other)], [THIEF, LABELS]);
    await world.remove('own1');
    await etcdctl('del', `${PATH}/id/${number}`);
  });
}
