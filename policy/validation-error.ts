// SPDX-License-Identifier: Apache-2.0

/** Everything that is wrong with a document of rules, each fault with its place. */
import { CiliumError } from '../errors/cilium-error.ts';

/** From the list of rules or from a resource down: `[2, 'ingress', 0, 'fromCIDR', 1]`, `['spec', 'ingress', 0]`. */
export type Path = readonly (string | number)[];

export interface Problem {
  readonly path: Path;
  /** What was expected and what was found. */
  readonly message: string;
  /** Right in the language, but this version or configuration does not do it. */
  readonly unsupported?: boolean;
}

/** Of the problems, in the message; `problems` has them all. */
const MAX_SHOWN = 100;
/** Of a member's name; the keys of labels are the longest right ones. */
const MAX_NAME_CHARS = 320;

export class PolicyValidationError extends CiliumError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const code = problems.every((problem) => problem.unsupported) ? 'Unsupported' : 'InvalidArgument';
    const more = problems.length > MAX_SHOWN ? [`… and ${problems.length - MAX_SHOWN} more`] : [];
    super(code, [...problems.slice(0, MAX_SHOWN).map(formatProblem), ...more].join('\n'), { problems });
    this.problems = problems;
  }
}

export function formatProblem(problem: Problem): string {
  return `${formatPath(problem.path)}: ${problem.message}`;
}

/** `rules[2].ingress[0].fromEndpoints[0].matchLabels["two words"]`, `spec.ingress[0]` */
export function formatPath(path: Path): string {
  const parts = path.map((part) => {
    if (typeof part === 'number') return `[${part}]`;
    const name = part.length > MAX_NAME_CHARS ? `${part.slice(0, MAX_NAME_CHARS)}…` : part;
    return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;
  });
  return typeof path[0] === 'string' ? parts.join('').slice(1) : `rules${parts.join('')}`;
}
