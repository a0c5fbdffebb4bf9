// SPDX-License-Identifier: Apache-2.0

/** From what an import brings, rules and resources in any mix, to checked rules and CIDR groups that know their origin. */
import { Cursor } from '../parse/cursor.ts';
import { newParseContext, readRule } from '../parse/rule.ts';
import type { Rule, RuleOrigin } from '../rule.ts';
import { PolicyValidationError } from '../validation-error.ts';
import { namedCidrGroup, type NamedCidrGroup } from './cidr-group.ts';
import type { ResourceOptions } from './metadata.ts';
import { listItems, type PolicySource } from './policy-item.ts';
import { isResource, parseResource } from './resource.ts';

export interface PolicyContent {
  readonly rules: readonly Rule[];
  readonly groups: readonly NamedCidrGroup[];
}

/**
 * Checks all items of all sources. Throws PolicyValidationError with every fault; its paths begin with the item's
 * number, counted over all sources.
 */
export function parseSources(sources: readonly PolicySource[], options: ResourceOptions = {}): PolicyContent {
  const context = newParseContext(options);
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

function originOf(source: string | undefined, line: number | undefined, index: number): RuleOrigin {
  return { ...(source === undefined ? {} : { source }), ...(line === undefined ? {} : { line }), index };
}
