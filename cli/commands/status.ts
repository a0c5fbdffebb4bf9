// SPDX-License-Identifier: Apache-2.0

/** `cilium status`: how the agent and what it needs are, a line each; exit status 1 when the agent is not well. */
import type { Command } from 'commander';
import type { HealthStatus } from '../../api/health-models.ts';
import type { ControllerStatus, Status, StatusResponse } from '../../api/models.ts';
import { describeError, isCiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { nodeDetails, nodeRows, reachableText } from '../output/health-text.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { alignTabs } from '../output/table.ts';
import { agoText } from '../output/time.ts';

interface StatusOptions extends OutputOptions {
  readonly brief?: boolean;
  readonly verbose?: boolean;
  readonly allAddresses?: boolean;
  readonly allControllers?: boolean;
  readonly allNodes?: boolean;
  readonly allHealth?: boolean;
}

/** What the health API tells; undefined where nodes are not probed, an error when it does not answer. */
export type ClusterHealth = HealthStatus | Error | undefined;

export function register(program: Command, context: Context): void {
  withOutput(program.command('status'))
    .description('Show how the agent and what it depends on are')
    .option('--brief', 'one line: OK, or what is wrong')
    .option('--verbose', 'everything')
    .option('--all-addresses', 'every allocated address and its owner')
    .option('--all-controllers', 'every controller, not only those that fail')
    .option('--all-nodes', 'every node, not only those that do not answer')
    .option('--all-health', 'however many nodes that are, not only the first ten')
    .action((options: StatusOptions) => showStatus(context, options));
}

async function showStatus(context: Context, options: StatusOptions): Promise<void> {
  const status = await context
    .client()
    .status()
    .catch((error: unknown) => {
      if (options.brief === true && isCiliumError(error, 'AgentUnavailable'))
        context.warn('cilium: daemon unreachable');
      throw error;
    });
  if (!isWell(status.cilium)) context.exitStatus = 1;
  const text = options.brief === true ? `${briefStatus(status)}\n` : await formatted(status, options);
  context.print(text ?? statusText(status, await clusterHealth(context, status), options, Date.now()));
}

async function clusterHealth(context: Context, status: StatusResponse): Promise<ClusterHealth> {
  if (!isProbed(status)) return undefined;
  try {
    return await context.healthClient().status();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** OK, or the first thing that is not. */
export function briefStatus(status: StatusResponse): string {
  const parts = {
    kvstore: status.kvstore,
    'container runtime': status['container-runtime'],
    cilium: status.cilium,
    'cilium-health': status.cluster?.ciliumHealth,
  };
  for (const [name, part] of Object.entries(parts)) {
    if (part !== undefined && !isWell(part)) return `error in ${name}: ${part.msg ?? part.state}`;
  }
  const failing = status.controllers?.find(isFailing);
  return failing === undefined
    ? 'OK'
    : `error in controller ${failing.name}: ${failing.status['last-failure-msg'] ?? ''}`;
}

/** The whole text; what the agent does not report is left out. */
export function statusText(
  status: StatusResponse,
  health: ClusterHealth,
  options: StatusOptions,
  nowMs: number,
): string {
  const all = options.verbose === true;
  const controllers = status.controllers ?? [];
  const shown = all || options.allControllers === true ? controllers : controllers.filter(isFailing);
  const addresses = all || options.allAddresses === true ? Object.entries(status.ipam?.allocations ?? {}) : [];
  const sections = [
    ...stateLine('KVStore', status.kvstore),
    ...stateLine('ContainerRuntime', status['container-runtime']),
    `Cilium:\t${status.cilium.state}   ${status.cilium.msg ?? ''}`,
    ...line('NodeMonitor', monitorText(status)),
    ...(isProbed(status) ? stateLine('Cilium health daemon', status.cluster?.ciliumHealth) : []),
    ...line('IPAM', status.ipam?.status),
    ...(addresses.length > 0
      ? ['Allocated addresses:', ...addresses.map(([ip, owner]) => `  ${ip} (${owner})`).sort()]
      : []),
    ...line('Routing', routingText(status)),
    ...line('Attach Mode', status['attach-mode'] === 'tcx' ? 'TCX' : status['attach-mode'] && 'Legacy TC'),
    ...line('Device Mode', status['datapath-mode']),
    ...line('Masquerading', masqueradingText(status)),
    ...line('Clock Source for BPF', all ? status['clock-source']?.mode : undefined),
    ...line('Controller Status', status.controllers && healthyText(controllers)),
  ];
  const identities = status['identity-range'];
  const rest = [
    ...line(
      'Global Identity Range',
      identities && `min ${identities['min-identity']}, max ${identities['max-identity']}`,
    ),
    ...line('Cluster health', status.cluster && healthSummary(health)),
  ];
  const maps = all ? (status['bpf-maps']?.maps ?? []) : [];
  const text = alignedAround([...sections, ...rest], `Controller Status:`, controllerTable(shown, nowMs));
  return text + healthTable(health, options) + mapTable(maps);
}

function healthSummary(health: ClusterHealth): string {
  if (health === undefined) return 'Probe disabled';
  if (health instanceof Error) return `Warning\t${describeError(health)}`;
  return reachableText(health);
}

function healthTable(health: ClusterHealth, options: StatusOptions): string {
  if (health === undefined || health instanceof Error) return '';
  if (options.verbose === true) return nodeDetails(health, { verbose: true });
  return nodeRows(health, { all: options.allNodes === true, unlimited: options.allHealth === true });
}

/** Aligns the lines as one, then puts `inserted` below the one that begins with `label`: its columns are its own. */
function alignedAround(lines: readonly string[], label: string, inserted: string): string {
  const aligned = alignTabs(lines.map((text) => `${text}\n`).join(''), { minWidth: 2 });
  if (inserted === '') return aligned;
  return aligned.replace(new RegExp(`^${label}.*\n`, 'm'), (text) => text + inserted);
}

function line(label: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`${label}:\t${value}`];
}

function stateLine(label: string, status: Status | undefined): string[] {
  return status === undefined ? [] : [`${label}:\t${status.state}\t${status.msg ?? ''}`];
}

function monitorText({ nodeMonitor }: StatusResponse): string | undefined {
  if (nodeMonitor === undefined) return undefined;
  const { cpus, npages, pagesize, lost, unknown } = nodeMonitor;
  const listening = `Listening for events on ${cpus} CPUs with ${npages}x${pagesize} of shared memory`;
  return lost + unknown === 0 ? listening : `${listening}\n\t${lost} events lost, ${unknown} unknown notifications`;
}

function routingText({ routing }: StatusResponse): string | undefined {
  if (routing === undefined) return undefined;
  const { 'inter-host-routing-mode': network, 'intra-host-routing-mode': host, 'tunnel-protocol': tunnel } = routing;
  return `Network: ${network}${tunnel === undefined ? '' : ` [${tunnel}]`}\tHost: ${host}`;
}

function masqueradingText({ masquerading }: StatusResponse): string | undefined {
  if (masquerading === undefined) return undefined;
  if (!masquerading.enabled) return 'Disabled';
  const { ipv4, ipv6 } = masquerading.enabledProtocols;
  const families = `[IPv4: ${ipv4 ? 'Enabled' : 'Disabled'}, IPv6: ${ipv6 ? 'Enabled' : 'Disabled'}]`;
  return `${masquerading.mode}\t[${masquerading.devices.join(', ')}]\t${families}`;
}

function healthyText(controllers: readonly ControllerStatus[]): string {
  return `${controllers.length - controllers.filter(isFailing).length}/${controllers.length} healthy`;
}

function controllerTable(controllers: readonly ControllerStatus[], nowMs: number): string {
  if (controllers.length === 0) return '';
  const rows = controllers
    .map(({ name, status }) => {
      const times = [status['last-success-timestamp'], status['last-failure-timestamp']];
      const ago = times.map((time) => agoText(time, nowMs)).join('\t');
      return `  ${name}\t${ago}\t${status['consecutive-failure-count']}\t${status['last-failure-msg'] ?? 'no error'}\t\n`;
    })
    .sort();
  return alignTabs(`  Name\tLast success\tLast error\tCount\tMessage\n${rows.join('')}`, { minWidth: 2 });
}

function mapTable(maps: readonly { name: string; size: number }[]): string {
  if (maps.length === 0) return '';
  const rows = maps.map(({ name, size }) => `  ${name}\t${size}\n`);
  return `BPF Maps:\n${alignTabs(`  Name\tSize\n${rows.join('')}`, { minWidth: 2 })}`;
}

/** Whether this node asks the others. */
function isProbed({ cluster }: StatusResponse): boolean {
  return cluster !== undefined && cluster.ciliumHealth.state !== 'Disabled';
}

function isWell({ state }: Status): boolean {
  return state === 'Ok' || state === 'Disabled';
}

function isFailing({ status }: ControllerStatus): boolean {
  return status['consecutive-failure-count'] > 0;
}
