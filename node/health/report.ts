// SPDX-License-Identifier: Apache-2.0

/** What is known of the health of nodes: each address of each, asked in two ways. */
import type { IpAddress } from '../../net/ip.ts';
import { addressesOf, type ClusterNode } from '../node.ts';

/** One question. `error`: why there was no answer; then `latencyMs` is absent. */
export interface ProbeResult {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly latencyMs?: number;
  readonly error?: string;
}

/** An address; what was not asked yet is absent. */
export interface PathHealth {
  readonly address: IpAddress;
  /** An ICMP echo: does the host's stack answer? */
  readonly icmp?: ProbeResult;
  /** A request to the agent over TCP: does it? */
  readonly http?: ProbeResult;
}

export interface NodeHealth {
  readonly node: ClusterNode;
  /** Its own addresses. */
  readonly host: readonly PathHealth[];
  /** Those of its router: the way to its containers, through the tunnel if there is one. */
  readonly endpoint: readonly PathHealth[];
}

export interface HealthReport {
  /** This node first. */
  readonly nodes: readonly NodeHealth[];
  /** Milliseconds since the epoch; absent before the first probe. */
  readonly lastProbe: number | undefined;
  /** How often each node is asked while it answers. */
  readonly intervalMs: number;
}

/** A node nobody has asked yet; what is known of addresses that it has kept stays. */
export function healthOf(node: ClusterNode, known?: NodeHealth): NodeHealth {
  const before = new Map([...(known?.host ?? []), ...(known?.endpoint ?? [])].map((path) => [pathKey(path), path]));
  const paths = (addresses: readonly IpAddress[]) => {
    return addresses.map((address) => before.get(address.toString()) ?? { address });
  };
  return { node, host: paths(addressesOf(node, 'InternalIP')), endpoint: paths(addressesOf(node, 'CiliumInternalIP')) };
}

/** All addresses of the node have answered both questions when they were last asked. */
export function answers({ host, endpoint }: NodeHealth): boolean {
  return [...host, ...endpoint].every(pathAnswers);
}

export function pathAnswers({ icmp, http }: PathHealth): boolean {
  return icmp?.latencyMs !== undefined && http?.latencyMs !== undefined;
}

function pathKey({ address }: PathHealth): string {
  return address.toString();
}
