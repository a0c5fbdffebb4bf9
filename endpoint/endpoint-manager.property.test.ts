// SPDX-License-Identifier: Apache-2.0

/** Calls of Docker and of people in any order, with failures and deaths of the agent in between. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { IpAddress } from '../net/ip.ts';
import { silentLogger } from '../runtime/logger.ts';
import type { EndpointManager } from './endpoint-manager.ts';
import { request, World } from './fake/world.ts';
import { EndpointStore } from './store.ts';

const HISTORIES = 60;
const STEPS = 25;
const ENDPOINTS = 4;

/** Numbers below a bound, the same for the same seed. */
function randomFrom(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

/** Store and records fail when told so. */
class Weather {
  failing = false;

  readonly check = (): void => {
    if (this.failing) throw new Error('bad weather');
  };
}

function managerOf(world: World, weather: Weather): EndpointManager {
  const store = new EndpointStore(world.stateDir, silentLogger);
  const records = world.recordMap();
  const save = store.save.bind(store);
  store.save = async (endpoint) => {
    weather.check();
    await save(endpoint);
  };
  let writes = 0;
  const update: typeof records.update = (address, record) => {
    if (writes++ % 2 === 1) weather.check(); // the second address of an endpoint
    records.update(address, record);
  };
  return world.manager({ store, records: { ...records, update } });
}

/** Whoever has a record has a slot that is in use for nobody else's identity, and each identity is held as often as used. */
function checkWorld(world: World, manager: EndpointManager, seed: number): void {
  const owners = new Map<number, number>();
  const users = new Map<string, number>();
  for (const endpoint of manager.list()) {
    const records = endpoint.addresses.map((address) => world.records.get(address.toString()));
    if (endpoint.policySlot === 0) {
      assert.ok(
        records.every((record) => record === undefined),
        `seed ${seed}: a closed endpoint has a record`,
      );
      continue;
    }
    const { identity, labels } = endpoint.identity!;
    users.set(labels, (users.get(labels) ?? 0) + 1);
    assert.ok(world.slots.has(endpoint.policySlot), `seed ${seed}: slot ${endpoint.policySlot} was given back`);
    assert.equal(owners.get(endpoint.policySlot) ?? identity, identity, `seed ${seed}: two identities share a slot`);
    owners.set(endpoint.policySlot, identity);
    for (const record of records) {
      assert.deepEqual([record?.identity, record?.policySlot], [identity, endpoint.policySlot], `seed ${seed}`);
    }
  }
  const addresses = manager.list().reduce((sum, { policySlot }) => sum + (policySlot === 0 ? 0 : 2), 0);
  assert.equal(world.records.size, addresses, `seed ${seed}: records of nobody`);
  for (const [labels, count] of world.identityUsers)
    assert.equal(count, users.get(labels) ?? 0, `seed ${seed}: ${labels}`);
}

async function runHistory(seed: number): Promise<void> {
  const random = randomFrom(seed);
  const world = new World();
  const weather = new Weather();
  let manager = managerOf(world, weather);
  for (let step = 0; step < STEPS; step++) {
    const number = random(ENDPOINTS) + 2;
    const id = String(number).repeat(64);
    const [ipv4, ipv6] = [IpAddress.parse(`10.15.0.${number}`), IpAddress.parse(`fd15::${number}`)];
    world.runContainer(id, `app${number % 2}`);
    weather.failing = random(5) === 0;
    const calls = [
      () => manager.create(request({ dockerEndpointId: id, ipv4, ipv6 })),
      () => manager.join(id),
      () => manager.join(id),
      () => manager.delete(id),
      async () => {
        const endpoint = manager.getByDockerId(id);
        const added = random(2) === 0 ? [] : ['container:tier=web'];
        if (endpoint) await manager.changeLabels(endpoint.id, { added, disabled: [] });
      },
    ];
    const some = Array.from({ length: 1 + random(3) }, () => calls[random(calls.length)]!());
    await Promise.allSettled(some);
    weather.failing = false;
    if (random(6) === 0) {
      for (const [name] of [...world.links]) if (random(4) === 0) world.links.delete(name);
      world.identityUsers.clear();
      manager = managerOf(world, weather);
      await manager.restore();
      const used = new Set(manager.list().map(({ policySlot }) => policySlot));
      for (const slot of [...world.slots.keys()]) if (!used.has(slot)) world.slots.delete(slot); // as the agent does
    }
    checkWorld(world, manager, seed);
  }
  rmSync(world.stateDir, { recursive: true });
}

test('whatever happens in whatever order, no endpoint has the policy of another', async () => {
  for (let seed = 1; seed <= HISTORIES; seed++) await runHistory(seed);
});
