// SPDX-License-Identifier: Apache-2.0

/**
 * `policy trace`: would a flow between two label sets pass, and which rules say so (policy-language 11.1). No identity
 * needs to have these labels. First labels alone are asked, then ports. Where Cilium 1.1 traced otherwise than it enforced
 * (a failed requirement denied at once; denies for ports were not known), what is enforced is traced.
 */
import type { LabelSet } from '../identity/label-set.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import type { PolicyRepository } from './repository.ts';
import type { RepositoryView } from './repository-view.ts';
import type { Direction } from './rule.ts';
import { allowingSetting, judge, passes, type AllowingSetting, type Judgement } from './why/judge.ts';
import { ruleStep, type EntryStep, type RuleStep } from './why/steps.ts';
import { askedSubject, type AskedSubject } from './why/subject.ts';

export interface TraceQuestion {
  readonly from: LabelSet;
  readonly to: LabelSet;
  /** All have to be reachable; none: labels decide alone. */
  readonly ports: readonly TracedPort[];
}

/** `ANY` (also when absent) is TCP or UDP, whichever passes. */
export interface TracedPort {
  readonly port: number;
  readonly protocol?: 'ANY' | 'TCP' | 'UDP' | 'SCTP';
}

export interface PolicyTrace extends TraceQuestion {
  /** Of the sender. */
  readonly egress: DirectionTrace;
  /** Of the receiver. */
  readonly ingress: DirectionTrace;
  /** Allowed when both directions are. */
  readonly verdict: 'allowed' | 'denied';
}

export interface DirectionTrace {
  readonly direction: Direction;
  /** Whose policy it is. */
  readonly subject: LabelSet;
  readonly peer: LabelSet;
  /** What lets everything through that no rule denies. */
  readonly setting: AllowingSetting | undefined;
  /** All rules of the repository, in the order of their import. */
  readonly rules: readonly RuleStep[];
  /** How many of them select the subject. */
  readonly selected: number;
  /** `undecided`: ports decide. */
  readonly labelVerdict: 'allowed' | 'denied' | 'undecided';
  /** What made the label verdict; none: nothing did. */
  readonly labelReasons: readonly LabelReason[];
  /** Some rule requires of every peer what this one does not have (fromRequires). */
  readonly requirementsFail: boolean;
  /** One for each port asked for, decisive only when labels leave it undecided. */
  readonly ports: readonly PortTrace[];
  readonly verdict: 'allowed' | 'denied';
}

/** An entry without ports that selects the peer. */
export interface LabelReason {
  readonly step: RuleStep;
  readonly entry: EntryStep;
}

export interface PortTrace extends TracedPort {
  readonly verdict: 'allowed' | 'denied';
  /** A proxy gets the flow; what it says to requests is not traced. Denied: there is no proxy. */
  readonly redirect: boolean;
  /** Of the protocol; of TCP and UDP for `ANY`. */
  readonly judgements: readonly (Judgement & { readonly protocol: number })[];
}

export function tracePolicy(repository: PolicyRepository, { from, to, ports }: TraceQuestion): PolicyTrace {
  const view = repository.view();
  const egress = traceDirection(view, 'egress', askedSubject(view, from), to, ports);
  const ingress = traceDirection(view, 'ingress', askedSubject(view, to), from, ports);
  const verdict = egress.verdict === 'allowed' && ingress.verdict === 'allowed' ? 'allowed' : 'denied';
  return { from, to, ports, egress, ingress, verdict };
}

function traceDirection(
  view: RepositoryView,
  direction: Direction,
  subject: AskedSubject,
  peer: LabelSet,
  asked: readonly TracedPort[],
): DirectionTrace {
  const setting = allowingSetting(view, subject, direction, peer);
  const rules = view.rules.map((rule) => ruleStep(view, subject, direction, peer, rule));
  const ports = asked.map((port) => tracePort(view, subject, direction, peer, port));
  const label =
    subject.filters.length === 0 && setting !== undefined ? ALLOWED : labelVerdict(view, rules, setting, ports);
  const passed = ports.length > 0 && ports.every(({ verdict }) => verdict === 'allowed');
  return {
    direction,
    subject: subject.labels,
    peer,
    setting,
    rules,
    selected: rules.filter(({ selected }) => selected).length,
    ...label,
    requirementsFail: !subject.requirements[direction].matches(peer),
    ports,
    verdict: label.labelVerdict === 'allowed' || (label.labelVerdict === 'undecided' && passed) ? 'allowed' : 'denied',
  };
}

type LabelPart = Pick<DirectionTrace, 'labelVerdict' | 'labelReasons'>;

/** Nothing acts on the subject. */
const ALLOWED: LabelPart = { labelVerdict: 'allowed', labelReasons: [] };

function labelVerdict(
  { dropsRedirects }: RepositoryView,
  rules: readonly RuleStep[],
  setting: AllowingSetting | undefined,
  ports: readonly PortTrace[],
): LabelPart {
  const selecting = rules.flatMap((step) =>
    step.entries
      .filter(({ selectsPeer, needsAuthentication }) => selectsPeer && !needsAuthentication)
      .map((entry) => ({ step, entry })),
  );
  const everything = selecting.filter(({ entry }) => entry.l4 === 'everything');
  const denies = everything.filter(({ entry }) => entry.deny);
  if (denies.length > 0) return { labelVerdict: 'denied', labelReasons: denies };
  // What refuses some ports leaves it to the ports asked for.
  const someDenied =
    ports.length > 0 && selecting.some(({ entry }) => entry.deny || (dropsRedirects && entry.redirects));
  const allowed = !someDenied && (setting !== undefined || everything.length > 0);
  return { labelVerdict: allowed ? 'allowed' : 'undecided', labelReasons: everything };
}

const PROTOCOLS: Readonly<Record<NonNullable<TracedPort['protocol']>, readonly number[]>> = {
  ANY: [IP_PROTOCOL.TCP, IP_PROTOCOL.UDP],
  TCP: [IP_PROTOCOL.TCP],
  UDP: [IP_PROTOCOL.UDP],
  SCTP: [IP_PROTOCOL.SCTP],
};

function tracePort(
  view: RepositoryView,
  subject: AskedSubject,
  direction: Direction,
  peer: LabelSet,
  asked: TracedPort,
): PortTrace {
  const judgements = PROTOCOLS[asked.protocol ?? 'ANY'].map((protocol) => ({
    protocol,
    ...judge(view, subject, direction, peer, { protocol, port: asked.port }),
  }));
  const passing = judgements.filter(({ verdict }) => passes(view, verdict));
  return {
    ...asked,
    verdict: passing.length > 0 ? 'allowed' : 'denied',
    redirect: judgements.some(({ verdict }) => verdict === 'redirect'),
    judgements,
  };
}
