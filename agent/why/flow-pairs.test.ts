// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flowPairs } from './flow-pairs.ts';
import type { SeenFlow } from './seen-flows.ts';

const IDENTITIES = new Map([
  [1, 300],
  [2, 301],
  [3, 301],
]);

function flow(facts: Pick<SeenFlow, 'endpoint' | 'direction' | 'peer'> & Partial<SeenFlow>): SeenFlow {
  const rest = { protocol: 6, port: 80, allowed: 1, denied: 0, dropReason: 0, lastDenied: false };
  return { address: undefined, ...rest, firstSeen: 10, lastSeen: 20, ...facts };
}

function pairsOf(...flows: SeenFlow[]): string[] {
  return flowPairs(flows, (endpoint) => IDENTITIES.get(endpoint)).map(
    ({ from, to, port, count, firstSeen, lastSeen }) =>
      `${from.address ?? from.identity} -> ${to.address ?? to.identity} ${port} x${count} ${firstSeen}-${lastSeen}`,
  );
}

test('a flow that leaves one endpoint and arrives at another is one', () => {
  assert.deepEqual(
    pairsOf(
      flow({ endpoint: 1, direction: 'egress', peer: 301, allowed: 5, denied: 2 }),
      flow({ endpoint: 2, direction: 'ingress', peer: 300, allowed: 4, firstSeen: 5 }),
    ),
    ['300 -> 301 80 x7 5-20'],
  );
});

test('endpoints of one identity are one end', () => {
  assert.deepEqual(
    pairsOf(
      flow({ endpoint: 2, direction: 'ingress', peer: 300, allowed: 4, lastSeen: 50 }),
      flow({ endpoint: 3, direction: 'ingress', peer: 300, allowed: 4 }),
      flow({ endpoint: 3, direction: 'egress', peer: 300 }),
    ),
    ['300 -> 301 80 x8 10-50', '301 -> 300 80 x1 10-20'],
  );
});

test('outside the address tells peers apart, whatever identity it had', () => {
  assert.deepEqual(
    pairsOf(
      flow({ endpoint: 1, direction: 'egress', peer: 9, address: '192.0.2.1' }),
      flow({ endpoint: 1, direction: 'egress', peer: 0x0100_0001, address: '192.0.2.1', port: 80 }),
      flow({ endpoint: 1, direction: 'egress', peer: 9, address: '192.0.2.2' }),
      flow({ endpoint: 9, direction: 'egress', peer: 9, address: '192.0.2.1' }),
    ),
    ['300 -> 192.0.2.1 80 x2 10-20', '300 -> 192.0.2.2 80 x1 10-20'],
  );
});
