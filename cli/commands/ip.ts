// SPDX-License-Identifier: Apache-2.0

/** `cilium ip list|get`: which address has which identity, on all nodes, and who says so. */
import type { Command } from 'commander';
import type { IpListEntry } from '../../api/cluster-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { reservedLabels } from '../../identity/numeric-identity.ts';
import type { Context } from '../context.ts';
import { loadIdentityLabels, type IdentityLabels } from '../identity-labels.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

interface ListOptions extends OutputOptions {
  readonly numeric?: boolean;
  readonly verbose?: boolean;
}

interface GetOptions extends ListOptions {
  readonly labels?: string;
}

const NONE = 'N/A';
const FRAME = '='.repeat(80);

export function register(program: Command, context: Context): void {
  const group = program.command('ip').description('Addresses and their identities');
  withOutput(group.command('list').alias('ls'))
    .description('List all addresses and prefixes that have an identity')
    .option('-n, --numeric', 'identities as numbers')
    .option('-v, --verbose', 'with the node and the key of encryption')
    .action(async (options: ListOptions) => {
      const entries = await context.client().addresses();
      context.print((await formatted(entries, options)) ?? (await listText(context, entries, options)));
    });
  withOutput(group.command('get'))
    .description('Show what is inside a prefix, or who has an identity')
    .argument('[cidr]', 'prefix or address')
    .option('-l, --labels <labels>', 'addresses whose identity carries all these labels, comma-separated')
    .option('-n, --numeric', 'identities as numbers')
    .option('-v, --verbose', 'with the node and the key of encryption')
    .action((cidr: string | undefined, options: GetOptions) => getAddresses(context, cidr, options));
}

async function getAddresses(context: Context, cidr: string | undefined, options: GetOptions): Promise<void> {
  if ((cidr === undefined) === (options.labels === undefined)) {
    throw new CiliumError('InvalidArgument', 'give either a prefix such as 10.15.0.0/24 or --labels');
  }
  const labels = options.labels?.split(',') ?? [];
  const query = cidr === undefined ? { labels } : { cidr };
  const entries = await context.client().addresses(query);
  const json = await formatted(entries, options);
  context.print(json ?? (cidr === undefined ? ownersText(labels, entries) : await listText(context, entries, options)));
}

/** One address a row; further labels of an identity stand below the first. */
async function listText(context: Context, entries: readonly IpListEntry[], options: ListOptions): Promise<string> {
  const labels = await loadIdentityLabels(context, options.numeric);
  const more = options.verbose === true;
  const rows = entries.flatMap((entry) => {
    const [first, ...others] = identityCells(entry.identity, labels);
    const details = more ? [entry.hostIP ?? '', String(entry.encryptKey)] : [];
    const blanks = details.map(() => '');
    return [
      [entry.cidr, first!, entry.metadata.source, ...details],
      ...others.map((label) => ['', label, '', ...blanks]),
    ];
  });
  const header = ['IP', 'IDENTITY', 'SOURCE', ...(more ? ['HOST', 'ENCRYPT_KEY'] : [])];
  return table([header, ...rows], { minWidth: 2 });
}

function identityCells(identity: number, labels: IdentityLabels): readonly string[] {
  const known = labels?.get(identity) ?? (labels && reservedLabels(identity)?.toTexts()) ?? [];
  return known.length === 0 ? [String(identity)] : known;
}

/** Whoever has an identity with these labels. Docker has no namespaces. */
function ownersText(labels: readonly string[], entries: readonly IpListEntry[]): string {
  const rows = entries.map(({ cidr, hostIP, identity, metadata }) => {
    return [cidr, hostIP ?? NONE, String(identity), metadata.name ?? NONE, NONE];
  });
  const frame = [FRAME, ...labels, FRAME].map((line) => `${line}\n`).join('');
  return frame + table([['IP', 'HOST', 'IDENTITY', 'POD', 'NAMESPACE'], ...rows]);
}
