// SPDX-License-Identifier: Apache-2.0

/** Addresses shared through a real etcd: many at once, a lease that ends, history that is gone, data that is lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock, type Clock } from '../../runtime/clock.ts';
import { EtcdWorld } from '../../tests/support/etcd-world.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { Claims, Identities, SharedNode } from './fake/shared-node.ts';

const [HOST1, HOST2] = ['192.168.60.11', '192.168.60.12'];
const IDENTITY = 300;
const COUNT = 1_000;

/** However slow the machine is, nothing that lingers is over before `letGo`. */
class PatientClock implements Clock {
  #isPatient = true;

  now(): number {
    return systemClock.now();
  }

  monotonic(): number {
    return this.#isPatient ? 0 : systemClock.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  letGo(): void {
    this.#isPatient = false;
  }
}

function address(n: number): string {
  return `10.11.${n >> 8}.${n & 255}`;
}

test('whatever etcd loses is written again, and nobody has to do without it meanwhile', async () => {
  await using world = await EtcdWorld.open();
  const [claims, identities] = [new Claims(), new Identities()];
  claims.set(HOST1, '10.11.0.0/16');
  identities.learn(IDENTITY);
  const [first, second] = [await world.connect(), await world.connect()];
  const clock = new PatientClock();
  const node1 = new SharedNode({ host: HOST1, store: first, claims, identities, clock });
  const node2 = new SharedNode({ host: HOST2, store: second, claims, identities, clock });
  await node1.start();
  await node2.start();
  try {
    for (let n = 0; n < COUNT; n++) node1.publish(address(n), IDENTITY);
    const known = async (): Promise<void> => {
      await eventually('all are in etcd', async () => (await world.server.dump()).size === COUNT);
      await eventually('all are known', () => node2.remote.size === COUNT && node1.shared.pending === 0);
    };
    await known();
    assert.ok(node1.store.transactions.length < COUNT / 100, `${node1.store.transactions.length} transactions`);

    const gone: string[] = [];
    node2.ipcache.onChange(({ prefix, entry }) => {
      if (entry === undefined) gone.push(prefix.toString());
    });
    for (const lease of await world.server.leases()) await world.server.etcdctl('lease', 'revoke', lease);
    await known();
    await world.server.compact();
    await known();
    await world.server.startEmpty();
    await known();
    assert.deepEqual(gone, []);

    clock.letGo();
    for (let n = 0; n < COUNT; n += 2) node1.withdraw(address(n));
    await eventually('half of them leave', () => node2.ipcache.size === COUNT / 2);
    assert.equal((await world.server.dump()).size, COUNT / 2);
  } finally {
    await node1.stop();
    await node2.stop();
  }
});
