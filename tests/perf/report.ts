// SPDX-License-Identifier: Apache-2.0

/** Turns measurements into Markdown tables, for the terminal and for docs/benchmarks.md. */
import { readFile, writeFile } from 'node:fs/promises';
import type { AgentCosts } from './agent-section.ts';
import type { JoinTimes } from './join-section.ts';
import type { Path } from './paths.ts';
import { medianRatio, quantile, type Series, summarize } from './statistics.ts';
import { type Family, type Figure, seriesName, speedRatio } from './traffic-section.ts';

/** What the tables of docs/benchmarks.md stand between; everything else in that file is written by people. */
const BEGIN = (command: string): string => `<!-- begin of the results that \`${command}\` writes -->`;
const END = '<!-- end of the results -->';

type Cell = string | number;

export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const lines = [head, head.map((_title, column) => (column === 0 ? '---' : '---:')), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** "median (first quartile–third quartile)" */
export function spread(values: readonly number[], scale: number, digits: number): string {
  const { q1, median, q3 } = summarize(values);
  const [a, b, c] = [median, q1, q3].map((value) => (value * scale).toFixed(digits));
  return `${a!} (${b!}–${c!})`;
}

function withTail(values: readonly number[]): string {
  return `${spread(values, 1, 1)}, p99 ${quantile(values, 0.99).toFixed(1)}`;
}

/** `base`: what request/response and connects are held against, known as `short`; `stream`: the same for CPU per byte. */
export interface Bases {
  readonly base: string;
  readonly short: string;
  readonly stream: string;
}

export function trafficTables(paths: readonly Path[], series: Series, { base, short, stream }: Bases): string {
  const tables = (['ipv4', 'ipv6'] as const).map((family) => {
    const of = (path: string, figure: Figure) => series.of(seriesName(path, family, figure));
    const rows = paths
      .filter((path) => of(path.name, 'rr rate').length > 0)
      .map(({ name }) => [
        name,
        spread(of(name, 'rr rate'), 1e-3, 1),
        (quantile(of(name, 'rr p50'), 0.5) / 1e3).toFixed(1),
        (quantile(of(name, 'rr p99'), 0.5) / 1e3).toFixed(1),
        spread(of(name, 'rr cpu'), 1e-3, 1),
        speedRatio(series, family, 'rr cpu', name, base).toFixed(2),
        spread(of(name, 'crr rate'), 1e-3, 1),
        spread(of(name, 'crr cpu'), 1e-3, 0),
        speedRatio(series, family, 'crr cpu', name, base).toFixed(2),
        spread(of(name, 'stream rate'), 1e-9, 1),
        spread(of(name, 'stream cpu'), 1, 3),
        medianRatio(of(name, 'stream cpu'), of(stream, 'stream cpu')).toFixed(2),
      ]);
    const head = [
      `${FAMILY_NAMES[family]}: path`,
      ...['request/response, k/s', 'p50 µs', 'p99 µs', 'CPU µs', `vs ${short}`],
      ...['connects, k/s', 'CPU µs', `vs ${short}`, 'stream, Gbit/s', 'CPU ns/byte', `vs ${stream}`],
    ];
    return table(head, rows);
  });
  return tables.join('\n\n');
}

const FAMILY_NAMES: Record<Family, string> = { ipv4: 'IPv4', ipv6: 'IPv6' };

export function runTable(networks: readonly { name: string; title: string }[], series: Series, base: string): string {
  const rows = networks.map(({ name, title }) => [
    title,
    spread(series.of(name), 1, 0),
    quantile(series.of(name), 0.99).toFixed(0),
    medianRatio(series.of(name), series.of(base)).toFixed(2),
  ]);
  return table(['`docker run -d` on', 'ms', 'p99 ms', 'vs user-defined dual stack'], rows);
}

export function agentTable(costs: AgentCosts, joins: JoinTimes): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  const maps = [...costs.mapBytes].toSorted((a, b) => b[1] - a[1]);
  const total = maps.reduce((sum, [, bytes]) => sum + bytes, 0);
  return [
    table(
      ['the agent', ''],
      [
        ['first RequestAddress to Join reply, ms', withTail(joins.wall)],
        ['of that, inside the agent, ms', withTail(joins.own)],
        ['start to answering, 30 containers, ms', spread(costs.starts, 1, 0)],
        ['idle, 30 containers, % of a core', (costs.idleCpu * 100).toFixed(2)],
        ...[...costs.residentBytes].map(([count, bytes]) => [`resident, ${count} containers, MB`, megabytes(bytes)]),
        ['maps, MB', megabytes(total)],
      ],
    ),
    table(
      ['map', 'MB'],
      maps.filter(([, bytes]) => bytes >= 2 ** 16).map(([name, bytes]) => [`\`${name}\``, megabytes(bytes)]),
    ),
  ].join('\n\n');
}

/** Puts the results of a command into the file, in place of its earlier ones. */
export async function writeResults(file: string, results: string, command = 'make bench'): Promise<void> {
  const text = await readFile(file, 'utf8');
  const mark = BEGIN(command);
  const begin = text.indexOf(mark);
  const end = text.indexOf(END, begin);
  if (begin < 0 || end < 0) throw new Error(`${file} lacks the lines "${mark}" and "${END}"`);
  await writeFile(file, `${text.slice(0, begin)}${mark}\n\n${results}\n\n${text.slice(end)}`);
}
