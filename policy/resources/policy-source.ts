// SPDX-License-Identifier: Apache-2.0

/**
 * What an import brings: rules and resources in any mix, with the places where they were written.
 *
 * `List` of Kubernetes is opened here, so that everything behind sees rules and resources only.
 */
import { DATAPATH_LANGUAGE } from '../language.ts';
import { Cursor, type ParseContext } from '../parse/cursor.ts';
import { readRule } from '../parse/rule.ts';
import type { Rule, RuleOrigin } from '../rule.ts';
import { PolicyValidationError, type Path } from '../validation-error.ts';
import { namedCidrGroup, type NamedCidrGroup } from './cidr-group.ts';
import type { ResourceOptions } from './metadata.ts';
import { isResource, parseResource } from './resource.ts';

export interface PolicySource {
  /** Name of the file; absent when the rules come from no file. */
  readonly file?: string;
  readonly items: readonly PolicyItem[];
}

export interface PolicyItem {
  /** A rule, a resource or a list of resources, as plain data. */
  readonly value: unknown;
  /** Lines in the file: of each rule and CIDR group in the value, in the order of `placesIn`. */
  readonly lines?: readonly number[];
}

export interface PolicyContent {
  readonly rules: readonly Rule[];
  readonly groups: readonly NamedCidrGroup[];
}

/** `List` itself, and the lists of one kind that Kubernetes answers. */
const LIST_KIND = /List$/;

/**
 * Checks all items of all sources. Throws PolicyValidationError with every fault; its paths begin with the item's
 * number, counted over all sources.
 */
export function parseSources(sources: readonly PolicySource[], options: ResourceOptions = {}): PolicyContent {
  const context: ParseContext = { language: options.language ?? DATAPATH_LANGUAGE, problems: [] };
  const rules: Rule[] = [];
  const groups = new Map<string, NamedCidrGroup>();
  let item = 0;
  for (const { file, items } of sources) {
    let index = 0;
    for (const { value, lines = [] } of items) {
      let next = 0;
      const origin = (): RuleOrigin => originOf(file, lines[next++], index++);
      for (const leaf of leavesOf(new Cursor(value, [item++], context))) {
        const content = readLeaf(leaf, origin, options);
        rules.push(...content.rules);
        for (const group of content.groups) {
          if (groups.has(group.name)) leaf.fail(`a CIDR group ${group.name} is in this import already`);
          groups.set(group.name, group);
        }
      }
    }
  }
  if (context.problems.length > 0) throw new PolicyValidationError(context.problems);
  return { rules, groups: [...groups.values()] };
}

/** Where the rules and groups in an item begin; a resource with one rule begins with that. */
export function placesIn(value: unknown): Path[] {
  return listItems(value)?.flatMap((item, i) => placesOf(item).map((path) => ['items', i, ...path])) ?? placesOf(value);
}

function placesOf(value: unknown): Path[] {
  const { spec, specs } = (value ?? {}) as { spec?: unknown; specs?: unknown };
  if (!isResource(value) || !Array.isArray(specs)) return [[]];
  return [...(spec === undefined ? [] : [['spec']]), ...specs.map((_, index) => ['specs', index])];
}

function readLeaf(leaf: Cursor, origin: () => RuleOrigin, options: ResourceOptions): PolicyContent {
  if (!isResource(leaf.value)) {
    const rule = readRule(leaf, origin());
    return { rules: rule === undefined ? [] : [rule], groups: [] };
  }
  try {
    const resource = parseResource(leaf.value, options);
    if (resource.kind === 'cidr-group') {
      return { rules: [], groups: [namedCidrGroup(resource.name, resource.group, origin())] };
    }
    return { rules: resource.rules.map((rule) => ({ ...rule, origin: origin() })), groups: [] };
  } catch (error) {
    if (!(error instanceof PolicyValidationError)) throw error;
    const { problems } = leaf.context;
    problems.push(...error.problems.map((problem) => ({ ...problem, path: [...leaf.path, ...problem.path] })));
    return { rules: [], groups: [] };
  }
}

/** The item itself, or what is in it when it is a list. A list holds no lists. */
function leavesOf(item: Cursor): Cursor[] {
  if (listItems(item.value) === undefined) return [item];
  return (
    item.object((members) => {
      members.get('kind');
      members.get('apiVersion');
      members.get('metadata');
      return members.required('items', (list) => list.list((leaf) => leaf));
    }) ?? []
  );
}

function listItems(value: unknown): readonly unknown[] | undefined {
  if (!isResource(value)) return undefined;
  const { kind, items } = value as { kind: unknown; items?: unknown };
  return typeof kind === 'string' && LIST_KIND.test(kind) && Array.isArray(items) ? items : undefined;
}

function originOf(source: string | undefined, line: number | undefined, index: number): RuleOrigin {
  return { ...(source === undefined ? {} : { source }), ...(line === undefined ? {} : { line }), index };
}
