// SPDX-License-Identifier: Apache-2.0

/** What an import would do, for `policy import --dry-run`. */
import type { PolicyPlan } from '../../api/models.ts';
import { formatLabel } from '../../identity/label.ts';
import type { PolicyRepository } from '../../policy/repository.ts';
import type { PolicyContent } from '../../policy/resources/policy-source.ts';
import { policiesAfter } from '../../policy/trial.ts';
import type { PolicyChange } from './policy-change.ts';

/** Throws what the import would. */
export function planOf(repository: PolicyRepository, change: PolicyChange, maxEntries: number): PolicyPlan {
  const { added, removed } = change;
  repository.check(added.rules, { replaceRules: new Set(removed.rules) });
  const groups = new Map([
    ...removed.groups.map(({ name }) => [name, undefined] as const),
    ...added.groups.map(({ name, group }) => [name, group] as const),
  ]);
  const policies = policiesAfter(repository.view(), { added: added.rules, removed: removed.rules, groups });
  return {
    revision: repository.revision,
    added: elementsOf(added),
    removed: elementsOf(removed),
    'too-large': policies
      .filter(({ entries }) => entries > maxEntries)
      .map(({ subjects, entries }) => ({
        identities: subjects.map((id) => ({ id, labels: repository.labelsOf(id)?.toTexts() ?? [] })),
        entries,
        'max-entries': maxEntries,
      })),
  };
}

function elementsOf({ rules, groups }: PolicyContent): PolicyPlan['added'] {
  return [...groups, ...rules].map((element) => {
    const { source, line } = element.origin;
    return {
      ...('name' in element ? { 'cidr-group': element.name } : {}),
      ...(source !== undefined && { file: source }),
      ...(line !== undefined && { line }),
      labels: element.labels.map(formatLabel),
    };
  });
}
