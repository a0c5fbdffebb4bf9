// SPDX-License-Identifier: Apache-2.0

/**
 * Random histories of rules, endpoints, shortages and restarts: whatever happens, an identity's endpoints are judged by a
 * complete policy of its own, the newest one as soon as it can be had, and no slot is lost or given back too early.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SharingWorld } from './fake/sharing-world.ts';

const IDENTITIES = [1001, 1002, 1003, 1004];
/** Two of the larger rules do not fit together. */
const MAX_ENTRIES = 100;
const RUNS = 400;

interface Step {
  readonly do: 'join' | 'leave' | 'allow' | 'delete' | 'shortage' | 'tight' | 'plenty' | 'unmovable' | 'restart';
  readonly identity: number;
  readonly all: boolean;
  readonly ports: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom(
    ...(['join', 'leave', 'allow', 'allow', 'delete', 'shortage', 'tight', 'plenty', 'unmovable', 'restart'] as const),
  ),
  identity: fc.constantFrom(...IDENTITIES),
  all: fc.boolean(),
  ports: fc.constantFrom(1, 3, 70),
});

/** What each identity with endpoints may be judged by: the policies that it has had, the last first. */
class Model {
  readonly endpoints = new Map<number, number>();
  readonly history = new Map<number, string[]>();
  readonly rules: [number | 'all', number[]][] = [];
}

function run(steps: readonly Step[]): void {
  let world = new SharingWorld();
  const model = new Model();
  world.slots.moreCome = true;
  world.slots.maxEntries = MAX_ENTRIES;
  const note = (identity: number): void => {
    const policy = JSON.stringify(world.wantedPortsOf(identity));
    const history = model.history.get(identity) ?? [];
    model.history.set(identity, history[0] === policy ? history : [policy, ...history]);
  };
  for (const { do: what, identity, all, ports } of steps) {
    const subject = all ? 'all' : identity;
    switch (what) {
      case 'join':
        join(world, model, identity);
        break;
      case 'leave': {
        const users = model.endpoints.get(identity);
        if (users === undefined) break;
        if (users === 1) {
          model.endpoints.delete(identity);
          model.history.delete(identity);
          world.leave(identity);
        } else {
          model.endpoints.set(identity, users - 1);
          world.realizer.release(identity);
        }
        break;
      }
      case 'allow': {
        const numbers = world.ports(ports);
        model.rules.push([subject, numbers]);
        world.allow(subject, ...numbers);
        break;
      }
      case 'delete':
        model.rules.splice(0, Infinity, ...model.rules.filter(([of]) => of !== subject));
        world.deleteRules(subject);
        break;
      case 'shortage':
        world.slots.spares = 0;
        break;
      case 'tight':
        world.slots.capacity = 50;
        break;
      case 'plenty':
        plenty(world);
        break;
      case 'unmovable':
        world.movesToFail = 1;
        break;
      case 'restart':
        world = restart(world, model);
        break;
    }
    for (const joined of model.endpoints.keys()) note(joined);
    checkInvariants(world, model);
  }
  plenty(world);
  for (const subject of ['all', ...IDENTITIES] as const) world.deleteRules(subject);
  world.assertInForce();
  const named = new Set(world.records.values());
  const held = [...world.slots.contents.keys()].filter((slot) => !world.slots.released.includes(slot));
  assert.deepEqual(new Set(held), named, 'slots held are those that records name');
}

function plenty(world: SharingWorld): void {
  world.slots.spares = 1000;
  world.slots.capacity = 1000;
  world.movesToFail = 0;
  world.realizer.sync();
}

function join(world: SharingWorld, model: Model, identity: number): void {
  try {
    world.join(identity);
    model.endpoints.set(identity, (model.endpoints.get(identity) ?? 0) + 1);
  } catch (error) {
    assert.match(String(error), /map entries|no spare policy slot|no room/);
    assert.ok(!model.endpoints.has(identity), 'one that is there already needs nothing new');
  }
}

/** Rules and identities come back in their order; endpoints are adopted one by one. */
function restart(old: SharingWorld, model: Model): SharingWorld {
  const world = old.restart();
  world.know(...model.endpoints.keys());
  for (const [subject, ports] of model.rules) world.allow(subject, ...ports);
  const found = [...old.records].map(([identity, slot]) => ({ identity, slot }));
  world.realizer.expect(found);
  for (const { identity, slot } of found) {
    world.records.set(identity, slot);
    world.adopt(identity, slot);
    for (let users = model.endpoints.get(identity)!; users > 1; users--) world.realizer.acquire(identity);
  }
  world.realizer.adopted();
  world.retain();
  return world;
}

function checkInvariants(world: SharingWorld, model: Model): void {
  assert.deepEqual(new Set(world.records.keys()), new Set(model.endpoints.keys()));
  for (const [identity, slot] of world.records) {
    assert.ok(!world.slots.released.includes(slot), `slot ${slot} was given back, and ${identity} names it`);
    const { slot: realized, revision, error } = world.realizer.get(identity)!;
    assert.equal(realized, slot);
    const history = model.history.get(identity)!;
    const judgedBy = JSON.stringify(world.enforcedPortsOf(identity));
    assert.ok(history.includes(judgedBy), `${identity} is judged by ${judgedBy}, which was never its policy`);
    if (error === undefined && revision === world.repository.revision) assert.equal(judgedBy, history[0]);
    const fits = world.wantedOf(identity).length <= MAX_ENTRIES;
    if (world.hasPlenty && fits) assert.equal(judgedBy, history[0], `${identity} is not judged by its newest policy`);
  }
}

test('whatever happens, everybody is judged by a complete policy of its own, and in the end by the newest', () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), run), { numRuns: RUNS });
});
