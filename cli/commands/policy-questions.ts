// SPDX-License-Identifier: Apache-2.0

/** What can be asked about the policy below `cilium policy`; each command's module loads when it runs. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { withOutput } from '../output/print.ts';
import type { SelectorsOptions } from './policy-selectors.ts';

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
}
