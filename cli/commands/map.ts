// SPDX-License-Identifier: Apache-2.0

/** `cilium map list|get`: the BPF maps as the agent sees them. */
import { basename } from 'node:path';
import type { Command } from 'commander';
import type { BpfMap } from '../../api/models.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

export function register(program: Command, context: Context): void {
  const group = program.command('map').description('The BPF maps as the agent sees them');
  withOutput(group.command('list').alias('ls'))
    .description('List the maps and how many entries they have')
    .action(async (options: OutputOptions) => {
      const list = await context.client().maps();
      context.print((await formatted(list, options)) ?? listText(list.maps));
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
  const rows = maps.map((map) => {
    const entries = map['num-entries'];
    const size = [String(map['max-entries']), String(map.memory)];
    return [basename(map.path), entries === undefined ? 'unknown' : String(entries), ...size, map.type];
  });
  return table([['Name', 'Num entries', 'Max entries', 'Memory', 'Type'], ...rows.sort(byFirst)]);
}

function entriesText({ cache }: BpfMap): string {
  if (cache === undefined) return 'The entries of this map are not shown here; "cilium bpf --help" names what is.\n';
  return table([['Key', 'Value'], ...cache.map(({ key, value }) => [key, value]).sort(byFirst)]);
}

function byFirst([a = '']: readonly string[], [b = '']: readonly string[]): number {
  return a < b ? -1 : 1;
}
