// SPDX-License-Identifier: Apache-2.0

/** The explanation of a flow as a model of the API, with what the kernel's own policy maps say beside it. */
import type {
  DirectionExplanationModel,
  FlowExplanationModel,
  KernelView,
  PolicyEntryModel,
  RuleHit,
  RuleReference,
  SuggestionModel,
} from '../../api/explain-models.ts';
import type { Endpoint } from '../../api/models.ts';
import { formatLabel } from '../../identity/label.ts';
import type { Cause, DirectionExplanation, ExplainedHit, FlowExplanation } from '../../policy/explain-flow.ts';
import { lookupEntry } from '../../policy/lookup.ts';
import type { PolicyEntry } from '../../policy/map-entry.ts';
import type { Rule, Section } from '../../policy/rule.ts';
import type { Suggestion } from '../../policy/suggestion.ts';
import { verdictOf, type PacketVerdict } from '../../policy/why/judge.ts';
import type { EntryStep, RuleStep } from '../../policy/why/steps.ts';
import type { NamedEnd } from './flow-ends.ts';
import { missingText, originText, packetText, peerText, portsText, settingText } from './why-texts.ts';

/** Entries of other rules that are listed as not helping. */
const MAX_MISSES = 20;

export interface ExplanationContext {
  /** Of the repository, in the order of import. */
  readonly rules: readonly Rule[];
  readonly from: NamedEnd;
  readonly to: NamedEnd;
  readonly endpoint: (id: number) => Endpoint | undefined;
  /** What the kernel holds for an endpoint. */
  readonly kernelEntries: (endpoint: number) => readonly PolicyEntry[] | undefined;
}

export function explanationModel(explanation: FlowExplanation, context: ExplanationContext): FlowExplanationModel {
  const { from, to } = context;
  const numbers = new Map(context.rules.map((rule, index) => [rule, index + 1]));
  const refer = (rule: Rule): RuleReference => reference(rule, numbers.get(rule) ?? 0);
  return {
    from: from.model,
    to: to.model,
    packet: packetText(explanation),
    verdict: explanation.verdict,
    egress: directionModel(explanation.egress, explanation, from, context, refer),
    ingress: directionModel(explanation.ingress, explanation, to, context, refer),
    ...(explanation.suggestion && { suggestion: suggestionModel(explanation.suggestion, explanation, context, refer) }),
  };
}

/** Of a flow with an address at which nobody is known: no rule is asked. */
export function closedModel(
  packet: Pick<FlowExplanation, 'protocol' | 'port'>,
  from: NamedEnd,
  to: NamedEnd,
): FlowExplanationModel {
  const closed = (): DirectionExplanationModel => ({
    verdict: 'denied',
    cause: 'unknown-address',
    hits: [],
    closedBy: [],
    misses: [],
  });
  return {
    from: from.model,
    to: to.model,
    packet: packetText(packet),
    verdict: 'denied',
    egress: closed(),
    ingress: closed(),
  };
}

/** Rules as they are known among all rules of the repository. */
export function referencesTo(rules: readonly Rule[], all: readonly Rule[]): RuleReference[] {
  const numbers = new Map(all.map((rule, index) => [rule, index + 1]));
  return rules.map((rule) => reference(rule, numbers.get(rule) ?? 0));
}

type AskedFlow = Pick<FlowExplanation, 'protocol' | 'port' | 'dropsRedirects'>;

/** Without a proxy a redirect is a drop. */
function inEffect(verdict: PacketVerdict, { dropsRedirects }: AskedFlow): PacketVerdict {
  return verdict === 'redirect' && dropsRedirects ? 'denied' : verdict;
}

type Refer = (rule: Rule) => RuleReference;

function reference(rule: Rule, number: number): RuleReference {
  const origin = originText(rule);
  return {
    number,
    ...(origin !== undefined && { origin }),
    labels: rule.labels.map(formatLabel),
    ...(rule.description !== undefined && { description: rule.description }),
    subject: rule.subject.selector.toJSON(),
  };
}

function directionModel(
  explanation: DirectionExplanation,
  flow: AskedFlow,
  subject: NamedEnd,
  context: ExplanationContext,
  refer: Refer,
): DirectionExplanationModel {
  const { setting, map, cause } = explanation;
  const kernel = subject.managed ? kernelView(explanation, flow, subject, context) : undefined;
  return {
    verdict: inEffect(explanation.verdict, flow),
    ...(subject.decidedBy && { decidedBy: subject.decidedBy }),
    cause,
    ...(setting !== undefined && { setting: { name: setting, text: settingText(setting) } }),
    hits: explanation.hits.map((hit) => hitModel(hit, refer)),
    closedBy: explanation.closedBy.map(refer),
    misses: missesOf(explanation.rules, cause, refer),
    ...(map?.entry && { entry: entryModel(map.entry) }),
    ...(kernel && { kernel }),
  };
}

function hitModel(hit: ExplainedHit, refer: Refer): RuleHit {
  const { rule, section, entry: index, portRuleIndex, deny, decides, redirect, peers, selected } = hit;
  const entry = rule.entries[section][index]!;
  const toPorts = portRuleIndex === undefined ? (entry.toPorts ?? []) : [entry.toPorts![portRuleIndex]!];
  const ports = portsText(toPorts, entry.icmps ?? []);
  return {
    rule: refer(rule),
    field: fieldOf(section, index, portRuleIndex),
    deny,
    decides,
    ...(redirect && { redirect: redirect.parser }),
    ...(entry.peers && { peers: peers.map(peerText) }),
    ...(ports !== '' && { ports }),
    selectors: selected.map(({ selector, identities }) => ({
      selector: selector.toString(),
      identities: [...identities],
    })),
  };
}

function fieldOf(section: Section, entry: number, portRule: number | undefined): string {
  return `${section}[${entry}]${portRule === undefined ? '' : `.toPorts[${portRule}]`}`;
}

/** Of interest only where nothing allows the flow. */
function missesOf(steps: readonly RuleStep[], cause: Cause, refer: Refer): DirectionExplanationModel['misses'] {
  if (cause !== 'no-rule-allows') return [];
  const misses = steps.flatMap(({ rule, entries }) =>
    entries
      .filter(({ deny }) => !deny)
      .map((step) => ({ rule: refer(rule), field: `${step.section}[${step.index}]`, reason: missReason(step) })),
  );
  return misses.slice(0, MAX_MISSES);
}

function missReason({ entry, peers, selectsPeer, l4, needsAuthentication }: EntryStep): string {
  if (l4 === 'nothing') return 'allows nothing at all';
  if (needsAuthentication) return 'asks for authentication, which there is none of';
  if (selectsPeer) return `is for ${portsText(entry.toPorts ?? [], entry.icmps ?? [])} only`;
  const wanted = (peers ?? []).map(({ peer, selectors }) => {
    const lacking = selectors[0] === undefined ? '' : ` (not here: ${missingText(selectors[0])})`;
    return `${peerText(peer)}${lacking}`;
  });
  return wanted.length === 0 ? 'is for no peer' : `is for ${wanted.join(' or ')}`;
}

/** Undefined when no endpoint has a policy map for the subject. */
function kernelView(
  { direction, peer, map, verdict }: DirectionExplanation,
  flow: AskedFlow,
  subject: NamedEnd,
  { endpoint, kernelEntries }: ExplanationContext,
): KernelView | undefined {
  const id = subject.model.endpoint;
  const entries = id === undefined ? undefined : kernelEntries(id);
  const state = id === undefined ? undefined : endpoint(id)?.status;
  if (id === undefined || entries === undefined || state === undefined) return undefined;
  const { spec, realized } = state.policy;
  const { protocol, port } = flow;
  const entry = lookupEntry(entries, { identity: peer.identity, egress: direction === 'egress', protocol, port });
  const held = verdictOf(entry?.precedence ?? 0);
  const failed = state.log.find(({ code }) => code === 'Failure');
  const behind = realized['policy-revision'] < spec['policy-revision'];
  return {
    endpoint: id,
    revision: { realized: realized['policy-revision'], desired: spec['policy-revision'] },
    ...(entry && { entry: entryModel(entry) }),
    verdict: inEffect(held, flow),
    agrees: sameDecision(entry, map?.entry) && held === verdict,
    ...(behind && failed && { error: failed.message }),
  };
}

function sameDecision(a: PolicyEntry | undefined, b: PolicyEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const key = ({ identity, protocol, port, bits, precedence, proxyPort }: PolicyEntry): string =>
    [identity, protocol, port, bits, precedence, proxyPort].join(' ');
  return key(a) === key(b);
}

function entryModel({
  identity,
  egress,
  protocol,
  port,
  bits,
  deny,
  proxyPort,
  precedence,
}: PolicyEntry): PolicyEntryModel {
  return { identity, egress, protocol, port, bits, deny, proxyPort, precedence };
}

function suggestionModel(
  { rules, label, remove, wider, impossible }: Suggestion,
  flow: FlowExplanation,
  { from, to }: ExplanationContext,
  refer: Refer,
): SuggestionModel {
  const sides = [
    { ...flow.egress, place: from.decidedBy },
    { ...flow.ingress, place: to.decidedBy },
  ];
  return {
    rules: [...rules],
    label,
    remove: remove.map(({ direction, kind, rule, section, entry, portRule }) => ({
      direction,
      kind,
      rule: refer(rule),
      field: fieldOf(section, entry, portRule),
    })),
    wider: wider.map(({ direction, part, identities }) => ({
      direction,
      part,
      identities: identities.map((labels) => labels.toTexts()),
    })),
    impossible: [...impossible],
    elsewhere: sides.flatMap(({ direction, verdict, place }) =>
      place !== undefined && inEffect(verdict, flow) === 'denied' ? [{ direction, ...place }] : [],
    ),
  };
}
