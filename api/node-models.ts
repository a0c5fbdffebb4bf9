// SPDX-License-Identifier: Apache-2.0

/** What the API tells of nodes. */
import { z } from 'zod';

export const nodeAddress = z.object({
  enabled: z.boolean(),
  /** Absent when the node has none of this family. */
  ip: z.string().optional(),
  /** Where its containers get their addresses from. */
  'alloc-range': z.string().optional(),
});

export const nodeElement = z.object({
  /** With the cluster's name in front, `name/node`, unless that is `default`. */
  name: z.string(),
  'primary-address': z.object({ ipv4: nodeAddress, ipv6: nodeAddress }),
  /** Its other addresses, such as those of its router: where other nodes find it inside the network of containers. */
  'secondary-addresses': z.array(z.object({ ip: z.string(), 'address-type': z.string() })),
  /** Who told of it: `local` for the node itself, `kvstore` for the others. */
  source: z.string(),
  /** How it sends to the others; absent when it does not tell. */
  routing: z
    .object({
      mode: z.enum(['tunnel', 'native']),
      /** UDP; of tunnels. */
      'tunnel-port': z.int().optional(),
      /** Family of the addresses between which tunnels are. */
      underlay: z.enum(['ipv4', 'ipv6']).optional(),
    })
    .optional(),
});
export type NodeElement = z.infer<typeof nodeElement>;

export const clusterNodeStatus = z.object({
  /** The name of the node that answers. */
  self: z.string(),
  /** All nodes. */
  'nodes-added': z.array(nodeElement),
  'nodes-removed': z.array(nodeElement),
});
export type ClusterNodeStatus = z.infer<typeof clusterNodeStatus>;
