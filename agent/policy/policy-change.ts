// SPDX-License-Identifier: Apache-2.0

/** Changes of the policy, and those that follow from watched files. */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { NamedCidrGroup } from '../../policy/resources/cidr-group.ts';
import type { PolicyContent } from '../../policy/resources/policy-source.ts';
import type { Rule } from '../../policy/rule.ts';
import type { PolicyElement } from './policy-store.ts';
import { sameContent } from './watched-content.ts';

/** What comes and what goes in one step. */
export interface PolicyChange {
  readonly removed: PolicyContent;
  readonly added: PolicyContent;
}

export const NOTHING: PolicyContent = { rules: [], groups: [] };

export function fileOf({ origin }: PolicyElement): string {
  return origin.source ?? 'a watched file';
}

/** What is in force of each watched file. */
export function contentByFile(
  allRules: Iterable<Rule>,
  allGroups: Iterable<NamedCidrGroup>,
): ReadonlyMap<string, PolicyContent> {
  const isWatched = ({ origin }: PolicyElement): boolean => origin.watched === true;
  const rules = Map.groupBy([...allRules].filter(isWatched), fileOf);
  const groups = Map.groupBy([...allGroups].filter(isWatched), fileOf);
  const files = new Set([...rules.keys(), ...groups.keys()]);
  return new Map(Array.from(files, (file) => [file, { rules: rules.get(file) ?? [], groups: groups.get(file) ?? [] }]));
}

/** What is to be done so that `files` are in force and nothing of others but those `kept`; nothing for what is equal. */
export function changesOfFiles(
  current: ReadonlyMap<string, PolicyContent>,
  files: ReadonlyMap<string, PolicyContent>,
  kept: ReadonlySet<string>,
): ReadonlyMap<string, PolicyChange> {
  const changes = new Map<string, PolicyChange>();
  for (const [file, added] of files) {
    const removed = current.get(file) ?? NOTHING;
    if (!sameContent(removed, added)) changes.set(file, { removed, added });
  }
  for (const [file, removed] of current) {
    if (!files.has(file) && !kept.has(file)) changes.set(file, { removed, added: NOTHING });
  }
  return changes;
}

/** Changes of files as one. A group of these that was imported by hand gives way to that of a file. */
export function joinedChange(
  changes: readonly PolicyChange[],
  groups: ReadonlyMap<string, NamedCidrGroup>,
): PolicyChange {
  const removed = {
    rules: changes.flatMap((change) => change.removed.rules),
    groups: changes.flatMap((change) => change.removed.groups),
  };
  const added = {
    rules: changes.flatMap((change) => change.added.rules),
    groups: changes.flatMap((change) => change.added.groups),
  };
  const names = new Map<string, NamedCidrGroup>();
  for (const group of added.groups) {
    const other = names.get(group.name) ?? groups.get(group.name);
    names.set(group.name, group);
    if (other === undefined || removed.groups.includes(other)) continue;
    if (other.origin.watched === true)
      throw new CiliumError('InUse', `CIDR group ${group.name} is in ${fileOf(other)} already`);
    removed.groups.push(other);
  }
  return { removed, added };
}
