// SPDX-License-Identifier: Apache-2.0

/** What the project wants to reach, held against what was measured. */
import type { AgentCosts } from './agent-section.ts';
import type { JoinTimes } from './join-section.ts';
import { table } from './report.ts';
import { medianRatio, quantile, type Series } from './statistics.ts';
import { type Family, seriesName, speedRatio } from './traffic-section.ts';

export interface Goal {
  readonly what: string;
  readonly measured: number;
  /** The least or the most that is wanted. */
  readonly least?: number;
  readonly most?: number;
  readonly digits: number;
}

export interface PathNames {
  readonly base: string;
  /** The base with the rules that Docker puts into containers, IPv4 only. */
  readonly baseWithDns: string;
  readonly bridge: string;
  readonly policy: string;
  readonly policyWithoutDns: string;
}

export function trafficGoals(series: Series, names: PathNames): Goal[] {
  const { base, baseWithDns, bridge, policy, policyWithoutDns } = names;
  const against = (family: Family, title: string, path: string, to: string): Goal[] => [
    {
      what: `${title}: request/response`,
      measured: speedRatio(series, family, 'rr cpu', path, to),
      least: 0.9,
      digits: 2,
    },
    { what: `${title}: connects`, measured: speedRatio(series, family, 'crr cpu', path, to), least: 0.75, digits: 2 },
  ];
  const cpu = (family: Family, title: string): Goal => ({
    what: `${title} with policy vs Docker's bridge: CPU per byte`,
    measured: medianRatio(
      series.of(seriesName(policy, family, 'stream cpu')),
      series.of(seriesName(bridge, family, 'stream cpu')),
    ),
    most: 1,
    digits: 2,
  });
  return [
    ...against('ipv4', 'IPv4 with policy vs bare veth pair', policy, base),
    ...against('ipv4', "the same, Docker's DNS rules at both", policy, baseWithDns),
    ...against('ipv4', "the same, Docker's DNS rules at neither", policyWithoutDns, base),
    ...against('ipv6', 'IPv6 with policy vs bare veth pair', policy, base),
    cpu('ipv4', 'IPv4'),
    cpu('ipv6', 'IPv6'),
  ];
}

/** Of two nodes. `overlay`: the path that is held against the device `vxlan`. */
export function crossNodeGoals(series: Series, { vxlan, overlay }: { vxlan: string; overlay: string }): Goal[] {
  const goals = (family: Family, title: string): Goal[] => {
    const cpu = [overlay, vxlan].map((path) => series.of(seriesName(path, family, 'stream cpu')));
    const what = `${title} across nodes, VXLAN with policy vs raw VXLAN device`;
    return [
      {
        what: `${what}: request/response`,
        measured: speedRatio(series, family, 'rr cpu', overlay, vxlan),
        least: 0.95,
        digits: 2,
      },
      { what: `${what}: CPU per byte`, measured: medianRatio(cpu[0]!, cpu[1]!), most: 1.1, digits: 2 },
    ];
  };
  return [...goals('ipv4', 'IPv4'), ...goals('ipv6', 'IPv6')];
}

export function runGoals(series: Series, cilium: string, dualStack: string): Goal[] {
  const measured = medianRatio(series.of(cilium), series.of(dualStack));
  return [{ what: '`docker run` vs user-defined dual-stack bridge', measured, most: 1, digits: 2 }];
}

export function agentGoals(costs: AgentCosts, joins: JoinTimes): Goal[] {
  const megabytes = (bytes: number) => bytes / 1e6;
  const maps = [...costs.mapBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  return [
    { what: 'RequestAddress to Join, median ms', measured: quantile(joins.wall, 0.5), most: 10, digits: 1 },
    { what: 'RequestAddress to Join, p99 ms', measured: quantile(joins.wall, 0.99), most: 25, digits: 1 },
    {
      what: 'agent with 30 containers, MB',
      measured: megabytes(costs.residentBytes.get(30) ?? NaN),
      most: 120,
      digits: 0,
    },
    { what: 'idle agent, % of a core', measured: costs.idleCpu * 100, most: 0.5, digits: 2 },
    { what: 'maps, MB', measured: megabytes(maps), most: 64, digits: 1 },
  ];
}

export function goalTable(goals: readonly Goal[]): string {
  const rows = goals.map((goal) => {
    const wanted = goal.least === undefined ? `at most ${goal.most ?? NaN}` : `at least ${goal.least}`;
    return [goal.what, wanted, goal.measured.toFixed(goal.digits), isReached(goal) ? 'yes' : '**no**'];
  });
  return table(['to reach', 'wanted', 'measured', 'reached'], rows);
}

/** As it is shown: a figure that is rounded to the limit has reached it. */
export function isReached({ measured, least = -Infinity, most = Infinity, digits }: Goal): boolean {
  const shown = Number(measured.toFixed(digits));
  return shown >= least && shown <= most;
}
