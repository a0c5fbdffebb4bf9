// SPDX-License-Identifier: Apache-2.0

/** `cilium policy trace`: each source with each destination, asked of the agent; labels need not belong to anybody. */
import type { CiliumClient } from '../../api/client.ts';
import type { PolicyTraceResult, TraceSelector } from '../../api/policy-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { formatted, type OutputOptions } from '../output/print.ts';

export interface TraceOptions extends OutputOptions {
  readonly src?: readonly string[];
  readonly srcIdentity?: readonly string[];
  readonly srcEndpoint?: readonly string[];
  readonly dst?: readonly string[];
  readonly dstIdentity?: readonly string[];
  readonly dstEndpoint?: readonly string[];
  readonly dport?: readonly string[];
  readonly verbose?: boolean;
}

const SEPARATOR = '-'.repeat(64);

export async function tracePolicy(context: Context, options: TraceOptions): Promise<void> {
  const client = context.client();
  const sources = await labelSets(client, options.src, options.srcIdentity, options.srcEndpoint);
  const destinations = await labelSets(client, options.dst, options.dstIdentity, options.dstEndpoint);
  if (sources.length === 0) throw missing('source', 'src');
  if (destinations.length === 0) throw missing('destination', 'dst');
  const dports = (options.dport ?? []).map(parsePort);
  const results: PolicyTraceResult[] = [];
  for (const from of sources) {
    for (const to of destinations) {
      results.push(
        await client.tracePolicy({
          from: { labels: from },
          to: { labels: to, dports },
          verbose: options.verbose === true,
        }),
      );
    }
  }
  const blocks = results.map(({ log, verdict }) => `${SEPARATOR}\n${log}\nFinal verdict: ${verdict.toUpperCase()}\n`);
  context.print((await formatted(results, options)) ?? blocks.join('\n'));
}

/** The labels given are one set; each identity and each endpoint is another. */
async function labelSets(
  client: CiliumClient,
  labels: readonly string[] = [],
  identities: readonly string[] = [],
  endpoints: readonly string[] = [],
): Promise<string[][]> {
  const sets = labels.length > 0 ? [labels.flatMap((text) => text.split(',')).filter((text) => text !== '')] : [];
  for (const id of identities) sets.push((await client.identity(id)).labels);
  for (const id of endpoints) {
    const { identity } = (await client.endpoint(id)).status;
    if (identity === undefined) throw new CiliumError('NotFound', `endpoint ${id} has no identity yet`);
    sets.push(identity.labels);
  }
  return sets;
}

function missing(what: string, flag: string): CiliumError {
  return new CiliumError('InvalidArgument', `no ${what}: give --${flag}, --${flag}-identity or --${flag}-endpoint`);
}

type TracedPort = NonNullable<TraceSelector['to']['dports']>[number];

/** `80`, `80/tcp` */
function parsePort(text: string): TracedPort {
  const [, port, protocol = 'any'] = /^([0-9]{1,5})(?:\/(tcp|udp|sctp|any))?$/i.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535) {
    throw new CiliumError('InvalidArgument', `--dport "${text}": expected PORT[/tcp|udp|sctp|any], as in 80/tcp`);
  }
  return { port: Number(port), protocol: protocol.toUpperCase() as NonNullable<TracedPort['protocol']> };
}
