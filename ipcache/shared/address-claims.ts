// SPDX-License-Identifier: Apache-2.0

/** Who may speak of an address: the node that has announced a range around it. Told by `node/`. */
import type { IpAddress } from '../../net/ip.ts';

export interface AddressClaims {
  /** Whether the node at `host` (an address of it that tunnels may end at) has announced a range that holds `address`. */
  holds(host: IpAddress, address: IpAddress): boolean;
  /** Called after the ranges of the node at `host` have changed, or the node came or went. Must not throw. */
  onChange(listener: (host: IpAddress) => void): () => void;
}
