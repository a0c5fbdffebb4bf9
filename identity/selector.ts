// SPDX-License-Identifier: Apache-2.0

/**
 * Selectors: requirements on labels that must all hold.
 *
 * Everything a rule can name as a peer is one of these: an entity requires a reserved label, a prefix a label of
 * source `cidr`. A requirement of source `cidr` compares prefixes, not texts: it finds every label inside its own.
 */
import type { Prefix } from '../net/ip.ts';
import { parseCidrKey } from './cidr-label.ts';
import { LABEL_SOURCE, parseSelectorKey } from './label.ts';
import type { LabelSet } from './label-set.ts';

/** In place of a key: any label of the source. Cannot be written in a rule. */
export const ANY_KEY = '*';

/** `Equals` is a pair of matchLabels, the others are operators of matchExpressions. */
export const SELECTOR_OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;
export type SelectorOperator = (typeof SELECTOR_OPERATORS)[number];

export interface Requirement {
  readonly source: string;
  readonly key: string;
  readonly operator: 'Equals' | SelectorOperator;
  /** One for Equals, at least one for In and NotIn, else none. */
  readonly values: readonly string[];
}

/** The form of the API: keys as `source:key`. */
export interface SelectorJson {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: SelectorOperator;
    readonly values?: readonly string[];
  }[];
}

export class EndpointSelector {
  static readonly WILDCARD = new EndpointSelector([]);

  readonly requirements: readonly Requirement[];
  readonly #tests: readonly ((labels: LabelSet) => boolean)[];
  #text: string | undefined;

  constructor(requirements: Iterable<Requirement>) {
    this.requirements = [...requirements];
    this.#tests = this.requirements.map(compile);
  }

  /** Requires one label of matchLabels form; a key without a source means any. */
  static ofLabel(source: string, key: string, value = ''): EndpointSelector {
    return new EndpointSelector([{ source, key, operator: 'Equals', values: [value] }]);
  }

  /** Builds it from checked JSON. */
  static fromJson(json: SelectorJson): EndpointSelector {
    const labels = Object.entries(json.matchLabels ?? {}).map(([key, value]): Requirement => ({
      ...parseSelectorKey(key),
      operator: 'Equals',
      values: [value],
    }));
    const expressions = (json.matchExpressions ?? []).map(({ key, operator, values }): Requirement => ({
      ...parseSelectorKey(key),
      operator,
      values: values ?? [],
    }));
    return new EndpointSelector([...labels, ...expressions]);
  }

  /** True when every identity is selected. */
  get isWildcard(): boolean {
    return this.requirements.length === 0;
  }

  matches(labels: LabelSet): boolean {
    for (const test of this.#tests) if (!test(labels)) return false;
    return true;
  }

  /** A selector for what both select. */
  and(other: EndpointSelector): EndpointSelector {
    return new EndpointSelector([...this.requirements, ...other.requirements]);
  }

  /** A label that is required twice, so never there, is an expression the second time: matchLabels has a key once. */
  toJSON(): SelectorJson {
    const labels = new Map<string, string>();
    const expressions: NonNullable<SelectorJson['matchExpressions']>[number][] = [];
    for (const { source, key, operator, values } of this.requirements) {
      const name = `${source}:${key}`;
      if (operator === 'Equals' && !labels.has(name)) labels.set(name, values[0]!);
      else if (operator === 'Equals') expressions.push({ key: name, operator: 'In', values });
      else expressions.push({ key: name, operator, ...(values.length > 0 ? { values } : {}) });
    }
    return {
      ...(labels.size > 0 ? { matchLabels: Object.fromEntries(labels) } : {}),
      ...(expressions.length > 0 ? { matchExpressions: expressions } : {}),
    };
  }

  /** Canonical: equal for selectors with the same requirements in whatever order. */
  toString(): string {
    return (this.#text ??= this.requirements.map(formatRequirement).sort().join(','));
  }
}

function formatRequirement({ source, key, operator, values }: Requirement): string {
  const quoted = (): string =>
    [...values]
      .sort()
      .map((value) => JSON.stringify(value))
      .join(' ');
  if (operator === 'Equals') return `${source}:${key}=${values[0]!}`;
  return values.length === 0 ? `${source}:${key} ${operator}` : `${source}:${key} ${operator} (${quoted()})`;
}

function compile({ source, key, operator, values }: Requirement): (labels: LabelSet) => boolean {
  const prefix = source === LABEL_SOURCE.cidr ? parseCidrKey(key) : undefined;
  const valueOf = (labels: LabelSet): string | undefined => {
    if (prefix !== undefined) return liesInside(labels, prefix);
    return key === ANY_KEY ? labels.first(source)?.value : labels.find(source, key)?.value;
  };
  const [first] = values;
  switch (operator) {
    case 'Equals':
      return (labels) => valueOf(labels) === first;
    case 'In':
      return (labels) => values.includes(valueOf(labels) ?? NO_VALUE);
    case 'NotIn':
      return (labels) => !values.includes(valueOf(labels) ?? NO_VALUE);
    case 'Exists':
      return (labels) => valueOf(labels) !== undefined;
    case 'DoesNotExist':
      return (labels) => valueOf(labels) === undefined;
  }
}

/** No value of a label contains NUL. */
const NO_VALUE = '\0';

function liesInside(labels: LabelSet, outer: Prefix): string | undefined {
  return labels.prefixes.some((prefix) => outer.contains(prefix)) ? '' : undefined;
}

const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const MAX_NAME_CHARS = 63;
const MAX_PREFIX_CHARS = 253;

/** What is wrong with a selector's key, if anything. The source and a dot count as part of the key. */
export function selectorKeyProblem(text: string): string | undefined {
  const { source, key } = parseSelectorKey(text);
  return key === '' ? 'the key is empty' : qualifiedNameProblem(`${source}.${key}`);
}

/** What is wrong with a key as Kubernetes has it, without a source. */
export function qualifiedNameProblem(text: string): string | undefined {
  const parts = text.split('/');
  const name = parts.at(-1)!;
  if (parts.length > 2) return 'a key has one slash at most';
  if (name.length > MAX_NAME_CHARS) return `the name has more than ${MAX_NAME_CHARS} characters (source included)`;
  if (!NAME.test(name)) return 'expected letters, digits, ".", "_" and "-", a letter or digit at both ends';
  if (parts.length === 1) return undefined;
  if (parts[0]!.length > MAX_PREFIX_CHARS)
    return `the part before the slash has more than ${MAX_PREFIX_CHARS} characters`;
  return SUBDOMAIN.test(parts[0]!) ? undefined : 'the part before the slash must be a lower-case DNS name';
}

/** What is wrong with a label's value in a selector, if anything. */
export function selectorValueProblem(value: string): string | undefined {
  if (value === '') return undefined;
  if (value.length > MAX_NAME_CHARS) return `a value has at most ${MAX_NAME_CHARS} characters`;
  return NAME.test(value) ? undefined : 'expected letters, digits, ".", "_" and "-", a letter or digit at both ends';
}
