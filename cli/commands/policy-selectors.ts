// SPDX-License-Identifier: Apache-2.0

/** `cilium policy selectors|subject-selectors`: who is selected by what the rules say, one identity a row. */
import type { SelectorMapping } from '../../api/policy-models.ts';
import { formatLabel } from '../../identity/label.ts';
import type { Context } from '../context.ts';
import { formatted, type OutputOptions } from '../output/print.ts';
import { table } from '../output/table.ts';

export interface SelectorsOptions extends OutputOptions {
  readonly verbose?: boolean;
}

export async function showSelectors(
  context: Context,
  kind: 'selectors' | 'subject-selectors',
  options: SelectorsOptions,
): Promise<void> {
  const client = context.client();
  const answer = kind === 'selectors' ? client.policySelectors() : client.policySubjectSelectors();
  const selectors = (await answer).sort((a, b) => (a.selector < b.selector ? -1 : 1));
  const labelsOf = options.verbose === true ? allLabels : policyName;
  context.print((await formatted(selectors, options)) ?? selectorTable(selectors, labelsOf));
}

function selectorTable(selectors: readonly SelectorMapping[], labelsOf: (selector: SelectorMapping) => string): string {
  const rows = selectors.flatMap((mapping) => {
    const [first = '', ...more] = mapping.identities.map(String);
    const row = [mapping.selector, labelsOf(mapping), String(mapping.users), first];
    return [row, ...more.map((identity) => ['', '', '', identity])];
  });
  return table([['SELECTOR', 'LABELS', 'USERS', 'IDENTITIES'], ...rows], { trailingTab: true });
}

function allLabels({ labels }: SelectorMapping): string {
  return [...new Set(labels.map(formatLabel))].join(' ');
}

/** Namespace and name of the resources that the rules come from; imported rules have neither. */
function policyName({ labels }: SelectorMapping): string {
  const valueOf = (name: string): string | undefined =>
    labels.find(({ source, key }) => source === 'k8s' && key === `io.cilium.k8s.policy.${name}`)?.value;
  return [valueOf('namespace'), valueOf('name')].filter((part) => part !== undefined).join('/');
}
