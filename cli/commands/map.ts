// SPDX-License-Identifier: Apache-2.0

/** `cilium map list|get`: the BPF maps as the agent sees them. */
import { basename } from 'node:path';
import type { Command } from 'commander';
import type { BpfMap, BpfMapEntry } from '../../api/models.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

const STATES: Readonly<Record<BpfMapEntry['desired-action'], string>> = {
  ok: 'sync',
  insert: 'to-be-inserted',
  delete: 'to-be-deleted',
};

export function register(program: Command, context: Context): void {
  const group = program.command('map').description('The BPF maps as the agent sees them');
  withOutput(group.command('list').alias('ls'))
    .description('List the maps and how many entries they have')
    .option('--verbose', 'with all entries')
    .action(async (options: OutputOptions & { verbose?: boolean }) => {
      const list = await context.client().maps();
      const text = options.verbose === true ? list.maps.map(verboseText).join('') : listText(list.maps);
      context.print((await formatted(list, options)) ?? text);
    });
  withOutput(group.command('get'))
    .description('List the entries of one map')
    .argument('<name>', 'such as cilium_ipcache')
    .action(async (name: string, options: OutputOptions) => {
      const map = await context.client().map(name);
      context.print((await formatted(map, options)) ?? entriesText(map));
    });
}

function listText(maps: readonly BpfMap[]): string {
  const rows = maps.map(({ path, cache }) => {
    const errors = cache?.filter((entry) => entry['last-error'] !== undefined).length ?? 0;
    return [
      basename(path),
      cache === undefined ? 'unknown' : String(cache.length),
      String(errors),
      String(cache !== undefined),
    ];
  });
  return table([
    ['Name', 'Num entries', 'Num errors', 'Cache enabled'],
    ...rows.sort(([a], [b]) => (a! < b! ? -1 : 1)),
  ]);
}

function verboseText(map: BpfMap): string {
  return `## Map: ${basename(map.path)}\n${entriesText(map)}\n`;
}

function entriesText({ cache }: BpfMap): string {
  if (cache === undefined) return 'Cache is disabled\n\n';
  if (cache.length === 0) return 'Cache is empty\n\n';
  const rows = cache.map((entry) => [
    entry.key,
    entry.value,
    STATES[entry['desired-action']],
    entry['last-error'] ?? '',
  ]);
  return table([['Key', 'Value', 'State', 'Error'], ...rows]);
}
