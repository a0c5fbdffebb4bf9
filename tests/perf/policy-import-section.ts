// SPDX-License-Identifier: Apache-2.0

/**
 * Rules imported by the `cilium` command into a real agent, until the kernel's policy maps of all endpoints have them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { WORLD } from '../../lab/addresses.ts';
import type { LabNode } from '../../lab/node.ts';
import { LOCAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';
import { IpAddress } from '../../net/ip.ts';
import { startPulse } from './agent-pulse.ts';
import { residentOf } from './agent-section.ts';
import type { KernelWatch, WantedEntry } from './kernel-watch.ts';
import { BASE_RULE, ON_TOP_PORT, ON_TOP_RULE, PROBE_PORT, RULE_KINDS, rulesOf, type RuleKind } from './policy-rules.ts';
import { rotated, Series } from './statistics.ts';
import { timedCommand, type CommandTimes } from './timed-command.ts';

const TCP = 6;
const ALL_BITS = 24;
const PLUGIN_SOCKET = 'run/docker/plugins/cilium.sock';

export interface ImportMeasurement {
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Addresses of the endpoints that the rules are for. */
  readonly servers: readonly IpAddress[];
  readonly client: IpAddress;
  readonly watch: KernelWatch;
  readonly onProgress: (step: string) => void;
}

/** Figures of one kind and number of rules on one number of endpoints. */
export type ImportFigure = keyof CommandTimes | 'one more' | 'one less' | 'stall' | 'resident' | 'entries' | 'delete';

export function importSeries(kind: RuleKind, size: number, endpoints: number, figure: ImportFigure): string {
  return `${kind} ${size} ${endpoints} ${figure}`;
}

/** Adds to `series`. Expects a node without rules and leaves it so. */
export async function measureImports(node: LabNode, series: Series, options: ImportMeasurement): Promise<void> {
  const { sizes, rounds, onProgress, servers } = options;
  await command(node, options, 'base', [BASE_RULE]);
  for (let round = 0; round < rounds; round++) {
    for (const kind of rotated(RULE_KINDS, round)) {
      for (const size of sizes) {
        onProgress(`policy: ${size} ${kind} on ${servers.length} endpoints, round ${round + 1} of ${rounds}`);
        await measureOne(node, series, options, kind, size, round === 0);
      }
    }
  }
  await node.cilium(['policy', 'delete', '--all']);
}

async function measureOne(
  node: LabNode,
  series: Series,
  options: ImportMeasurement,
  kind: RuleKind,
  size: number,
  isFirst: boolean,
): Promise<void> {
  const { watch, servers } = options;
  const add = (figure: ImportFigure, value: number): void =>
    series.add(importSeries(kind, size, servers.length, figure), value);
  const wanted = wantedEntry(kind, options);
  const label = `bench=${kind}`;
  const stop = isFirst ? startPulse(join(node.machine.root, PLUGIN_SOCKET)) : undefined;
  if (stop) await delay(200);
  const times = await command(node, options, kind, rulesOf(kind, size), wanted);
  if (stop) add('stall', await stop());
  // The pulse takes some of the agent's time: that round tells the longest wait only.
  else for (const [figure, value] of Object.entries(times)) add(figure as keyof CommandTimes, value as number);
  add('entries', watch.count(servers[0]!));
  const onTop: WantedEntry = () => ({ identity: 0, egress: false, protocol: TCP, port: ON_TOP_PORT, bits: ALL_BITS });
  add('one more', (await command(node, options, 'one', [ON_TOP_RULE], onTop)).sentToInForce);
  const less = await timedCommand(node, ['policy', 'delete', 'bench=one'], () => watch.waitFor(servers, onTop, false));
  add('one less', less.sentToInForce);
  add('resident', residentOf(node.agentPid!));
  const gone = await timedCommand(node, ['policy', 'delete', label], () => watch.waitFor(servers, wanted, false));
  add('delete', gone.sentToInForce);
}

/** Imports rules; with `wanted`, until the maps of all servers have that entry. */
async function command(
  node: LabNode,
  { watch, servers }: ImportMeasurement,
  name: string,
  rules: readonly object[],
  wanted?: WantedEntry,
): Promise<CommandTimes> {
  const file = join(node.machine.dir, `bench-${name}.json`);
  writeFileSync(file, `[\n${rules.map((rule) => JSON.stringify(rule)).join(',\n')}\n]\n`);
  return await timedCommand(node, ['policy', 'import', file], () =>
    wanted === undefined ? 0 : watch.waitFor(servers, wanted, true),
  );
}

/** The entry of the last rule; the agent computes all of them before it writes any. */
export function wantedEntry(
  kind: RuleKind,
  { client, watch }: Pick<ImportMeasurement, 'client' | 'watch'>,
): WantedEntry {
  const port = { egress: false, protocol: TCP, port: PROBE_PORT, bits: ALL_BITS };
  const world = IpAddress.parse(WORLD.ipv4);
  switch (kind) {
    case 'ports':
      return () => ({ identity: 0, ...port });
    case 'peers':
      return () => ({ identity: watch.identityOf(client), ...port });
    case 'CIDRs':
      return () => {
        const identity = watch.identityOf(world);
        // Until ipcache knows the prefix, its addresses are not judged by the rule.
        if (identity < LOCAL_IDENTITY_MIN) return undefined;
        return { identity, egress: true, protocol: 0, port: 0, bits: 0 };
      };
  }
}
