// SPDX-License-Identifier: Apache-2.0

/** `cilium bpf …`: what the kernel holds, read from the pinned maps; needs root, but no agent. */
import { InvalidArgumentError, type Command } from 'commander';
import type { EndpointInfo } from '../../datapath/maps/endpoint-map.ts';
import { endpointText, ipcacheText } from '../../datapath/maps/entry-text.ts';
import { connectionKeyText, connectionText, snatKeyText, snatText } from '../../datapath/maps/flow-text.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { loadIdentityLabels } from '../identity-labels.ts';
import { policyJson, policyTable } from '../output/policy-table.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';
import type { PinnedMaps } from '../pinned-maps.ts';

interface ConntrackOptions extends OutputOptions {
  readonly timeDiff?: boolean;
}

interface PolicyOptions extends OutputOptions {
  readonly numeric?: boolean;
  readonly all?: boolean;
}

/** Conntrack maps in the order in which they are listed. */
const CONNTRACK_MAPS = [
  ['cilium_ct4_tcp', 4],
  ['cilium_ct4_any', 4],
  ['cilium_ct6_tcp', 6],
  ['cilium_ct6_any', 6],
] as const;

const SNAT_MAPS = [
  ['cilium_snat4', 4],
  ['cilium_snat6', 6],
] as const;

const NUMERIC_HELP = 'identities as numbers';

export function register(program: Command, context: Context): void {
  const bpf = program.command('bpf').description('What the kernel holds; needs root, but no agent');
  const group = (name: string, what: string) => bpf.command(name).description(what);

  withOutput(group('endpoint', 'Addresses of this node and who has them').command('list').alias('ls'))
    .description('List the addresses of containers and of the node itself')
    .action(async (options: OutputOptions, command: Command) => {
      const entries = (await openMaps(context, command)).endpoints();
      const rows = entries.map(({ address, info }) => [`${address.toString()}:0`, endpointText(info)] as const);
      await printMap(context, ['IP ADDRESS', 'LOCAL ENDPOINT INFO'], rows, options);
    });
  withOutput(group('ipcache', 'Which prefix has which identity').command('list').alias('ls'))
    .description('List prefixes and their identities')
    .action(async (options: OutputOptions, command: Command) => {
      const entries = (await openMaps(context, command)).ipcache();
      const rows = entries.map(({ prefix, info }) => [prefix.toString(), ipcacheText(info)] as const);
      await printMap(context, ['IP PREFIX/ADDRESS', 'IDENTITY'], rows, options);
    });
  withOutput(group('ct', 'Connections').command('list').alias('ls'))
    .description('List connections')
    .argument('[scope]', 'global, the only one there is', checkScope)
    .option('-d, --time-diff', 'with the seconds that an entry has to live')
    .action(async (_scope: string | undefined, options: ConntrackOptions, command: Command) => {
      await listConnections(context, await openMaps(context, command), options);
    });
  withOutput(group('nat', 'Masqueraded flows').command('list').alias('ls'))
    .description('List flows whose source the node has replaced by its own address')
    .action(async (options: OutputOptions, command: Command) => {
      const maps = await openMaps(context, command);
      const nowS = monotonicSeconds();
      const entries = SNAT_MAPS.flatMap(([name, family]) => maps.masqueraded(name, family));
      const rows = entries.map((entry) => [snatKeyText(entry), snatText(entry, nowS)] as const);
      const text = rows.map(([key, value]) => `${key} ${value}\n`).join('');
      context.print((await formatted(asMapObject(rows), options)) ?? text);
    });
  addPolicyCommands(group('policy', 'Who may talk to an endpoint, and whom it may talk to'), context);
}

function addPolicyCommands(group: Command, context: Context): void {
  withOutput(group.command('get'))
    .description('Show the policy of one endpoint')
    .argument('[endpoint]', 'number of an endpoint', checkEndpointId)
    .option('-n, --numeric', NUMERIC_HELP)
    .option('--all', 'of all endpoints')
    .action(async (id: number | undefined, options: PolicyOptions, command: Command) => {
      if ((id === undefined) !== (options.all === true)) {
        throw new CiliumError('InvalidArgument', 'give either the number of an endpoint or --all');
      }
      const maps = await openMaps(context, command);
      if (id === undefined) return listPolicies(context, maps, options);
      const endpoint = localEndpoints(maps).get(id);
      if (endpoint === undefined) throw new CiliumError('NotFound', `no endpoint ${id} in ${maps.path('cilium_lxc')}`);
      const entries = maps.policy(endpoint.policySlot);
      const labels = await loadIdentityLabels(context, options.numeric);
      context.print((await formatted(policyJson(entries), options)) ?? policyTable(entries, labels));
    });
  withOutput(group.command('list').alias('ls'))
    .description('Show the policies of all endpoints')
    .option('-n, --numeric', NUMERIC_HELP)
    .action(async (options: PolicyOptions, command: Command) => {
      await listPolicies(context, await openMaps(context, command), options);
    });
}

async function listPolicies(context: Context, maps: PinnedMaps, options: PolicyOptions): Promise<void> {
  const endpoints = [...localEndpoints(maps)].sort(([a], [b]) => a - b);
  const policies = endpoints.map(([id, { policySlot }]) => ({ id, policySlot, entries: maps.policy(policySlot) }));
  const asObject = Object.fromEntries(policies.map(({ id, entries }) => [id, policyJson(entries)]));
  const asJson = await formatted(asObject, options);
  if (asJson !== undefined) {
    context.print(asJson);
    return;
  }
  if (policies.length === 0) context.warn('No endpoints found.');
  const labels = await loadIdentityLabels(context, options.numeric);
  for (const { id, policySlot, entries } of policies) {
    const path = `${maps.path('cilium_policy')} slot ${policySlot}`;
    context.print(`Endpoint ID: ${id}\nPath: ${path}\n\n${policyTable(entries, labels)}\n\n`);
  }
}

async function listConnections(context: Context, maps: PinnedMaps, options: ConntrackOptions): Promise<void> {
  const nowS = options.timeDiff === true ? monotonicSeconds() : undefined;
  const lists = CONNTRACK_MAPS.map(([name, family]) => maps.connections(name, family));
  const json = await formatted(
    lists.flat().map((connection) => ({ key: connectionKeyText(connection), value: connectionText(connection, nowS) })),
    options,
  );
  const texts = lists.map((connections) => {
    return connections.map((entry) => `${connectionKeyText(entry)} ${connectionText(entry, nowS)} \n`).join('');
  });
  context.print(json ?? texts.map((text) => `${text}\n`).join(''));
}

/** The endpoints that have containers, by their number. */
function localEndpoints(maps: PinnedMaps): Map<number, EndpointInfo> {
  const containers = maps.endpoints().filter(({ info }) => !info.host);
  return new Map(containers.map(({ info }) => [info.id, info]));
}

async function printMap(
  context: Context,
  titles: readonly [string, string],
  rows: readonly (readonly [string, string])[],
  options: OutputOptions,
): Promise<void> {
  const sorted = rows.toSorted(([a], [b]) => (a < b ? -1 : 1));
  context.print((await formatted(asMapObject(sorted), options)) ?? table([titles, ...sorted]));
  if (rows.length === 0) context.warn('No entries found.');
}

function asMapObject(rows: readonly (readonly [string, string])[]): Record<string, string[]> {
  return Object.fromEntries(rows.map(([key, value]) => [key, [value]]));
}

/** Throws unless root; loads the FFI only then. */
async function openMaps(context: Context, command: Command): Promise<PinnedMaps> {
  if (!context.io.isRoot) {
    const names = [];
    for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
    throw new CiliumError('Precondition', `Please run "${names.join(' ')}" command(s) with root privileges.`);
  }
  const { PinnedMaps } = await import('../pinned-maps.ts');
  return new PinnedMaps(context.io.env.CILIUM_BPF_ROOT);
}

/** Of CLOCK_MONOTONIC, the clock of the kernel's programs. */
function monotonicSeconds(): number {
  return process.hrtime()[0];
}

function checkScope(text: string): string {
  if (text === 'global') return text;
  throw new InvalidArgumentError('There is one table for all: leave it out or say global.');
}

function checkEndpointId(text: string): number {
  if (/^[1-9][0-9]{0,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected the number of an endpoint.');
}
