// SPDX-License-Identifier: Apache-2.0

/** What can be asked about the policy below `cilium policy`; each command's module loads when it runs. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { withOutput } from '../output/print.ts';
import type { ExplainOptions } from './policy-explain.ts';
import type { SelectorsOptions } from './policy-selectors.ts';
import type { SimulateOptions } from './policy-simulate.ts';
import type { TraceOptions } from './policy-trace.ts';

export function registerQuestions(group: Command, context: Context): void {
  const selectors = {
    selectors: 'Show the peers that rules speak of, and the identities they select',
    'subject-selectors': 'Show whom rules are for, and the identities of endpoints here that they select',
  } as const;
  for (const kind of ['selectors', 'subject-selectors'] as const) {
    withOutput(group.command(kind))
      .description(selectors[kind])
      .option('-v, --verbose', 'all labels of the rules instead of the name of their policy')
      .action(async (options: SelectorsOptions) => {
        await (await import('./policy-selectors.ts')).showSelectors(context, kind, options);
      });
  }
  withOutput(group.command('trace'))
    .description('Say whether rules let a flow between labels pass, and which rules say so')
    .option('-s, --src <label>', 'label of the sender; without a source: container', append)
    .option('--src-identity <number>', 'identity of the sender', append)
    .option('--src-endpoint <id>', 'endpoint that sends, as in `cilium endpoint get`', append)
    .option('-d, --dst <label>', 'label of the receiver', append)
    .option('--dst-identity <number>', 'identity of the receiver', append)
    .option('--dst-endpoint <id>', 'endpoint that receives', append)
    .option('--dport <port>', 'port of the receiver: PORT[/tcp|udp|sctp|any]; all that are given have to pass', append)
    .option('-v, --verbose', 'also the rules that are for others')
    .action(async (options: TraceOptions) => {
      await (await import('./policy-trace.ts')).tracePolicy(context, options);
    });
  withOutput(group.command('explain'))
    .description('Say why a flow passes or not: rules, identities, what the kernel holds, and what would allow it')
    .argument('<from>', 'endpoint (ID, container name or ID), IP address, identity:NUMBER, reserved:world, or labels')
    .argument('<to>', 'the same')
    .option('--dport <port>', 'port of the receiver: PORT[/tcp|udp|sctp]; without it only rules for all ports count')
    .option('--icmp <type>', 'instead of a port: number or name of an ICMP message')
    .option('--icmpv6 <type>', 'instead of a port: number or name of an ICMPv6 message')
    .option('--suggest', 'print only the rule that would allow it, for `cilium policy import -`')
    .action(async (from: string, to: string, options: ExplainOptions) => {
      await (await import('./policy-explain.ts')).explainFlow(context, from, to, options);
    });
  withOutput(group.command('simulate'))
    .description('Say what an import or a deletion would newly allow or deny, to endpoints and to flows seen')
    .argument('[path...]', 'files or folders, as for `cilium policy import`')
    .option('--replace', 'rules with the labels of an imported rule give way to it')
    .option('--replace-with-labels <labels>', 'rules with these labels (comma-separated) give way to the import')
    .option('--delete <labels>', 'instead of an import: delete the rules with all these labels (comma-separated)')
    .option('--delete-all', 'instead of an import: delete every rule')
    .action(async (paths: string[], options: SimulateOptions) => {
      await (await import('./policy-simulate.ts')).simulate(context, paths, options);
    });
}

/** For options that may be repeated. */
function append(value: string, earlier: readonly string[] = []): string[] {
  return [...earlier, value];
}
