// SPDX-License-Identifier: Apache-2.0

/** What an import or a deletion would change, as the REST API carries it. */
import { z } from 'zod';
import { ruleReference } from './explain-models.ts';
import { labels, policySources } from './models.ts';

/** An import, with its options, or the labels of rules to delete (none: all rules). */
export const simulationRequest = z.union([
  policySources.extend({
    /** Rules that carry the labels of an imported rule give way to it. */
    replace: z.boolean().default(false),
    /** Rules that carry these labels give way to the import. */
    'replace-with-labels': labels.default([]),
  }),
  z.strictObject({ delete: labels }),
]);
export type CheckedSimulationRequest = z.output<typeof simulationRequest>;

const verdict = z.enum(['allowed', 'denied', 'redirect']);
export type SimulatedVerdict = z.infer<typeof verdict>;

/** Containers of this node, none for a peer elsewhere. */
const identified = z.object({ identity: z.number(), labels, containers: z.array(z.string()) });
export type Identified = z.infer<typeof identified>;

export const simulatedPeer = z.object({
  /** `prefix`: addresses that get an identity of their own. `others`: every peer that is not named. */
  kind: z.enum(['identity', 'prefix', 'others']),
  identity: z.number().optional(),
  prefix: z.string().optional(),
  labels,
  containers: z.array(z.string()),
});
export type SimulatedPeerModel = z.infer<typeof simulatedPeer>;

export const policyDifference = z.object({
  subjects: z.array(identified),
  direction: z.enum(['ingress', 'egress']),
  /** Whether what no rule speaks of passes. */
  open: z.object({ before: z.boolean(), after: z.boolean() }),
  changes: z.array(
    z.object({
      peers: z.array(simulatedPeer),
      /** `80/TCP`, `1-79/TCP`, `ICMP type 8`, `everything`. */
      packets: z.string(),
      before: verdict,
      after: verdict,
    }),
  ),
});
export type PolicyDifferenceModel = z.infer<typeof policyDifference>;

const end = identified.extend({ address: z.string().optional() });
export type FlowDifferenceEnd = z.infer<typeof end>;

/** A flow seen that would be judged differently, from end to end. */
export const flowDifference = z.object({
  from: end,
  to: end,
  packet: z.string(),
  before: verdict,
  after: verdict,
  /** New connections, and packets that were refused. */
  count: z.number(),
  'first-seen': z.string(),
  'last-seen': z.string(),
});
export type FlowDifferenceModel = z.infer<typeof flowDifference>;

export const simulation = z.object({
  /** Of the policy that the change is held against. */
  revision: z.number(),
  rules: z.object({ added: z.number(), removed: z.array(ruleReference) }),
  /** Whose policy would change, and for whom. */
  policies: z.array(policyDifference),
  flows: z.object({
    /** How many flows are known. */
    seen: z.number(),
    since: z.string(),
    /** Events that could not be looked at, so their flows may be missing. */
    missed: z.number(),
    /** The most frequent first. */
    changed: z.array(flowDifference),
  }),
});
export type SimulationModel = z.infer<typeof simulation>;
