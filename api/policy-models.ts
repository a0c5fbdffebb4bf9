// SPDX-License-Identifier: Apache-2.0

/** What the REST API carries of questions about the policy: who is selected, what would happen, and why. */
import { z } from 'zod';
import { labels } from './models.ts';

// ---- selectors --------------------------------------------------------------------------------------------------

const label = z.object({ key: z.string(), value: z.string(), source: z.string() });

/** A selector in use, the labels of the rules that use it, and whom it selects. */
export const selectorMapping = z.object({
  selector: z.string(),
  labels: z.array(label),
  /** How many rules use it. */
  users: z.number(),
  identities: z.array(z.number()),
});
export type SelectorMapping = z.infer<typeof selectorMapping>;

// ---- trace ------------------------------------------------------------------------------------------------------

const tracedPort = z.strictObject({
  port: z.int().min(0).max(65_535),
  protocol: z.enum(['ANY', 'TCP', 'UDP', 'SCTP']).default('ANY'),
});

/** Two sets of labels, and the ports of the receiver that are all to be reached. */
export const traceSelector = z.strictObject({
  from: z.strictObject({ labels: labels.min(1) }),
  to: z.strictObject({ labels: labels.min(1), dports: z.array(tracedPort).default([]) }),
  verbose: z.boolean().default(false),
});
export type TraceSelector = z.input<typeof traceSelector>;
export type CheckedTraceSelector = z.output<typeof traceSelector>;

export const policyTraceResult = z.object({ verdict: z.enum(['allowed', 'denied']), log: z.string() });
export type PolicyTraceResult = z.infer<typeof policyTraceResult>;
