// SPDX-License-Identifier: Apache-2.0

/** The selector with the fewest requirements that tells one label set from all others that are known. */
import type { LabelSet } from '../../identity/label-set.ts';
import {
  EndpointSelector,
  selectorKeyProblem,
  selectorValueProblem,
  type Requirement,
} from '../../identity/selector.ts';

export interface NarrowSelector {
  readonly selector: EndpointSelector;
  /** Others that no selector can tell from these labels. */
  readonly alsoSelects: readonly LabelSet[];
}

/** More than these nobody reads; then the selector is wider. */
const MAX_REQUIREMENTS = 16;
const MAX_FOREIGN = 64;

/**
 * Own labels come first, those with plain and short keys before others; a label that only the others have is ruled out
 * (DoesNotExist) when own labels do not suffice. No requirement can be left out of the answer. Undefined: none of the
 * labels can be written in a selector.
 */
export function narrowSelector(labels: LabelSet, known: Iterable<LabelSet>): NarrowSelector | undefined {
  const others = [...known].filter((other) => !other.equals(labels));
  const own = [...labels].flatMap(({ source, key, value }) => ownRequirement(source, key, value)).sort(byKey);
  if (own.length === 0) return undefined;
  const first = best(own, others, true)!;
  let chosen = [first];
  let left = passing(others, first);
  for (const more of [() => own, () => foreignRequirements(labels, left)]) {
    while (left.length > 0 && chosen.length < MAX_REQUIREMENTS) {
      const next = best(more(), left, false);
      if (next === undefined) break;
      chosen.push(next);
      left = passing(left, next);
    }
  }
  for (const requirement of [...chosen]) {
    const rest = chosen.filter((other) => other !== requirement);
    const needed = rest.every(({ operator }) => operator === 'DoesNotExist');
    if (!needed && selected(others, rest).length === left.length) chosen = rest;
  }
  return { selector: new EndpointSelector(chosen), alsoSelects: left };
}

function ownRequirement(source: string, key: string, value: string): Requirement[] {
  if (selectorKeyProblem(`${source}:${key}`) !== undefined) return [];
  if (selectorValueProblem(value) !== undefined) return [{ source, key, operator: 'Exists', values: [] }];
  return [{ source, key, operator: 'Equals', values: [value] }];
}

/** Labels that only others have; of very many some. */
function foreignRequirements(labels: LabelSet, others: readonly LabelSet[]): Requirement[] {
  const found = new Map<string, Requirement>();
  for (const other of others) {
    for (const { source, key } of other) {
      const name = `${source}:${key}`;
      if (found.has(name) || selectorKeyProblem(name) !== undefined) continue;
      const requirement: Requirement = { source, key, operator: 'DoesNotExist', values: [] };
      if (new EndpointSelector([requirement]).matches(labels)) found.set(name, requirement);
    }
    if (found.size >= MAX_FOREIGN) break;
  }
  return [...found.values()].sort(byKey);
}

/** The requirement that leaves the fewest; undefined when none leaves fewer than there are, unless one is wanted anyway. */
function best(
  candidates: readonly Requirement[],
  others: readonly LabelSet[],
  anyway: boolean,
): Requirement | undefined {
  let found: Requirement | undefined = anyway ? candidates[0] : undefined;
  let fewest = others.length;
  for (const candidate of candidates) {
    const selector = new EndpointSelector([candidate]);
    let count = 0;
    for (const other of others) if (selector.matches(other) && ++count === fewest) break;
    if (count < fewest) [found, fewest] = [candidate, count];
    if (fewest === 0) break;
  }
  return found;
}

function passing(others: readonly LabelSet[], requirement: Requirement): LabelSet[] {
  return selected(others, [requirement]);
}

function selected(others: readonly LabelSet[], requirements: readonly Requirement[]): LabelSet[] {
  const selector = new EndpointSelector(requirements);
  return others.filter((other) => selector.matches(other));
}

function byKey(a: Requirement, b: Requirement): number {
  return weight(a.key) - weight(b.key) || (a.key < b.key ? -1 : 1);
}

/** Keys with a namespace, like com.docker.compose.project, say less to people than plain ones. */
function weight(key: string): number {
  return key.length + (/[./]/.test(key) ? 100 : 0);
}
