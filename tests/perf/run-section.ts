// SPDX-License-Identifier: Apache-2.0

/** How long `docker run -d` takes on each network, interleaved. */
import type { LabNode } from '../../lab/node.ts';
import { rotated, Series } from './statistics.ts';

export interface RunMeasurement {
  readonly rounds: number;
  readonly onProgress: (step: string) => void;
}

/** Milliseconds per network, the client's start included; the container's removal is waited for but not measured. */
export async function measureRuns(
  node: LabNode,
  networks: readonly string[],
  options: RunMeasurement,
): Promise<Series> {
  const series = new Series();
  // The first container of an engine waits for what every later one finds ready.
  for (const network of networks) await runOnce(node, network);
  for (let round = 0; round < options.rounds; round++) {
    options.onProgress(`docker run: round ${round + 1} of ${options.rounds}`);
    for (const network of rotated(networks, round)) series.add(network, await runOnce(node, network));
  }
  return series;
}

async function runOnce(node: LabNode, network: string): Promise<number> {
  const begin = performance.now();
  const id = await node.docker([
    'run',
    '-d',
    '--network',
    network,
    '-l',
    'bench=run',
    'busybox',
    'sleep',
    '2147483647',
  ]);
  const taken = performance.now() - begin;
  await node.docker(['rm', '-f', id]);
  return taken;
}
