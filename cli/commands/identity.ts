// SPDX-License-Identifier: Apache-2.0

/** `cilium identity list|get`: the numbers and the labels behind them, one label a row. */
import type { Command } from 'commander';
import type { Identity } from '../../api/models.ts';
import { CiliumError, isCiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

interface ListOptions extends OutputOptions {
  readonly endpoints?: boolean;
}

interface GetOptions extends OutputOptions {
  readonly label?: string;
}

export function register(program: Command, context: Context): void {
  const group = program.command('identity').description('Security identities and their labels');
  withOutput(group.command('list').alias('ls'))
    .description('List all identities, or the one with exactly the labels given')
    .argument('[labels...]', 'source:key=value')
    .option('--endpoints', 'only identities of endpoints of this node, with their number')
    .action(async (labels: string[], options: ListOptions) => {
      if (options.endpoints === true) {
        await listInUse(context, labels, options);
        return;
      }
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

async function listInUse(context: Context, labels: readonly string[], options: ListOptions): Promise<void> {
  if (labels.length > 0) throw new CiliumError('InvalidArgument', 'give either labels or --endpoints');
  const used = await context.client().identityEndpoints();
  const rows = used.flatMap(({ identity, refCount }) => {
    const [first, ...more] = identityRows(identity);
    return [[...first!, String(refCount), ''], ...more.map((row) => [...row, '', ''])];
  });
  context.print((await formatted(used, options)) ?? table([['ID', 'LABELS', 'REFCOUNT'], ...rows]));
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
  try {
    return [await context.client().identity(id!)];
  } catch (error) {
    if (!isCiliumError(error, 'NotFound')) throw error;
    throw new CiliumError('NotFound', `Cannot get identity for given ID ${id!}`, {}, error);
  }
}

/** ID and labels; further labels of an identity stand below the first. */
export function identityTable(identities: readonly Identity[]): string {
  return table([['ID', 'LABELS'], ...identities.flatMap(identityRows)], { minWidth: 2 });
}

function identityRows({ id, labels: [first = '', ...more] }: Identity): string[][] {
  return [[String(id), first], ...more.map((label) => ['', label])];
}
