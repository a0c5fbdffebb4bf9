// SPDX-License-Identifier: Apache-2.0

/**
 * Kubernetes' dialect of JSONPath: a template of text and `{expressions}`.
 *
 *     {.status.state}  {[*].id}  {..ipv4}  {.a['x','y']}  {.list[-1:]}  {.list[?(@.id==7)].name}
 *     {range .list[*]}{.id}{"\t"}{.state}{"\n"}{end}
 *
 * A key that is missing gives nothing; several results are joined by a blank; strings come as they are, objects as JSON.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { parseTemplate, type Filter, type Node, type Operand, type Step } from './jsonpath-parser.ts';

/** Evaluates the template on a value; throws `InvalidArgument` for a template that cannot be read. */
export function jsonpath(template: string, value: unknown): string {
  const relaxed = template.includes('{') ? template : `{${/^[.$[@]/.test(template) ? '' : '.'}${template}}`;
  return render(parseTemplate(relaxed), value);
}

function render(nodes: readonly Node[], root: unknown): string {
  let text = '';
  for (const node of nodes) {
    if (node.kind === 'text') text += node.text;
    else if (node.kind === 'path') text += follow(node.steps, root).map(asText).join(' ');
    else for (const item of follow(node.steps, root)) text += render(node.body, item);
  }
  return text;
}

function follow(steps: readonly Step[], root: unknown): unknown[] {
  let values: unknown[] = [root];
  for (const step of steps) values = values.flatMap((value) => take(step, value));
  return values;
}

function take(step: Step, value: unknown): unknown[] {
  switch (step.kind) {
    case 'key':
      return isObject(value) && Object.hasOwn(value, step.key) ? [value[step.key]] : [];
    case 'index': {
      const item: unknown = Array.isArray(value) ? value.at(step.index) : undefined;
      return item === undefined ? [] : [item];
    }
    case 'slice':
      return Array.isArray(value) ? slice(value, step) : [];
    case 'all':
      return children(value);
    case 'union':
      return step.steps.flatMap((inner) => take(inner, value));
    case 'descend':
      return descendants(value);
    case 'filter':
      return children(value).filter((item) => holds(step.filter, item));
  }
}

function slice(values: readonly unknown[], range: { from?: number; to?: number; by: number }): unknown[] {
  if (range.by < 1) throw new CiliumError('InvalidArgument', 'jsonpath: the step of a slice must be 1 or more');
  return values.slice(range.from, range.to).filter((_, i) => i % range.by === 0);
}

function children(value: unknown): unknown[] {
  if (Array.isArray(value)) return value as unknown[];
  return isObject(value) ? Object.values(value) : [];
}

function descendants(value: unknown): unknown[] {
  return [value, ...children(value).flatMap(descendants)];
}

function holds({ left, operator, right }: Filter, item: unknown): boolean {
  const [a, b] = [operand(left, item), operand(right, item)];
  if (operator === undefined) return a !== undefined;
  if (a === undefined || b === undefined) return operator === '!=' && a !== b;
  switch (operator) {
    case '==':
      return a === b;
    case '!=':
      return a !== b;
  }
  if (typeof a !== typeof b || (typeof a !== 'number' && typeof a !== 'string')) return false;
  const order = a < (b as typeof a) ? -1 : Number(a > (b as typeof a));
  return { '<': order < 0, '<=': order <= 0, '>': order > 0, '>=': order >= 0 }[operator];
}

function operand(side: Operand | undefined, item: unknown): unknown {
  if (side === undefined) return undefined;
  return side.kind === 'literal' ? side.value : follow(side.steps, item)[0];
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
