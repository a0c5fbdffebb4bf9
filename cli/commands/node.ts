// SPDX-License-Identifier: Apache-2.0

/** `cilium node list`: the nodes of the cluster, their addresses and the ranges of their containers. */
import type { Command } from 'commander';
import type { NodeElement } from '../../api/node-models.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

const HEADER = ['Name', 'IPv4 Address', 'Endpoint CIDR', 'IPv6 Address', 'Endpoint CIDR', 'Source'];
/** What a node does not have. */
const NONE = '<nil>';

export function register(program: Command, context: Context): void {
  const group = program.command('node').description('Nodes of the cluster');
  withOutput(group.command('list').alias('ls'))
    .description('List the nodes, their addresses and the ranges of their containers')
    .action(async (options: OutputOptions) => {
      const { 'nodes-added': nodes } = await context.client().nodes();
      context.print((await formatted(nodes, options)) ?? nodeTable(nodes));
    });
}

export function nodeTable(nodes: readonly NodeElement[]): string {
  const rows = nodes.map(({ name, 'primary-address': { ipv4, ipv6 }, source }) => {
    const cells = [ipv4, ipv6].flatMap((address) => [address.ip ?? NONE, address['alloc-range'] ?? NONE]);
    return [name, ...cells, source];
  });
  return table([HEADER, ...rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1))], { minWidth: 0 });
}
