// SPDX-License-Identifier: Apache-2.0

/** Any sequence of requests, releases, restarts and starts of Docker, against a model that is a plain set. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { Ipam, LOCAL_SPACE } from './ipam.ts';
import { ADDRESS_COOLDOWN_MS } from './pool.ts';

interface World {
  readonly stateDir: string;
  readonly clock: ManualClock;
  ipam: Ipam;
  /** Addresses in use by pool ID. */
  readonly pools: Map<string, Set<string>>;
}

async function start(stateDir: string, clock: ManualClock): Promise<Ipam> {
  const ipam = new Ipam({
    stateDir,
    ipv4Range: Prefix.parse('10.15.0.0/27'),
    ipv6Range: Prefix.parse('fd15::/112'),
    nodeRanges: () => [],
    clock,
    log: silentLogger,
  });
  await ipam.start();
  return ipam;
}

/** The result, or the code of the error. */
function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof CiliumError) return error.code;
    throw error;
  }
}

function nth<T>(values: Iterable<T>, index: number): T | undefined {
  const all = [...values];
  return all[index % Math.max(1, all.length)];
}

const SUBNETS = [
  undefined,
  '10.15.0.0/28',
  '10.15.0.16/29',
  '10.15.0.0/29',
  '10.0.0.0/8',
  '10.99.0.0/29',
  'fd15::/125',
];

type Step = (world: World) => Promise<void> | void;

const requestPool = fc.constantFrom(...SUBNETS).map((subnet): Step => (world) => {
  const prefix = subnet === undefined ? undefined : Prefix.parse(subnet);
  const pool = attempt(() => world.ipam.requestPool({ space: LOCAL_SPACE, family: prefix?.family ?? 4, prefix }));
  if (typeof pool === 'string') return;
  for (const other of world.ipam.pools()) {
    assert.ok(other === pool || !other.prefix.overlaps(pool.prefix), `${other.id} overlaps ${pool.id}`);
  }
  // A restarted Docker may ask for a pool again, which keeps its leases.
  if (!world.pools.has(pool.id)) world.pools.set(pool.id, new Set());
});

const requestAddress = fc.nat().map((which): Step => (world) => {
  const entry = nth(world.pools, which);
  if (!entry) return;
  const [id, used] = entry;
  const given = attempt(() => world.ipam.requestAddress(id, {}));
  if (given === 'PoolExhausted') {
    assert.equal(used.size, world.ipam.get(id)?.capacity, `${id} is not full`);
    return;
  }
  assert.ok(given instanceof IpAddress);
  assert.ok(!used.has(given.toString()), `${given.toString()} given twice`);
  assert.ok(world.ipam.get(id)?.isUsable(given));
  used.add(given.toString());
});

const requestExact = fc.tuple(fc.nat(), fc.nat(9)).map(([which, offset]): Step => (world) => {
  const entry = nth(world.pools, which);
  if (!entry) return;
  const [id, used] = entry;
  const pool = world.ipam.get(id)!;
  const wanted = pool.prefix.first.add(BigInt(offset));
  const replay = pool.get(wanted)?.replayable === true;
  const given = attempt(() => world.ipam.requestAddress(id, { address: wanted }));
  const expected = !pool.isUsable(wanted)
    ? 'InvalidArgument'
    : used.has(wanted.toString()) && !replay
      ? 'InUse'
      : wanted;
  assert.equal(given.toString(), expected.toString());
  if (given instanceof IpAddress) used.add(given.toString());
});

const releaseAddress = fc.tuple(fc.nat(), fc.nat()).map(([which, index]): Step => (world) => {
  const entry = nth(world.pools, which);
  const address = entry && nth(entry[1], index);
  if (address === undefined) return;
  entry![1].delete(address);
  world.ipam.releaseAddress(entry![0], IpAddress.parse(address));
});

const releasePool = fc.nat().map((which): Step => (world) => {
  const id = nth(world.pools.keys(), which);
  if (id === undefined) return;
  world.pools.delete(id);
  world.ipam.releasePool(id);
});

const others = fc.constantFrom<Step>(
  async (world) => {
    await world.ipam.stop();
    world.ipam = await start(world.stateDir, world.clock);
  },
  (world) => world.ipam.dockerStarted(),
  async (world) => world.clock.advance(ADDRESS_COOLDOWN_MS),
);

const step = fc.oneof(
  { weight: 2, arbitrary: requestPool },
  { weight: 8, arbitrary: requestAddress },
  { weight: 3, arbitrary: requestExact },
  { weight: 5, arbitrary: releaseAddress },
  { weight: 1, arbitrary: releasePool },
  { weight: 1, arbitrary: others },
);

test('no address is given twice, none is lost, and pools never overlap', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const stateDir = mkdtempSync(join(tmpdir(), 'drv-'));
      const clock = new ManualClock();
      const world: World = { stateDir, clock, ipam: await start(stateDir, clock), pools: new Map() };
      try {
        for (const act of steps) {
          await act(world);
          const leases = [...world.ipam.pools()].map((pool) => [pool.id, [...pool.leases()].map(String).length]);
          assert.deepEqual(
            leases,
            [...world.pools].map(([id, used]) => [id, used.size]),
          );
        }
      } finally {
        await world.ipam.stop();
        rmSync(stateDir, { recursive: true });
      }
    }),
    { numRuns: 200 },
  );
});
