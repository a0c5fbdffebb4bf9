// SPDX-License-Identifier: Apache-2.0

/** Why a flow passes or not, as the REST API carries it. */
import { z } from 'zod';
import { labels } from './models.ts';

export const FLOW_PROTOCOLS = ['ANY', 'TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6'] as const;

/** The first packet of a flow; ends as people name them (agent/why/flow-ends.ts). */
export const flowQuestion = z.strictObject({
  from: z.string().min(1),
  to: z.string().min(1),
  /** `ANY`: of none in particular, so that only what holds for all protocols and ports counts. */
  protocol: z.enum(FLOW_PROTOCOLS).default('ANY'),
  /** Of the receiver; the type for ICMP. */
  port: z.int().min(0).max(65_535).default(0),
});
export type FlowQuestion = z.input<typeof flowQuestion>;
export type CheckedFlowQuestion = z.output<typeof flowQuestion>;

const direction = z.enum(['ingress', 'egress']);
const verdict = z.enum(['allowed', 'denied', 'redirect']);

/** A node of the cluster. */
export const nodePlace = z.object({
  node: z.string(),
  /** By which the other nodes reach it. */
  address: z.string().optional(),
});
export type NodePlace = z.infer<typeof nodePlace>;

export const flowEnd = z.object({
  /** What was asked for. */
  name: z.string(),
  /** An endpoint here that it is, or that has its identity. */
  endpoint: z.number().optional(),
  container: z.string().optional(),
  address: z.string().optional(),
  /** The node in whose range the address is; absent for what is on this node. */
  place: nodePlace.optional(),
  /** 0: nobody has these labels, or nobody is known at the address. */
  identity: z.number(),
  labels,
  /** Whether it has a policy, on this node or at `place`. */
  managed: z.boolean(),
});
export type FlowEndModel = z.infer<typeof flowEnd>;

/** A rule of the repository. */
export const ruleReference = z.object({
  /** Its place among all rules, from 1. */
  number: z.number(),
  /** `web.json:12` */
  origin: z.string().optional(),
  labels,
  description: z.string().optional(),
  /** Its own selector, as in the rule. */
  subject: z.unknown(),
});
export type RuleReference = z.infer<typeof ruleReference>;

/** An entry of a rule that says something about the flow. */
export const ruleHit = z.object({
  rule: ruleReference,
  /** `ingress[0]` */
  field: z.string(),
  deny: z.boolean(),
  /** Whether it makes the verdict; another may be stronger. */
  decides: z.boolean(),
  /** Parser of the proxy that gets the flow. */
  redirect: z.string().optional(),
  /** The entry's peers that the peer is among; absent: any peer. */
  peers: z.array(z.string()).optional(),
  /** `80/TCP`; absent: all. */
  ports: z.string().optional(),
  /** With all identities that each selects. */
  selectors: z.array(z.object({ selector: z.string(), identities: z.array(z.number()) })),
});
export type RuleHit = z.infer<typeof ruleHit>;

export const policyEntry = z.object({
  /** Of the peer; 0: any. */
  identity: z.number(),
  egress: z.boolean(),
  protocol: z.number(),
  port: z.number(),
  bits: z.number(),
  deny: z.boolean(),
  proxyPort: z.number(),
  precedence: z.number(),
});
export type PolicyEntryModel = z.infer<typeof policyEntry>;

/** What the kernel's policy map of an endpoint says. */
export const kernelView = z.object({
  endpoint: z.number(),
  /** That the kernel enforces, and that the rules make. */
  revision: z.object({ realized: z.number(), desired: z.number() }),
  /** Absent: nothing matches, so the packet is dropped. */
  entry: policyEntry.optional(),
  verdict,
  /** Whether that is what the rules say. */
  agrees: z.boolean(),
  /** Why the policy of the rules is not in force. */
  error: z.string().optional(),
});
export type KernelView = z.infer<typeof kernelView>;

export const directionExplanation = z.object({
  verdict,
  /** The subject is an endpoint there, and the rules there decide; the rest says what those of this node would. */
  decidedBy: nodePlace.optional(),
  /** `unknown-address`: nobody is known at one of the addresses, so the kernel drops the packet whatever rules say. */
  cause: z.enum(['deny-rule', 'allow-rule', 'redirect-rule', 'setting', 'no-rule-allows', 'unknown-address']),
  /** What lets everything through that no rule denies. */
  setting: z.object({ name: z.string(), text: z.string() }).optional(),
  /** The strongest first. */
  hits: z.array(ruleHit),
  /** Rules because of which the subject denies what no rule allows. */
  closedBy: z.array(ruleReference),
  /** What rules for the subject say of other peers or ports: why they do not help. */
  misses: z.array(z.object({ rule: ruleReference, field: z.string(), reason: z.string() })),
  /** The entry that the rules make for the packet; absent: none. */
  entry: policyEntry.optional(),
  /** Absent: no endpoint here has the subject's identity. */
  kernel: kernelView.optional(),
});
export type DirectionExplanationModel = z.infer<typeof directionExplanation>;

export const suggestion = z.object({
  /** Ready for an import; none: it is enough that what stands in the way goes. */
  rules: z.array(z.unknown()),
  /** On each of the rules. */
  label: z.string(),
  /** Entries that refuse the flow whatever others allow. */
  remove: z.array(
    z.object({ direction, kind: z.enum(['denies', 'requires', 'redirects']), rule: ruleReference, field: z.string() }),
  ),
  /** Where the rules would allow more than this flow: whom besides, by labels. */
  wider: z.array(z.object({ direction, part: z.enum(['subject', 'peer', 'ports']), identities: z.array(labels) })),
  /** Directions for which no rule can be written. */
  impossible: z.array(direction),
  /** Directions that another node decides: where their rules have to be imported. */
  elsewhere: z.array(nodePlace.extend({ direction })),
});
export type SuggestionModel = z.infer<typeof suggestion>;

export const flowExplanation = z.object({
  from: flowEnd,
  to: flowEnd,
  /** `80/TCP` */
  packet: z.string(),
  /** By the rules of this node, for directions that another one decides, too. */
  verdict,
  egress: directionExplanation,
  ingress: directionExplanation,
  /** Of a flow that is denied. */
  suggestion: suggestion.optional(),
});
export type FlowExplanationModel = z.infer<typeof flowExplanation>;
