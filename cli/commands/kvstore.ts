// SPDX-License-Identifier: Apache-2.0

/** `cilium kvstore get|set|delete`: keys by hand, through the agent or, with --kvstore, straight in etcd. */
import type { Command } from 'commander';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { withKeys, type KeyEntry, type KeyOptions } from '../keys.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';

interface GetOptions extends KeyOptions, OutputOptions {
  readonly recursive?: boolean;
}

interface SetOptions extends KeyOptions {
  readonly key?: string;
  readonly value?: string;
  readonly force?: boolean;
}

interface DeleteOptions extends KeyOptions {
  readonly recursive?: boolean;
  readonly force?: boolean;
}

export function register(program: Command, context: Context): void {
  const group = program.command('kvstore').description('Keys of the key-value store');
  withOutput(withStore(group.command('get')))
    .description('Show a key')
    .argument('<key>', 'such as cilium/state/nodes/v1/default/node1')
    .option('--recursive', 'all keys that begin with it; "" for all there are')
    .action(async (key: string, options: GetOptions) => {
      const entries = await withKeys(context, options, (keys) => {
        return options.recursive === true ? keys.list(key) : keys.get(key).then((entry) => [entry]);
      });
      const model = options.recursive === true ? asObject(entries) : entries[0]!.value;
      context.print((await formatted(model, options)) ?? keysText(entries));
      if (entries.length === 0) context.warn('No entries found.');
    });
  withStore(group.command('set'))
    .description('Write a key; it stays until it is deleted')
    .option('--key <key>', 'the key')
    .option('--value <value>', 'what to write')
    .option('--force', 'also a key that the agents live from')
    .action(async (options: SetOptions) => {
      const { key, value, force = false } = options;
      if (key === undefined || value === undefined) {
        throw new CiliumError(
          'InvalidArgument',
          `give --key and --value: --${key === undefined ? 'key' : 'value'} is missing`,
        );
      }
      await withKeys(context, options, (keys) => keys.set(key, value, { force }));
    });
  withStore(group.command('delete'))
    .description('Delete a key')
    .argument('<key>', 'the key, or how the keys begin')
    .option('--recursive', 'all keys that begin with it')
    .option('--force', 'also keys that the agents live from')
    .action(async (key: string, options: DeleteOptions) => {
      const { recursive = false, force = false } = options;
      const deleted = await withKeys(context, options, (keys) => keys.delete(key, { recursive, force }));
      if (deleted === 0) context.warn('No entries found.');
    });
}

function withStore(command: Command): Command {
  return command
    .option('--kvstore <type>', 'etcd: ask it directly, without an agent')
    .option('--kvstore-opt <options>', 'etcd.address=URL,… or etcd.config=FILE', collectOptions);
}

/** Given once with commas or several times. */
function collectOptions(text: string, before: readonly string[] = []): string[] {
  return [...before, ...text.split(',')];
}

function keysText(entries: readonly KeyEntry[]): string {
  return entries.map(({ key, value }) => `${key} => ${value}\n`).join('');
}

/** As Cilium's client shows them: values as bytes. */
function asObject(entries: readonly KeyEntry[]): Record<string, object> {
  return Object.fromEntries(
    entries.map(({ key, value, modRevision, leaseId }) => [
      key,
      { Data: Buffer.from(value).toString('base64'), ModRevision: modRevision, LeaseID: leaseId ?? '0' },
    ]),
  );
}
