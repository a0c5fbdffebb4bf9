// SPDX-License-Identifier: Apache-2.0

/** Request/response, connect rate and one stream over every path, interleaved round by round. */
import { CiliumError } from '../../errors/cilium-error.ts';
import { Traffic } from '../traffic/traffic.ts';
import type { Path } from './paths.ts';
import { medianRatio, rotated, Series } from './statistics.ts';

export type Family = 'ipv4' | 'ipv6';

/** Both ends of rr and crr share this CPU, so that no wake-up of an idle CPU is measured. */
const PING_PONG_CPU = 1;
const STREAM_SENDER_CPU = 0;

export interface TrafficMeasurement {
  readonly rounds: number;
  readonly seconds: number;
  readonly onProgress: (step: string) => void;
}

/** A series per path, family and figure, named by `seriesName`. */
export async function measureTraffic(paths: readonly Path[], options: TrafficMeasurement): Promise<Series> {
  const series = new Series();
  const cases = paths.flatMap((path) => {
    const { ipv4, ipv6 } = path.addresses;
    return [
      { path, family: 'ipv4' as const, addr: ipv4 },
      ...(ipv6 === undefined ? [] : [{ path, family: 'ipv6' as const, addr: ipv6 }]),
    ];
  });
  const servers = await Promise.all(paths.map((path) => Traffic.start(path.server, 'server', { cpu: PING_PONG_CPU })));
  try {
    for (let round = 0; round < options.rounds; round++) {
      options.onProgress(`traffic: round ${round + 1} of ${options.rounds}`);
      for (const { path, family, addr } of rotated(cases, round)) {
        try {
          await measureOnce(path, family, addr, options.seconds, series);
        } catch (cause) {
          throw new CiliumError('System', `${path.name}, ${family}`, { addr }, cause);
        }
      }
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
  return series;
}

async function measureOnce(path: Path, family: Family, addr: string, duration: number, series: Series): Promise<void> {
  const add = (figure: Figure, value: number) => series.add(seriesName(path.name, family, figure), value);
  const common = { addr, duration };
  const rr = await Traffic.run(path.client, 'rr', { ...common, cpu: PING_PONG_CPU });
  add('rr rate', rr.rate);
  add('rr p50', rr.p50Ns);
  add('rr p99', rr.p99Ns);
  add('rr cpu', rr.cpuNs);
  const crr = await Traffic.run(path.client, 'crr', { ...common, cpu: PING_PONG_CPU });
  if (crr.failed > 0) throw new Error(`${crr.failed} connections: ${crr.lastError}`);
  add('crr rate', crr.rate);
  add('crr cpu', crr.cpuNs);
  const stream = await Traffic.run(path.client, 'stream', { ...common, cpu: STREAM_SENDER_CPU });
  add('stream rate', stream.bitsPerSecond);
  add('stream cpu', stream.cpuNsPerByte);
}

/** CPU figures are nanoseconds of both ends for one transaction, connection or byte. */
export type Figure = 'rr rate' | 'rr p50' | 'rr p99' | 'rr cpu' | 'crr rate' | 'crr cpu' | 'stream rate' | 'stream cpu';

export function seriesName(path: string, family: Family, figure: Figure): string {
  return `${path}|${family}|${figure}`;
}

/**
 * How fast `path` is against `base`, from the CPU time of what they did. With both ends on one CPU that nothing else
 * wants it is the ratio of the rates; and it stays the same when something else does want the CPU.
 */
export function speedRatio(series: Series, family: Family, figure: 'rr cpu' | 'crr cpu', path: string, base: string) {
  return medianRatio(series.of(seriesName(base, family, figure)), series.of(seriesName(path, family, figure)));
}
