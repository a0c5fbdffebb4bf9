// SPDX-License-Identifier: Apache-2.0

/** `cilium-health status|ping`: which nodes of the cluster answer, at which addresses, and how fast. */
import type { Command } from 'commander';
import type { HealthStatus } from '../../api/health-models.ts';
import type { Context } from '../context.ts';
import { nodeDetails, nodeRows, reachableText } from '../output/health-text.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { alignTabs } from '../output/table.ts';

interface StatusOptions extends OutputOptions {
  readonly probe?: boolean;
  readonly succinct?: boolean;
  readonly verbose?: boolean;
}

export function registerStatus(program: Command, context: Context): void {
  withOutput(program.command('status'))
    .description('Show which nodes answer and how fast')
    .option('--probe', 'ask all nodes now, instead of showing what was found last')
    .option('--succinct', 'a node a line')
    .option('--verbose', 'all addresses of each node')
    .action(async (options: StatusOptions) => {
      const client = context.healthClient();
      const status = options.probe === true ? await client.probe() : await client.status();
      context.print((await formatted(status, options)) ?? healthText(status, options));
    });
}

export function registerPing(program: Command, context: Context): void {
  program
    .command('ping')
    .description('Ask the agent of this node whether it is there')
    .action(async () => {
      await context.healthClient().hello();
      context.print('OK\n');
    });
}

function healthText(status: HealthStatus, { succinct = false, verbose = false }: StatusOptions): string {
  const head = [
    `Probe time:\t${status.timestamp ?? 'never'}`,
    `Probe interval:\t${status['probe-interval']}`,
    `Nodes:\t${reachableText(status).split('\t', 1)[0]!}`,
  ];
  const text = alignTabs(head.map((line) => `${line}\n`).join(''));
  return text + (succinct ? nodeRows(status, { all: true, unlimited: true }) : nodeDetails(status, { verbose }));
}
