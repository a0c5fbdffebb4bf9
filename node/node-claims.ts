// SPDX-License-Identifier: Apache-2.0

/**
 * Which addresses a node may speak for: those in the ranges that it has claimed, and its own. What one node says of
 * another's addresses is not believed. A node whose own claim is lost believes nobody, and nobody believes it.
 */
import type { IpAddress, IpFamily, Prefix } from '../net/ip.ts';
import type { NodeEvent, NodeRegistry } from './node-registry.ts';
import { nodeRanges, tunnelEndpoint, type ClusterNode } from './node.ts';

interface Claim {
  readonly ranges: readonly Prefix[];
  readonly addresses: ReadonlySet<string>;
  readonly node: ClusterNode;
}

export class NodeClaims {
  /** By each address towards other nodes, as text: asked for each of 50,000 addresses at a start. */
  readonly #byHost = new Map<string, Claim>();
  readonly #nodes: Pick<NodeRegistry, 'local' | 'claimState'>;
  readonly #listeners = new Set<(host: IpAddress) => void>();

  constructor(nodes: Pick<NodeRegistry, 'local' | 'claimState' | 'onChange' | 'onClaim'>) {
    this.#nodes = nodes;
    nodes.onChange((event) => this.#apply(event));
    nodes.onClaim(() => {
      for (const { node } of [...this.#byHost.values()]) this.#tell(hosts(node));
    });
  }

  /** Whether `host`, an address of a node towards the others, is that of the node to which `address` belongs. */
  holds(host: IpAddress, address: IpAddress): boolean {
    const claim = this.#byHost.get(host.toString());
    if (claim === undefined) return false;
    const { claimState, local } = this.#nodes;
    if (claimState === 'lost' || (claim.node.name === local.name && claimState !== 'held')) return false;
    return claim.ranges.some((range) => range.contains(address)) || claim.addresses.has(address.toString());
  }

  /** Where the tunnel to the node of this address ends; undefined when it has no address of the family. */
  tunnelEndpoint(host: IpAddress, family: IpFamily): IpAddress | undefined {
    const node = this.#byHost.get(host.toString())?.node;
    return node && tunnelEndpoint(node, family);
  }

  /** Told the address of a node whose claim has changed. Must not throw. */
  onChange(listener: (host: IpAddress) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #apply({ type, node, old }: NodeEvent): void {
    const gone = type === 'delete' ? node : old;
    const now = type === 'delete' ? undefined : node;
    const touched = new Map<string, IpAddress>();
    for (const host of gone ? hosts(gone) : []) {
      // A node that took the address over is not forgotten with the one that had it.
      if (this.#byHost.get(host.toString())?.node.name !== node.name) continue;
      this.#byHost.delete(host.toString());
      touched.set(host.toString(), host);
    }
    if (now !== undefined) {
      const claim = {
        ranges: nodeRanges(now),
        addresses: new Set(now.addresses.map(({ ip }) => ip.toString())),
        node: now,
      };
      for (const host of hosts(now)) {
        this.#byHost.set(host.toString(), claim);
        touched.set(host.toString(), host);
      }
    }
    this.#tell(touched.values());
  }

  #tell(changed: Iterable<IpAddress>): void {
    for (const host of changed) for (const listener of this.#listeners) listener(host);
  }
}

function hosts(node: ClusterNode): IpAddress[] {
  return node.addresses.filter(({ type }) => type === 'InternalIP').map(({ ip }) => ip);
}
