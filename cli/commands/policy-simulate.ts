// SPDX-License-Identifier: Apache-2.0

/** `cilium policy simulate`: what an import or a deletion would change. Files are read as an import reads them. */
import { CiliumError } from '../../errors/cilium-error.ts';
import { formatLabel, parseSelectLabel } from '../../identity/label.ts';
import type { Context } from '../context.ts';
import { formatted, type OutputOptions } from '../output/print.ts';
import { simulationText } from '../output/simulation-text.ts';
import { readPolicyFiles, withPlaces } from '../policy-files.ts';

export interface SimulateOptions extends OutputOptions {
  readonly replace?: boolean;
  readonly replaceWithLabels?: string;
  readonly delete?: string;
  readonly deleteAll?: boolean;
}

export async function simulate(context: Context, paths: readonly string[], options: SimulateOptions): Promise<void> {
  const simulation = isDeletion(options)
    ? await simulateDeletion(context, paths, options)
    : await simulateImport(context, paths, options);
  context.print((await formatted(simulation, options)) ?? simulationText(simulation));
}

function isDeletion(options: SimulateOptions): boolean {
  return options.delete !== undefined || options.deleteAll === true;
}

function simulateDeletion(context: Context, paths: readonly string[], options: SimulateOptions) {
  if (paths.length > 0) throw new CiliumError('InvalidArgument', 'give either files to import or what to delete');
  const labels = (options.delete ?? '').split(',').filter((label) => label !== '');
  if (labels.length === 0 && options.deleteAll !== true) {
    throw new CiliumError('InvalidArgument', '--delete: expected labels; --delete-all stands for all rules');
  }
  return context.client().simulatePolicy({ delete: labels.map(selectText) });
}

async function simulateImport(context: Context, paths: readonly string[], options: SimulateOptions) {
  if (paths.length === 0) throw new CiliumError('InvalidArgument', 'give files to import, --delete or --delete-all');
  const files = await readPolicyFiles(paths, () => context.io.stdin);
  const labels = options.replaceWithLabels?.split(',').filter((label) => label !== '') ?? [];
  const request = { sources: files.sources, replace: options.replace === true, 'replace-with-labels': labels };
  return context
    .client()
    .simulatePolicy(request)
    .catch((error: unknown) => {
      throw withPlaces(error, files);
    });
}

/** Without a source a label stands for that label of any source. */
function selectText(label: string): string {
  return formatLabel(parseSelectLabel(label));
}
