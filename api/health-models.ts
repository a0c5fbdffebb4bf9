// SPDX-License-Identifier: Apache-2.0

/** What the health API tells: which nodes answer, at which of their addresses, and how fast. Names are those of Cilium's. */
import { z } from 'zod';

/** One way to ask an address. */
export const connectivityStatus = z.object({
  /** Nanoseconds from question to answer; 0 when there was none. */
  latency: z.number(),
  /** Empty: it answered. Else why not. */
  status: z.string(),
  /** RFC 3339. */
  lastProbed: z.string(),
});
export type ConnectivityStatus = z.infer<typeof connectivityStatus>;

export const pathStatus = z.object({
  ip: z.string(),
  /** An ICMP echo to the host's stack; absent until it was tried. */
  icmp: connectivityStatus.optional(),
  /** A request to the agent; absent until it was tried. */
  http: connectivityStatus.optional(),
});
export type PathStatus = z.infer<typeof pathStatus>;

const paths = z.object({ 'primary-address': pathStatus.optional(), 'secondary-addresses': z.array(pathStatus) });

export const nodeHealth = z.object({
  name: z.string(),
  /** The addresses by which nodes know each other. */
  host: paths,
  /** The addresses of its router, which are reached as its containers are: through the tunnel, if there is one. */
  'health-endpoint': paths,
});
export type NodeHealth = z.infer<typeof nodeHealth>;

export const healthStatus = z.object({
  local: z.object({ name: z.string() }),
  nodes: z.array(nodeHealth),
  /** RFC 3339: of the last probe; absent before the first. */
  timestamp: z.string().optional(),
  /** How often each node is probed while it answers, such as `1m36.566s`. */
  'probe-interval': z.string(),
});
export type HealthStatus = z.infer<typeof healthStatus>;

/** The answer to whoever asks whether anybody is there. */
export const healthHello = z.object({ status: z.literal('ok') });
export type HealthHello = z.infer<typeof healthHello>;
