// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verdictRecord, type FakeVerdict } from '../fake/verdict-record.ts';
import { MAX_FLOWS, MAX_FLOWS_OF_ENDPOINT, MAX_VERDICTS_IN_TICK, SeenFlows, TICK_MS } from './seen-flows.ts';

class World {
  monotonic = 5_000;
  readonly flows = new SeenFlows({ now: () => 1_000_000 + this.monotonic, monotonic: () => this.monotonic });

  /** Each in a tick of its own. */
  see(...verdicts: FakeVerdict[]): void {
    for (const verdict of verdicts) {
      this.monotonic += TICK_MS;
      this.flows.take([verdictRecord({ timestampMs: this.monotonic, ...verdict })]);
    }
  }

  get ports(): number[] {
    return Array.from(this.flows.list(), ({ port }) => port).sort((a, b) => a - b);
  }
}

test('verdicts become flows, counted by what became of them', () => {
  const world = new World();
  const flow = { endpoint: 7, peer: 300, port: 80 };
  world.see(flow, { ...flow, verdict: -133 }, { ...flow, verdict: 15_001 });
  assert.deepEqual(
    [...world.flows.list()],
    [
      {
        endpoint: 7,
        direction: 'ingress',
        peer: 300,
        address: undefined,
        protocol: 6,
        port: 80,
        allowed: 2,
        denied: 1,
        dropReason: 133,
        lastDenied: false,
        firstSeen: 1_005_200,
        lastSeen: 1_005_600,
      },
    ],
  );
});

test('endpoint, direction, peer, protocol and port tell flows apart, outside also the address', () => {
  const world = new World();
  const flow = { endpoint: 7, peer: 300 };
  world.see(flow, { ...flow, endpoint: 8 }, { ...flow, egress: true }, { ...flow, peer: 301 });
  world.see({ ...flow, protocol: 17 }, { ...flow, port: 81 }, flow);
  assert.equal(world.flows.size, 6);
  const outside = [9, 0x0100_0001].flatMap((peer) => [
    { endpoint: 9, peer, egress: true, address: '192.0.2.1' },
    { endpoint: 9, peer, address: '192.0.2.1' },
    { endpoint: 9, peer, address: '2001:db8::1' },
  ]);
  world.see(...outside, { endpoint: 9, peer: 9 });
  const seen = Array.from(world.flows.list()).filter(({ endpoint }) => endpoint === 9);
  assert.deepEqual(seen.map(({ direction, address }) => `${direction} ${address}`).sort(), [
    'egress 192.0.2.1',
    'ingress 192.0.2.1',
    'ingress 2001:db8::1',
    'ingress undefined',
  ]);
});

test('records that are no verdicts are passed over', () => {
  const world = new World();
  world.flows.take([Buffer.alloc(0), Buffer.from([5]), Buffer.alloc(192, 1), Buffer.alloc(192, 4)]);
  assert.deepEqual([world.flows.size, world.flows.skipped], [0, 0]);
});

test('an endpoint forgets the flows that it has not seen for longest, and no others', () => {
  const world = new World();
  world.see({ endpoint: 1, peer: 300, port: 9_999 }, { endpoint: 2, peer: 300, port: 1 });
  for (let port = 2; port <= MAX_FLOWS_OF_ENDPOINT; port++) world.see({ endpoint: 2, peer: 300, port });
  world.monotonic += 10_000;
  world.see({ endpoint: 2, peer: 300, port: 1 }); // seen again: the second is the oldest now
  world.see({ endpoint: 2, peer: 300, port: 5_000 }, { endpoint: 2, peer: 300, port: 5_001 });
  const { ports } = world;
  assert.deepEqual(
    [ports.slice(0, 2), ports.slice(-3)],
    [
      [1, 4],
      [5_000, 5_001, 9_999],
    ],
  );
  assert.equal(world.flows.size, MAX_FLOWS_OF_ENDPOINT + 1);
});

test('all endpoints together have a bound, and what has no room is counted', () => {
  const world = new World();
  const endpoints = MAX_FLOWS / MAX_FLOWS_OF_ENDPOINT;
  for (let endpoint = 1; endpoint <= endpoints; endpoint++) {
    for (let port = 0; port < MAX_FLOWS_OF_ENDPOINT; port++) world.see({ endpoint, peer: 300, port });
  }
  assert.deepEqual([world.flows.size, world.flows.skipped], [MAX_FLOWS, 0]);
  world.see({ endpoint: 5_000, peer: 300 }, { endpoint: 3, peer: 300, port: 5_000 });
  assert.deepEqual([world.flows.size, world.flows.skipped], [MAX_FLOWS, 1]);
  world.flows.forget(3);
  world.see({ endpoint: 5_000, peer: 300 });
  assert.equal(world.flows.size, MAX_FLOWS - MAX_FLOWS_OF_ENDPOINT + 1);
});

test('in a storm so many verdicts are taken in a tick, and the rest is counted', () => {
  const world = new World();
  const storm = Array.from({ length: MAX_VERDICTS_IN_TICK + 10 }, () => verdictRecord({ endpoint: 1, peer: 300 }));
  world.flows.take(storm);
  world.flows.take(storm.slice(0, 5));
  const [flow] = world.flows.list();
  assert.deepEqual([flow?.allowed, world.flows.skipped], [MAX_VERDICTS_IN_TICK, 15]);
  world.monotonic += TICK_MS;
  world.flows.take(storm.slice(0, 5));
  assert.deepEqual([flow?.allowed, world.flows.skipped], [MAX_VERDICTS_IN_TICK + 5, 15]);
});
