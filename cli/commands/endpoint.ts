// SPDX-License-Identifier: Apache-2.0

/** `cilium endpoint list|get|labels`: the containers under control of the agent. */
import type { Command } from 'commander';
import type {
  Endpoint,
  LabelConfiguration,
  LabelConfigurationSpec,
  LabelConfigurationStatus,
} from '../../api/models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { formatLabel, parseLabel, parseSelectLabel, selectsLabel } from '../../identity/label.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

interface ListOptions extends OutputOptions {
  readonly headers: boolean;
}

interface GetOptions extends OutputOptions {
  readonly labels?: string;
}

interface LabelOptions {
  readonly add?: string;
  readonly delete?: string;
}

const ID_HELP = 'number, or container-name:NAME, container-id:ID, docker-endpoint:ID, ipv4:ADDRESS, ipv6:ADDRESS';

export function register(program: Command, context: Context): void {
  const group = program.command('endpoint').description('Containers under control of the agent');
  withOutput(group.command('list').alias('ls'))
    .description('List all endpoints')
    .option('--no-headers', 'without the lines of titles')
    .action(async (options: ListOptions) => {
      const endpoints = sorted(await context.client().endpoints());
      context.print((await formatted(endpoints, options)) ?? endpointTable(endpoints, options.headers));
    });
  withOutput(group.command('get'))
    .description('Show all there is to know of an endpoint, as JSON')
    .argument('[id]', ID_HELP)
    .option('-l, --labels <labels>', 'the endpoints that carry all these labels, comma-separated')
    .action(async (id: string | undefined, options: GetOptions) => {
      const endpoints = await findEndpoints(context, id, options.labels);
      context.print((await formatted(endpoints, { output: 'json', ...options }))!);
    });
  group
    .command('labels')
    .description('Show the labels of an endpoint, add some or take some away')
    .argument('<id>', ID_HELP)
    .option('-a, --add <labels>', 'labels to add, comma-separated')
    .option('-d, --delete <labels>', 'labels to take away, comma-separated')
    .action((id: string, options: LabelOptions) => showLabels(context, id, options));
}

async function findEndpoints(
  context: Context,
  id: string | undefined,
  labels: string | undefined,
): Promise<Endpoint[]> {
  if ((id === undefined) === (labels === undefined)) {
    throw new CiliumError('InvalidArgument', 'give either an endpoint ID or --labels');
  }
  if (labels !== undefined) return sorted(await context.client().endpoints(labelTexts(labels)));
  return [await context.client().endpoint(id!)];
}

async function showLabels(context: Context, id: string, options: LabelOptions): Promise<void> {
  const client = context.client();
  if (options.add !== undefined || options.delete !== undefined) {
    const { status } = await client.endpointLabels(id);
    await client.setEndpointLabels(id, changedLabels(status, labelTexts(options.add), labelTexts(options.delete)));
  }
  context.print(labelTable(await client.endpointLabels(id)));
}

/** What is set by hand after the change. Taking away a label that was added forgets it; any other is switched off. */
function changedLabels(
  { realized, derived, ...status }: LabelConfigurationStatus,
  adds: readonly string[],
  deletes: readonly string[],
): LabelConfigurationSpec {
  const known = [...status['security-relevant'], ...derived, ...realized.disabled];
  const gone = new Set<string>();
  for (const text of deletes) {
    const matches = known.filter((label) => selectsLabel(parseSelectLabel(text), parseLabel(label)));
    if (matches.length === 0) throw new CiliumError('NotFound', `the endpoint has no label ${text}`);
    for (const label of matches) gone.add(label);
  }
  const isAdded = new Set(adds);
  const switchedOff = new Set(realized.disabled);
  const user = [...realized.user, ...adds.filter((label) => !switchedOff.has(label))];
  const disabled = [...realized.disabled, ...[...gone].filter((label) => !realized.user.includes(label))];
  return {
    user: [...new Set(user)].filter((label) => !gone.has(label)),
    disabled: [...new Set(disabled)].filter((label) => !isAdded.has(label)),
  };
}

/** Every label that counts, and those that were taken away. */
function labelTable({ status }: LabelConfiguration): string {
  const rows = [
    ...status['security-relevant'].map((label) => [label, 'Enabled']),
    ...status.realized.disabled.map((label) => [label, 'Disabled']),
  ];
  return table(
    rows.sort(([a], [b]) => (a! < b! ? -1 : 1)),
    { minWidth: 2 },
  );
}

/** Comma-separated labels in their full form: `id=a` is `unspec:id=a`. */
function labelTexts(text = ''): string[] {
  return text
    .split(',')
    .filter((label) => label !== '')
    .map((label) => formatLabel(parseLabel(label)));
}

function sorted(endpoints: readonly Endpoint[]): Endpoint[] {
  return [...endpoints].sort((a, b) => a.id - b.id);
}

const HEADERS = [
  [
    'ENDPOINT',
    'POLICY (ingress)',
    'POLICY (egress)',
    'IDENTITY',
    'LABELS (source:key[=value])',
    'IPv6',
    'IPv4',
    'STATUS',
  ],
  ['', 'ENFORCEMENT', 'ENFORCEMENT', '', '', '', '', ''],
];

/** One endpoint a row, its further labels below the first. */
export function endpointTable(endpoints: readonly Endpoint[], headers: boolean): string {
  const rows = endpoints.flatMap(({ id, status }) => {
    const [first = 'no labels', ...more] = status.identity?.labels ?? [];
    const enabled = status.policy.realized['policy-enabled'];
    const [pair] = status.networking.addressing;
    const row = [
      String(id),
      enabled === 'ingress' || enabled === 'both' ? 'Enabled' : 'Disabled',
      enabled === 'egress' || enabled === 'both' ? 'Enabled' : 'Disabled',
      status.identity === undefined ? '<no label id>' : String(status.identity.id),
      first,
      pair?.ipv6 ?? '',
      pair?.ipv4 ?? '',
      status.state,
    ];
    return [row, ...more.map((label) => ['', '', '', '', label, '', '', ''])];
  });
  return table([...(headers ? HEADERS : []), ...rows], { trailingTab: true });
}
