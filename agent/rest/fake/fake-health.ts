// SPDX-License-Identifier: Apache-2.0

/** The health of two nodes, one of which is reached at its own address only. */
import type { ConnectivityStatus, HealthStatus, PathStatus } from '../../../api/health-models.ts';
import type { HealthServices } from '../health-routes.ts';

export interface FakeHealth extends HealthServices {
  /** What is answered, or thrown. */
  response: HealthStatus | Error;
  probes: number;
}

const PROBED = '2026-01-05T10:01:12.000Z';

export function fakeHealth(): FakeHealth {
  const health: FakeHealth = {
    response: fakeHealthStatus(),
    probes: 0,
    status: () => {
      if (health.response instanceof Error) throw health.response;
      return health.response;
    },
    probe: () => {
      health.probes++;
      return Promise.resolve().then(() => health.status());
    },
  };
  return health;
}

export function fakePath(ip: string, { icmp, http }: { icmp: number | string; http: number | string }): PathStatus {
  return { ip, icmp: answered(icmp), http: answered(http) };
}

function fakeHealthStatus(): HealthStatus {
  return {
    local: { name: 'node1' },
    nodes: [
      {
        name: 'node1',
        host: {
          'primary-address': fakePath('192.168.60.11', { icmp: 41_200, http: 612_345 }),
          'secondary-addresses': [fakePath('fd00::11', { icmp: 40_000, http: 600_000 })],
        },
        'health-endpoint': {
          'primary-address': fakePath('10.11.255.254', { icmp: 44_000, http: 700_000 }),
          'secondary-addresses': [],
        },
      },
      {
        name: 'node2',
        host: {
          'primary-address': fakePath('192.168.60.12', { icmp: 312_456, http: 1_200_000 }),
          'secondary-addresses': [],
        },
        'health-endpoint': {
          'primary-address': fakePath('10.12.255.254', { icmp: 'no ICMP echo within 3000 ms', http: 'no answer' }),
          'secondary-addresses': [],
        },
      },
    ],
    timestamp: PROBED,
    'probe-interval': '1m5.916737s',
  };
}

/** Nanoseconds, or why there was no answer. */
function answered(result: number | string): ConnectivityStatus {
  if (typeof result === 'string') return { latency: 0, status: result, lastProbed: PROBED };
  return { latency: result, status: '', lastProbed: PROBED };
}
