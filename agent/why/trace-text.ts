// SPDX-License-Identifier: Apache-2.0

/**
 * The log of a policy trace: nested lines, in the structure that Cilium's has. First each rule with what it says of the
 * peer's labels, then the verdict of the labels alone, then the ports where they decide.
 */
import type { DirectionTrace, PolicyTrace, PortTrace } from '../../policy/trace.ts';
import type { EntryStep, PeerStep, RuleStep } from '../../policy/why/steps.ts';
import { labelsText, missingText, packetText, peerText, portsText, ruleText, settingText } from './why-texts.ts';

const WORDS = {
  ingress: { title: 'Ingress', from: 'from', of: 'of' },
  egress: { title: 'Egress', from: 'to', of: 'of' },
} as const;

export interface TraceTextOptions {
  /** Also the rules that are for others. */
  readonly verbose: boolean;
  /** The nodes that decide on a direction; absent: this one. */
  readonly elsewhere: { readonly egress: string | undefined; readonly ingress: string | undefined };
}

export function traceText(trace: PolicyTrace, options: TraceTextOptions): string {
  const ports = trace.ports.map(({ port, protocol = 'ANY' }) => `${port}/${protocol}`).join(', ');
  const head = `Tracing From: ${labelsText(trace.from)} => To: ${labelsText(trace.to)} Ports: [${ports}]`;
  return [head, ...directionLines(trace.egress, options), '', ...directionLines(trace.ingress, options), ''].join('\n');
}

function directionLines(trace: DirectionTrace, { verbose, elsewhere }: TraceTextOptions): string[] {
  const { title } = WORDS[trace.direction];
  const lines = [`${title} policy of ${labelsText(trace.subject)}`];
  const nodes = elsewhere[trace.direction];
  if (nodes !== undefined) lines.push(`Decided on ${nodes} by the rules there; by the rules of this node:`);
  for (const [index, step] of trace.rules.entries()) lines.push(...ruleLines(step, index, trace, verbose));
  lines.push(`${trace.selected}/${trace.rules.length} rules selected`);
  if (trace.setting !== undefined) lines.push(`Open: ${settingText(trace.setting)}`);
  if (trace.requirementsFail) lines.push('Found unsatisfied requirement');
  const allows = trace.labelReasons.some(({ entry }) => !entry.deny);
  const denies = trace.labelReasons.some(({ entry }) => entry.deny);
  lines.push(denies ? 'Found deny rule' : allows ? 'Found allow rule' : 'Found no allow rule');
  lines.push(`Label verdict: ${trace.labelVerdict}`);
  return [...lines, ...portLines(trace)];
}

function ruleLines({ rule, selected, entries }: RuleStep, index: number, trace: DirectionTrace, verbose: boolean) {
  if (!selected)
    return verbose ? [`  Rule ${index + 1} ${ruleText(rule)}: did not select ${labelsText(trace.subject)}`] : [];
  const lines = [`* Rule ${index + 1} ${ruleText(rule)}: selected`];
  if (entries.length === 0) lines.push(`    Says nothing of ${trace.direction}`);
  return [...lines, ...entries.flatMap((entry) => entryLines(entry, trace))];
}

function entryLines(step: EntryStep, { direction }: DirectionTrace): string[] {
  const { from } = WORDS[direction];
  const act = step.deny ? 'Denies' : 'Allows';
  const lines = step.requires.flatMap(({ selector, missing }) => [
    `    Requires ${from} labels ${JSON.stringify(selector)}`,
    missing.length === 0
      ? '+     Found all required labels'
      : `-     Labels ${missingText({ selector, missing })} not found`,
  ]);
  if (step.peers === undefined && step.l4 !== 'nothing') lines.push(`    ${act} ${from} any peer`);
  for (const peer of step.peers ?? []) lines.push(`    ${act} ${from} ${peerText(peer.peer)}`, ...peerLines(peer));
  if (step.selectsPeer) lines.push(...l4Lines(step));
  return lines;
}

function peerLines({ selects, selectors }: PeerStep): string[] {
  if (selects) return ['      Found all required labels'];
  if (selectors.length === 0) return ['      Selects nobody here'];
  return selectors.slice(0, 1).map((step) => `      Labels ${missingText(step)} not found`);
}

function l4Lines({ l4, deny, entry, needsAuthentication }: EntryStep): string[] {
  if (needsAuthentication) return ['        Asks for authentication, which there is none of: allows nothing'];
  if (l4 === 'everything') return [`${deny ? '-' : '+'}       No L4 restrictions`];
  const ports = portsText(entry.toPorts ?? [], entry.icmps ?? []);
  return [`        Holds for ${ports} only: left to the ports`];
}

function portLines(trace: DirectionTrace): string[] {
  const { title } = WORDS[trace.direction];
  if (trace.labelVerdict !== 'undecided') return [`L4 ${trace.direction} policies skipped`];
  if (trace.ports.length === 0) return [`L4 ${trace.direction} verdict: denied [no port context specified]`];
  return [
    '',
    `Resolving ${trace.direction} port policy for ${labelsText(trace.subject)}`,
    ...trace.ports.flatMap((port) => portHits(port, title)),
    `L4 ${trace.direction} verdict: ${trace.verdict}`,
  ];
}

function portHits({ port, protocol = 'ANY', verdict, redirect, judgements }: PortTrace, title: string): string[] {
  const lines = judgements.flatMap((judgement) =>
    judgement.hits.map(({ rule, deny }) => {
      const flow = packetText({ protocol: judgement.protocol, port });
      return `    ${deny ? 'Denies' : 'Allows'} ${title} port [${flow}]: ${ruleText(rule)}`;
    }),
  );
  if (lines.length === 0) lines.push(`    No rule for port [${port}/${protocol}]`);
  const proxy = verdict === 'denied' ? ': there is no proxy to go to' : ', through a proxy that asks its own rules';
  return [...lines, `      ${verdict}${redirect ? proxy : ''}`];
}
