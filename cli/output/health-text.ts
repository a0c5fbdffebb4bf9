// SPDX-License-Identifier: Apache-2.0

/** Which nodes answer, for people: in full for `cilium-health status`, in a few lines for `cilium status`. */
import type { ConnectivityStatus, HealthStatus, NodeHealth, PathStatus } from '../../api/health-models.ts';
import { formatDuration } from '../../runtime/duration.ts';
import { alignTabs } from './table.ts';

/** A table has no more rows than this unless all are asked for. */
const MAX_ROWS = 10;
const NOT_YET = 'Not probed yet';

type Paths = NodeHealth['host'];

/** `2/2 reachable   (2026-01-05T10:01:12Z)   (Probe interval: 1m36s)`, its cells separated by tabs. */
export function reachableText({ nodes, timestamp, 'probe-interval': interval }: HealthStatus): string {
  const reachable = nodes.filter(isReachable).length;
  return `${reachable}/${nodes.length} reachable\t(${timestamp ?? NOT_YET})\t(Probe interval: ${interval})`;
}

/** The nodes that do not answer, or all; empty when there are none. `unlimited`: however many. */
export function nodeRows(
  { local, nodes }: HealthStatus,
  { all = false, unlimited = false }: { readonly all?: boolean; readonly unlimited?: boolean },
): string {
  const wanted = all ? nodes : nodes.filter((node) => !isReachable(node));
  if (wanted.length === 0) return '';
  const shown = unlimited ? wanted : wanted.slice(0, MAX_ROWS);
  const rows = shown.map((node) => {
    const { host, 'health-endpoint': endpoint } = node;
    const ip = host['primary-address']?.ip ?? '';
    return `  ${nameText(node, local.name)}\t${ip}\t${countText(host)}\t${countText(endpoint)}\n`;
  });
  const cut = shown.length < wanted.length ? '  ...\n' : '';
  return alignTabs(`  Name\tIP\tNode\tEndpoints\n${rows.join('')}`, { minWidth: 0 }) + cut;
}

/** Each node with its addresses and how fast they answered; `verbose`: of those beyond the first, too. */
export function nodeDetails({ local, nodes }: HealthStatus, { verbose }: { readonly verbose: boolean }): string {
  const lines = nodes.flatMap((node) => [
    `  ${nameText(node, local.name)}:`,
    ...pathLines('Host connectivity to', node.host, verbose),
    ...pathLines('Endpoint connectivity to', node['health-endpoint'], verbose),
  ]);
  return lines.map((line) => `${line}\n`).join('');
}

function isReachable({ host, 'health-endpoint': endpoint }: NodeHealth): boolean {
  return [...allPaths(host), ...allPaths(endpoint)].every(pathAnswers);
}

function allPaths({ 'primary-address': first, 'secondary-addresses': others }: Paths): PathStatus[] {
  return first === undefined ? others : [first, ...others];
}

function pathAnswers({ icmp, http }: PathStatus): boolean {
  return icmp?.status === '' && http?.status === '';
}

function countText(paths: Paths): string {
  const all = allPaths(paths);
  return `${all.filter(pathAnswers).length}/${all.length}`;
}

function nameText({ name }: NodeHealth, local: string): string {
  return name === local ? `${name} (localhost)` : name;
}

function pathLines(title: string, paths: Paths, verbose: boolean): string[] {
  const shown = verbose ? allPaths(paths) : allPaths(paths).slice(0, 1);
  return shown.flatMap(({ ip, icmp, http }) => [
    `    ${title} ${ip}:`,
    `      ICMP to stack:   ${resultText(icmp)}`,
    `      HTTP to agent:   ${resultText(http)}`,
  ]);
}

function resultText(result: ConnectivityStatus | undefined): string {
  if (result === undefined) return NOT_YET;
  return result.status === '' ? `OK, RTT=${formatDuration(result.latency)}` : result.status;
}
