// SPDX-License-Identifier: Apache-2.0

/** Which rules give way to an import (policy-language 11), without comparing each rule with each. */
import { selectsLabel, type Label } from '../identity/label.ts';
import type { Rule } from './rule.ts';

export interface ImportOptions {
  /** Rules that have all labels of an imported rule go; one without labels replaces nothing. */
  readonly replace?: boolean;
  /** Rules that have all these labels go. */
  readonly replaceWithLabels?: readonly Label[];
  /** These rules go. */
  readonly replaceRules?: ReadonlySet<Rule>;
}

/** Those of `stored` that go when `imported` comes. */
export function replacedRules(
  stored: Iterable<Rule>,
  imported: readonly Rule[],
  { replace = false, replaceWithLabels, replaceRules }: ImportOptions,
): ReadonlySet<Rule> {
  const replaced = new Set(replaceRules);
  if (replaceWithLabels === undefined && !replace) return replaced;
  const candidates = [...stored];
  for (const rule of candidates) {
    if (replaceWithLabels !== undefined && hasLabels(rule, replaceWithLabels)) replaced.add(rule);
  }
  if (replace) for (const rule of alikeInLabels(candidates, imported)) replaced.add(rule);
  return replaced;
}

/** For so few sets of labels it is quicker to look at every rule than to index them. */
const FEW = 4;

/** Labels are no more than this to look at: things that have them are found by them. */
export function hasLabels({ labels }: { readonly labels: readonly Label[] }, wanted: readonly Label[]): boolean {
  return wanted.every((select) => labels.some((label) => selectsLabel(select, label)));
}

/** Rules of `stored` that have all labels of a rule of `imported`. */
function* alikeInLabels(stored: readonly Rule[], imported: readonly Rule[]): Iterable<Rule> {
  const wanted = new Map(
    imported.filter(({ labels }) => labels.length > 0).map(({ labels }) => [JSON.stringify(labels), labels] as const),
  );
  if (wanted.size <= FEW) {
    const sets = [...wanted.values()];
    yield* stored.filter((rule) => sets.some((labels) => hasLabels(rule, labels)));
    return;
  }
  const byLabel = new Map<string, Rule[]>();
  for (const rule of stored) {
    for (const key of new Set(rule.labels.map(sourceless))) {
      const rules = byLabel.get(key);
      if (rules === undefined) byLabel.set(key, [rule]);
      else rules.push(rule);
    }
  }
  for (const labels of wanted.values()) {
    const lists = labels.map((label) => byLabel.get(sourceless(label)) ?? []);
    const shortest = lists.reduce((a, b) => (b.length < a.length ? b : a));
    yield* shortest.filter((rule) => hasLabels(rule, labels));
  }
}

/** A label of source `any` selects that of every source, so sources are compared afterwards. */
function sourceless({ key, value }: Label): string {
  return `${key}=${value}`;
}
