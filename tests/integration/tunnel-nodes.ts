// SPDX-License-Identifier: Apache-2.0

/** What tunnel.test.ts and its nodes agree on. */
import type { IpFamily } from '../../net/ip.ts';

type ByFamily = Readonly<Record<IpFamily, string>>;

export interface Addresses {
  /** Towards other nodes. */
  readonly node: ByFamily;
  /** Of cilium_host. */
  readonly router: ByFamily;
  readonly container: ByFamily;
  readonly range: ByFamily;
}

export interface NodeSpec {
  /** 1 or 2. */
  readonly number: number;
  readonly tunnel: boolean;
  /** Family of the addresses by which the nodes know each other. */
  readonly underlay: IpFamily;
}

/** What a node answers. */
export interface NodeStatus {
  /** Process id of the container's server. */
  readonly container?: number;
  /** Packets by reason. */
  readonly drops?: Readonly<Record<number, number>>;
}

/** Of the nodes' containers. */
export const IDENTITIES: Readonly<Record<number, number>> = { 1: 1001, 2: 1002 };

export function addressesOf(node: number): Addresses {
  return {
    node: { 4: `192.0.2.${node}`, 6: `2001:db8::${node}` },
    router: { 4: `10.0.${node}.254`, 6: `fd00:${node}::fe` },
    container: { 4: `10.0.${node}.1`, 6: `fd00:${node}::1` },
    range: { 4: `10.0.${node}.0/24`, 6: `fd00:${node}::/64` },
  };
}
