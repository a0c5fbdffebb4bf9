// SPDX-License-Identifier: Apache-2.0

/** On which node of the cluster somebody is: what is there is judged by the rules there. */
import type { NodePlace } from '../../api/explain-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { RemoteAddress } from '../../ipcache/shared/remote-addresses.ts';
import type { IpAddress, IpFamily } from '../../net/ip.ts';
import { nodeRanges, tunnelEndpoint, type ClusterNode } from '../../node/node.ts';
import { fullName } from '../cluster-view.ts';

export interface PlacesDeps {
  /** All of the cluster, this one first; none when there is no cluster. */
  readonly nodes: () => readonly ClusterNode[];
  /** What other nodes say of their containers. */
  readonly remote: () => Iterable<RemoteAddress>;
}

/** So many addresses stand in an error. */
const MAX_LISTED = 10;

/** Cost: each question looks at all nodes, or at all addresses of containers, once. */
export class Places {
  readonly #deps: PlacesDeps;

  constructor(deps: PlacesDeps) {
    this.#deps = deps;
  }

  /** The node in whose range an address is, or whose own it is. */
  nodeOf(address: IpAddress): { readonly place: NodePlace; readonly isLocal: boolean } | undefined {
    const nodes = this.#deps.nodes();
    const index = nodes.findIndex(
      (node) =>
        node.addresses.some(({ ip }) => ip.equals(address)) ||
        nodeRanges(node).some((range) => range.family === address.family && range.contains(address)),
    );
    return index < 0 ? undefined : { place: placeOf(nodes[index]!), isLocal: index === 0 };
  }

  /** The name of the container of another node with this address. */
  nameAt(address: IpAddress): string | undefined {
    for (const remote of this.#deps.remote()) {
      if (remote.address.equals(address)) return remote.docker?.names[0];
    }
    return undefined;
  }

  /**
   * Address of the container of another node with this name, in the family if it has one there; its own name comes before
   * what others have as an alias. Throws `InvalidArgument` when several containers are called so.
   */
  addressOf(name: string, family: IpFamily): IpAddress | undefined {
    const called = [...this.#deps.remote()].filter(({ docker }) => docker?.names.includes(name) === true);
    const named = called.filter(({ docker }) => docker?.names[0] === name);
    const found = named.length > 0 ? named : called;
    const containers = new Set(found.map(({ host, docker }) => `${host.toString()} ${docker!.names[0]!}`));
    if (containers.size > 1) throw severalCalled(name, found);
    return (found.find(({ address }) => address.family === family) ?? found[0])?.address;
  }

  /** Other nodes that have containers of this identity. */
  nodesWith(identity: number): NodePlace[] {
    const hosts = new Set<string>();
    for (const remote of this.#deps.remote()) if (remote.identity === identity) hosts.add(remote.host.toString());
    return this.#deps
      .nodes()
      .filter(({ addresses }) => addresses.some(({ ip }) => hosts.has(ip.toString())))
      .map(placeOf);
  }
}

/** `node1 (192.168.251.1)` */
export function placeText({ node, address }: NodePlace): string {
  return address === undefined ? node : `${node} (${address})`;
}

function placeOf(node: ClusterNode): NodePlace {
  const address = tunnelEndpoint(node, 4) ?? tunnelEndpoint(node, 6);
  return { node: fullName(node), ...(address && { address: address.toString() }) };
}

function severalCalled(name: string, found: readonly RemoteAddress[]): CiliumError {
  const texts = found.map(({ address }) => address.toString()).sort();
  const more = texts.length > MAX_LISTED ? ` and ${texts.length - MAX_LISTED} more` : '';
  return new CiliumError(
    'InvalidArgument',
    `"${name}" is the name of several containers on other nodes: give the address of one (` +
      `${texts.slice(0, MAX_LISTED).join(', ')}${more})`,
  );
}
