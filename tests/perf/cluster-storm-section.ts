// SPDX-License-Identifier: Apache-2.0

/** A thousand containers that start at once, as etcd sees them: requests, writes to disk, and how long it takes. */
import type { ClusterPeer } from './cluster-peer-client.ts';
import type { Series } from './statistics.ts';

export const STORM_ENDPOINTS = 1_000;
export const STORM_IDENTITIES = [1, 100, 1_000] as const;

export type StormFigure = 'whole' | 'slowest' | 'requests' | 'disk';

export function stormSeries(identities: number, figure: StormFigure): string {
  return `storm of ${identities}: ${figure}`;
}

export async function measureStorms(
  peer: ClusterPeer,
  series: Series,
  rounds: number,
  onProgress: (step: string) => void,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const identities of STORM_IDENTITIES) {
      // Numbers differ from round to round, so that labels do: nobody has their identity yet.
      const endpoints = STORM_ENDPOINTS + round;
      onProgress(`${endpoints} endpoints of ${identities} identities start, round ${round + 1} of ${rounds}`);
      const { whole, slowestIdentity, requests } = await peer.storm(endpoints, identities);
      const calls = Object.entries(requests).filter(([name]) => name.includes('.'));
      series.add(stormSeries(identities, 'whole'), whole);
      series.add(stormSeries(identities, 'slowest'), slowestIdentity);
      series.add(
        stormSeries(identities, 'requests'),
        calls.reduce((sum, [, count]) => sum + count, 0),
      );
      series.add(stormSeries(identities, 'disk'), requests['written to disk'] ?? 0);
    }
  }
}
