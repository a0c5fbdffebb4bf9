// SPDX-License-Identifier: Apache-2.0

/**
 * The labels that make an identity: sorted, without duplicates, immutable.
 *
 * The text form is that of the kvstore: `container:id=app1;container:tier=web;`. It has no way to quote a semicolon,
 * and a container's label may hold one; it is written `%3B` (and a literal `%3B` or `%25` with `%25` for its percent
 * sign), so that no value can pose as further labels.
 */
import type { Prefix } from '../net/ip.ts';
import { parseCidrKey } from './cidr-label.ts';
import { formatLabel, LABEL_SOURCE, parseLabel, type Label } from './label.ts';

export class LabelSet {
  static readonly EMPTY = new LabelSet([]);

  readonly #labels: readonly Label[];
  #text: string | undefined;
  #prefixes: readonly Prefix[] | undefined;

  private constructor(sorted: readonly Label[]) {
    this.#labels = sorted;
  }

  /** Of several labels with the same source and key the last one counts. */
  static of(labels: Iterable<Label>): LabelSet {
    const unique = new Map<string, Label>();
    for (const label of labels) unique.set(`${label.source}:${label.key}`, label);
    return new LabelSet([...unique.values()].sort(compareLabels));
  }

  /** From texts like `container:id=app1`. */
  static fromTexts(texts: Iterable<string>): LabelSet {
    return LabelSet.of(Array.from(texts, parseLabel));
  }

  /** Parses what `toString` writes. */
  static parse(text: string): LabelSet {
    const parts = text.split(';').filter((part) => part !== '');
    return LabelSet.of(parts.map((part) => parseLabel(part.replace(/%3B|%25(?=3B|25)/g, unescapeMatch))));
  }

  get size(): number {
    return this.#labels.length;
  }

  [Symbol.iterator](): IterableIterator<Label> {
    return this.#labels.values();
  }

  /** The label with this key from `source`; with source `any` the first in order. */
  find(source: string, key: string): Label | undefined {
    for (const label of this.#labels) {
      if (label.key === key && (source === LABEL_SOURCE.any || source === label.source)) return label;
    }
    return undefined;
  }

  /** The first label of a source, in order. */
  first(source: string): Label | undefined {
    return this.#labels.find((label) => label.source === source);
  }

  has(source: string, key: string): boolean {
    return this.find(source, key) !== undefined;
  }

  /** The prefixes that the labels of source `cidr` stand for. */
  get prefixes(): readonly Prefix[] {
    return (this.#prefixes ??= this.#labels
      .filter((label) => label.source === LABEL_SOURCE.cidr)
      .map((label) => parseCidrKey(label.key))
      .filter((prefix) => prefix !== undefined));
  }

  equals(other: LabelSet): boolean {
    return this === other || this.toString() === other.toString();
  }

  /** For people: `source:key=value`, without the equals sign when the value is empty. */
  toTexts(): string[] {
    return this.#labels.map(formatLabel);
  }

  /** The kvstore's form; each label ends with a semicolon and has an equals sign. */
  toString(): string {
    return (this.#text ??= this.#labels
      .map(({ source, key, value }) => `${source}:${key}=${value}`.replace(/%(?=3B|25)/g, '%25').replace(/;/g, '%3B'))
      .map((text) => `${text};`)
      .join(''));
  }

  toJSON(): string[] {
    return this.toTexts();
  }
}

function compareLabels(a: Label, b: Label): number {
  return compareText(a.key, b.key) || compareText(a.source, b.source);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function unescapeMatch(match: string): string {
  return match === '%3B' ? ';' : '%';
}
