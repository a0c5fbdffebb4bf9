// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { IpAddress } from '../../net/ip.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import type { LogFields, Logger } from '../../runtime/logger.ts';
import { silentLogger } from '../../runtime/logger.ts';
import type { ClusterNode } from '../node.ts';
import type { NodeEvent } from '../node-registry.ts';
import { HealthProber, PROBE_TIMEOUT_MS, type Probe } from './prober.ts';
import { answers } from './report.ts';

function clusterNode(number: number, host = `192.168.60.${number % 256}`): ClusterNode {
  return {
    name: `node${number}`,
    cluster: 'default',
    addresses: [
      { type: 'InternalIP', ip: IpAddress.parse(host) },
      { type: 'CiliumInternalIP', ip: IpAddress.parse(`10.${number % 256}.255.254`) },
    ],
    ipv4AllocCidr: undefined,
    ipv6AllocCidr: undefined,
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

class World {
  readonly clock = new ManualClock();
  readonly nodes: ClusterNode[];
  /** Addresses that do not answer. */
  readonly silent = new Set<string>();
  readonly asked: string[] = [];
  readonly logged: string[] = [];
  /** Never answers and never gives up while set. */
  hangs = false;
  readonly prober: HealthProber;
  readonly #listeners = new Set<(event: NodeEvent) => void>();

  constructor(count: number) {
    this.nodes = Array.from({ length: count }, (_, i) => clusterNode(i + 1));
    const say = (message: string, fields?: LogFields) =>
      void this.logged.push(`${message} ${String(fields?.['node'])}`);
    const log: Logger = { ...silentLogger, info: say, warn: say };
    this.prober = new HealthProber({
      nodes: {
        list: () => this.nodes,
        onChange: (listener) => {
          this.#listeners.add(listener);
          return () => this.#listeners.delete(listener);
        },
      },
      icmp: this.#probe('icmp', 1.5),
      http: this.#probe('http', 2.5),
      log,
      clock: this.clock,
      random: () => 0.5,
    });
  }

  tell(event: NodeEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** Names of nodes that were asked since the last call. */
  takeAsked(): string[] {
    return [...new Set(this.asked.splice(0).map((text) => text.split(' ')[1]!))].sort();
  }

  #probe(kind: string, latencyMs: number): Probe {
    return async (address, timeoutMs, signal) => {
      assert.equal(timeoutMs, PROBE_TIMEOUT_MS);
      const owner = this.nodes.find(({ addresses }) => addresses.some(({ ip }) => ip.equals(address)));
      this.asked.push(`${kind} ${owner?.name ?? 'nobody'} ${address.toString()}`);
      if (this.hangs)
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('off'))));
      if (this.silent.has(address.toString())) throw new Error(`no ${kind}`);
      return Promise.resolve(latencyMs);
    };
  }
}

async function startWorld(t: TestContext, count: number): Promise<World> {
  const world = new World(count);
  await world.prober.start();
  t.after(() => world.prober.stop());
  return world;
}

test('every node is asked at each address, in both ways, this one first in the report', async (t) => {
  const world = await startWorld(t, 3);
  assert.deepEqual(
    world.prober.report().nodes.map((health) => answers(health)),
    [false, false, false],
    'nobody has answered yet',
  );
  assert.equal(world.prober.report().lastProbe, undefined);
  await world.clock.advance(30); // 10 ms a node
  assert.deepEqual(
    world.asked.toSorted(),
    [1, 2, 3]
      .flatMap((n) =>
        [`192.168.60.${n}`, `10.${n}.255.254`].flatMap((ip) => [`http node${n} ${ip}`, `icmp node${n} ${ip}`]),
      )
      .sort(),
  );
  const { nodes, lastProbe } = world.prober.report();
  assert.deepEqual(
    nodes.map((health) => [health.node.name, answers(health)]),
    [
      ['node1', true],
      ['node2', true],
      ['node3', true],
    ],
  );
  const [path] = nodes[1]!.endpoint;
  assert.deepEqual(
    [path!.address.toString(), path!.icmp!.latencyMs, path!.http!.latencyMs],
    ['10.2.255.254', 1.5, 2.5],
  );
  assert.ok(path!.icmp!.at <= lastProbe!);
});

for (const [count, seconds] of [
  [1, 42],
  [2, 66],
  [4, 97],
  [200, 318],
] as const) {
  test(`of ${count} nodes each is asked once in ${seconds} s`, async (t) => {
    const world = await startWorld(t, count);
    assert.equal(Math.round(world.prober.intervalMs / 1_000), seconds);
    await world.clock.advance(count * 5);
    assert.equal(world.takeAsked().length, count);
    await world.clock.advance(world.prober.intervalMs - count * 5);
    assert.deepEqual(world.takeAsked(), []);
    await world.clock.advance(count * 5);
    assert.equal(world.takeAsked().length, count);
  });
}

test('a node that does not answer is asked again soon, then ever less often, and the log says so once', async (t) => {
  const world = await startWorld(t, 2);
  world.silent.add('10.2.255.254');
  await world.clock.advance(20);
  assert.deepEqual(world.takeAsked(), ['node1', 'node2']);
  let tries = 0;
  for (let second = 0; second < 60; second++) {
    await world.clock.advance(1_000);
    tries += world.takeAsked().includes('node2') ? 1 : 0;
  }
  assert.equal(tries, 5, 'after 1.5, 3, 6, 12 and 24 s');
  assert.deepEqual(world.logged, ['Node does not answer node2']);
  const [, health] = world.prober.report().nodes;
  assert.deepEqual(health!.endpoint[0]!.icmp?.error, 'no icmp');
  assert.equal(answers(health!), false);
  assert.equal(health!.host[0]!.http?.latencyMs, 2.5);
  world.silent.clear();
  await world.clock.advance(60_000);
  assert.deepEqual(world.logged, ['Node does not answer node2', 'Node answers again node2']);
});

test('a node that comes is asked at once, one that goes is forgotten, and a new address begins without a result', async (t) => {
  const world = await startWorld(t, 2);
  await world.clock.advance(20);
  world.takeAsked();
  const third = clusterNode(3);
  world.nodes.push(third);
  world.tell({ type: 'upsert', node: third });
  await world.clock.advance(30);
  assert.deepEqual(world.takeAsked(), ['node3']);
  const [, old] = world.nodes;
  const moved = clusterNode(2, '192.168.60.22');
  world.nodes[1] = moved;
  world.tell({ type: 'upsert', node: moved, old: old! });
  const { host, endpoint } = world.prober.report().nodes[1]!;
  assert.deepEqual(host, [{ address: IpAddress.parse('192.168.60.22') }]);
  assert.equal(endpoint[0]!.icmp?.latencyMs, 1.5, 'what is known of an address that stays, stays');
  world.nodes.pop();
  world.tell({ type: 'delete', node: third });
  await world.clock.advance(world.prober.intervalMs * 2);
  assert.deepEqual(world.takeAsked(), ['node1', 'node2']);
});

test('a probe on demand asks all nodes, joins those under way, and is in the report when it is back', async (t) => {
  const world = await startWorld(t, 2);
  await world.clock.advance(20);
  world.asked.length = 0;
  world.silent.add('192.168.60.2');
  await Promise.all([world.prober.probe(), world.prober.probe()]);
  assert.equal(world.asked.length, 8, 'two addresses in two ways, each node once');
  assert.deepEqual(
    world.prober.report().nodes.map((health) => answers(health)),
    [true, false],
  );
});

test('stop ends questions that are under way, and asks no more', async () => {
  const world = new World(100);
  world.hangs = true;
  await world.prober.start();
  await world.clock.advance(1_000);
  assert.equal(world.takeAsked().length, 32, 'so many nodes at once');
  const stopped = world.prober.stop();
  await settle();
  await stopped;
  assert.deepEqual(world.takeAsked(), []);
  await world.clock.advance(600_000);
  assert.deepEqual(world.takeAsked(), []);
});
