// SPDX-License-Identifier: Apache-2.0

/** `cilium version`: of this command and of the agent. An agent that does not answer is no error. */
import type { Command } from 'commander';
import type { VersionInfo } from '../../api/models.ts';
import { ownVersion } from '../../api/version.ts';
import { isCiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';

export function register(program: Command, context: Context): void {
  withOutput(program.command('version'))
    .description('Show the versions of this command and of the agent')
    .action((options: OutputOptions) => showVersion(context, options));
}

async function showVersion(context: Context, options: OutputOptions): Promise<void> {
  const client = ownVersion();
  const daemon = await context
    .client()
    .version()
    .catch((error: unknown) => {
      if (isCiliumError(error, 'AgentUnavailable')) return undefined;
      throw error;
    });
  const text = `Client: ${oneLine(client)}\nDaemon: ${daemon === undefined ? 'Not responding' : oneLine(daemon)}\n`;
  context.print((await formatted({ Client: client, ...(daemon && { Daemon: daemon }) }, options)) ?? text);
}

function oneLine({ Version, Runtime, Arch }: VersionInfo): string {
  return `${Version} ${Runtime} ${Arch}`;
}
