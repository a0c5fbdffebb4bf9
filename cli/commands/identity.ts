// SPDX-License-Identifier: Apache-2.0

/** `cilium identity list|get`: the numbers and the labels behind them, one label a row. */
import type { Command } from 'commander';
import type { Identity } from '../../api/models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

interface GetOptions extends OutputOptions {
  readonly label?: string;
}

export function register(program: Command, context: Context): void {
  const group = program.command('identity').description('Security identities and their labels');
  withOutput(group.command('list').alias('ls'))
    .description('List all identities, or the one with exactly the labels given')
    .argument('[labels...]', 'source:key=value')
    .action(async (labels: string[], options: OutputOptions) => {
      const identities = await context.client().identities(labels);
      identities.sort((a, b) => a.id - b.id);
      context.print((await formatted(identities, options)) ?? identityTable(identities));
    });
  withOutput(group.command('get'))
    .description('Show one identity')
    .argument('[id]', 'number')
    .option('--label <labels>', 'the identity with exactly these labels, comma-separated')
    .action(async (id: string | undefined, options: GetOptions) => {
      const identities = await findIdentities(context, id, options.label);
      context.print((await formatted(identities, options)) ?? identityTable(identities));
    });
}

async function findIdentities(
  context: Context,
  id: string | undefined,
  label: string | undefined,
): Promise<Identity[]> {
  if ((id === undefined) === (label === undefined)) {
    throw new CiliumError('InvalidArgument', 'give either the number of an identity or --label');
  }
  if (label !== undefined) return context.client().identities(label.split(','));
  return [await context.client().identity(id!)];
}

/** ID and labels; further labels of an identity stand below the first. */
export function identityTable(identities: readonly Identity[]): string {
  const rows = identities.flatMap(({ id, labels }) => {
    const [first = '', ...more] = labels;
    return [[String(id), first], ...more.map((label) => ['', label])];
  });
  return table([['ID', 'LABELS'], ...rows], { minWidth: 2 });
}
