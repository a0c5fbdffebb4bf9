// SPDX-License-Identifier: Apache-2.0

/** How a node sends to the others, and what is wrong when two do not do it in the same way. */
import type { Logger } from '../runtime/logger.ts';
import type { NodeRegistry } from './node-registry.ts';
import type { NodeRouting } from './node.ts';

/** The first thing in which the routing of `name` differs, such that no packet passes; undefined when they fit. */
export function routingDifference(own: NodeRouting, name: string, theirs: NodeRouting): string | undefined {
  const say = (option: string, there: string | number, here: string | number): string =>
    `${name} uses --${option}=${there}, this node ${here}: nothing passes between their containers until both use the same`;
  if (own.mode !== theirs.mode) return say('routing-mode', theirs.mode, own.mode);
  if (own.mode === 'native') return undefined;
  if (own.tunnelPort !== theirs.tunnelPort) return say('tunnel-port', theirs.tunnelPort, own.tunnelPort);
  if (own.underlay === theirs.underlay) return undefined;
  return say('underlay-protocol', `ipv${theirs.underlay}`, `ipv${own.underlay}`);
}

export interface RoutingCheckOptions {
  readonly nodes: Pick<NodeRegistry, 'onChange'>;
  /** Of this node. */
  readonly routing: NodeRouting;
  readonly log: Logger;
}

/** Nodes with which this one cannot exchange packets as it is configured. A node that tells nothing of its routing is believed. */
export class RoutingCheck {
  readonly #problems = new Map<string, string>();

  constructor({ nodes, routing, log }: RoutingCheckOptions) {
    nodes.onChange(({ type, node: { name, routing: theirs } }) => {
      const before = this.#problems.get(name);
      const problem = type === 'delete' || !theirs ? undefined : routingDifference(routing, name, theirs);
      if (problem === before) return;
      if (problem === undefined) this.#problems.delete(name);
      else {
        this.#problems.set(name, problem);
        log.warn('A node routes in another way', { node: name, reason: problem });
      }
    });
  }

  /** The node that is first by name, and how many more there are; undefined when all fit. */
  get problem(): string | undefined {
    const [first, ...others] = [...this.#problems.keys()].sort();
    if (first === undefined) return undefined;
    return this.#problems.get(first)! + (others.length > 0 ? `; and ${others.length} more` : '');
  }
}
