// SPDX-License-Identifier: Apache-2.0

/** What an import brings, before anybody has checked it. Imports nothing but types: clients use it, too. */
import type { Path } from '../validation-error.ts';

export interface PolicySource {
  /** Name of the file; absent when the rules come from no file. */
  readonly file?: string;
  readonly items: readonly PolicyItem[];
}

export interface PolicyItem {
  /** A rule, a resource or a list of resources, as plain data. */
  readonly value: unknown;
  /** Lines in the file: of each rule and CIDR group in the value, in the order of `placesIn`. */
  readonly lines?: readonly number[] | undefined;
}

/** `List` itself, and the lists of one kind that Kubernetes answers. */
const LIST_KIND = /List$/;

/** Where the rules and groups in an item begin; a resource with one rule begins with that. */
export function placesIn(value: unknown): Path[] {
  return listItems(value)?.flatMap((item, i) => placesOf(item).map((path) => ['items', i, ...path])) ?? placesOf(value);
}

/** What is in an item that is a list. A list holds no lists. */
export function listItems(value: unknown): readonly unknown[] | undefined {
  const { kind, items } = membersOf(value);
  return typeof kind === 'string' && LIST_KIND.test(kind) && Array.isArray(items) ? items : undefined;
}

function placesOf(value: unknown): Path[] {
  const { kind, spec, specs } = membersOf(value);
  if (kind === undefined || !Array.isArray(specs)) return [[]];
  return [...(spec === undefined ? [] : [['spec']]), ...specs.map((_, index) => ['specs', index])];
}

function membersOf(value: unknown): { kind?: unknown; items?: unknown; spec?: unknown; specs?: unknown } {
  return typeof value === 'object' && value !== null ? value : {};
}
