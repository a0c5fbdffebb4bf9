// SPDX-License-Identifier: Apache-2.0

/** The explanation of a flow for people: first the verdict, then each direction with who decides it, then the remedy. */
import type {
  DirectionExplanationModel,
  FlowEndModel,
  FlowExplanationModel,
  KernelView,
  NodePlace,
  PolicyEntryModel,
  RuleHit,
  RuleReference,
  SuggestionModel,
} from '../../api/explain-models.ts';
import { RESERVED_IDENTITIES } from '../../identity/numeric-identity.ts';
import { portText } from '../../datapath/maps/flow-text.ts';

type Verdict = FlowExplanationModel['verdict'];

const VERDICTS: Readonly<Record<Verdict, string>> = { allowed: 'ALLOWED', denied: 'DENIED', redirect: 'TO PROXY' };
const WORST_FIRST: readonly Verdict[] = ['denied', 'redirect', 'allowed'];

/** `command`: the words after `cilium` that print the suggestion. */
export function explanationText(explanation: FlowExplanationModel, command: string): string {
  const { from, to, packet, egress, ingress, suggestion } = explanation;
  const nobody = nobodyTexts(explanation);
  const lines = [
    `${from.name} -> ${to.name} ${packet}: ${verdictText(explanation)}`,
    ...nobody.map((text) => `${text}.`),
    '',
    `From: ${endText(from)}`,
    `To:   ${endText(to)}`,
  ];
  if (nobody.length === 0) {
    lines.push('', ...directionLines('Egress', from, egress), '', ...directionLines('Ingress', to, ingress));
  }
  if (suggestion !== undefined) lines.push('', ...suggestionLines(suggestion, command));
  return `${lines.join('\n')}\n`;
}

/** `ALLOWED`, `ALLOWED here; node1 decides on ingress` */
export function verdictText({ verdict, egress, ingress }: FlowExplanationModel): string {
  const sides = [
    { ...egress, on: 'egress' },
    { ...ingress, on: 'ingress' },
  ];
  const own = sides.filter(({ decidedBy }) => decidedBy === undefined);
  const deciders = sides.flatMap(({ decidedBy, on }) => (decidedBy ? [`${decidedBy.node} decides on ${on}`] : []));
  if (deciders.length === 0) return VERDICTS[verdict];
  const here = WORST_FIRST.find((one) => own.some((side) => side.verdict === one));
  if (here === 'denied') return VERDICTS.denied;
  return [...(here === undefined ? [] : [`${VERDICTS[here]} here`]), deciders.join(', ')].join('; ');
}

/** Why nothing passes to or from addresses at which nobody is known; none: there is no such address. */
export function nobodyTexts({ from, to }: FlowExplanationModel): string[] {
  const ends = [
    { end: from, other: to },
    { end: to, other: from },
  ];
  return ends
    .filter(({ end }) => isNobodysAddress(end))
    .map(({ end: { address, place }, other }) => {
      const range = place === undefined ? "one of the cluster's ranges" : `${place.node}'s range`;
      const drop =
        other.managed && other.identity !== RESERVED_IDENTITIES.host
          ? 'the kernel drops it (Invalid identity)'
          : 'it is dropped';
      return `${address} is in ${range}, and nobody is known there (yet): ${drop}`;
    });
}

function isNobodysAddress({ identity, address }: FlowEndModel): boolean {
  return identity === 0 && address !== undefined;
}

/** `endpoint 173 (app1), 10.15.0.2, identity 41173 [container:id=app1]`, `app1, 10.16.0.2 on node1 (192.168.251.1), …` */
function endText(end: FlowEndModel): string {
  const { endpoint, container, address, place, identity, labels } = end;
  if (isNobodysAddress(end)) return `${address}, nobody known`;
  const name =
    endpoint === undefined ? container : `endpoint ${endpoint}${container === undefined ? '' : ` (${container})`}`;
  const where = place === undefined ? '' : ` on ${placeText(place)}`;
  const parts = [
    ...(name === undefined ? [] : [name]),
    ...(address === undefined ? [] : [`${address}${where}`]),
    identity === 0 ? 'nobody here, with the labels' : `identity ${identity}`,
  ];
  return `${parts.join(', ')} [${labels.join(' ')}]`;
}

/** `node1 (192.168.251.1)` */
function placeText({ node, address }: NodePlace): string {
  return address === undefined ? node : `${node} (${address})`;
}

function directionLines(title: string, subject: FlowEndModel, explanation: DirectionExplanationModel): string[] {
  const { verdict, decidedBy, cause, setting, hits, closedBy, misses, kernel } = explanation;
  const decided =
    decidedBy && `decided on ${placeText(decidedBy)} by the rules there; by the rules of this node it would be: `;
  const lines = [`${title} of ${subject.name}: ${decided ?? ''}${VERDICTS[verdict]}`];
  if (cause === 'setting' || (setting !== undefined && verdict !== 'denied'))
    lines.push(`  ${capital(setting!.text)}.`);
  lines.push(...hits.flatMap(hitLines));
  if (cause === 'redirect-rule' && verdict === 'denied') lines.push('  There is no proxy, so it is dropped.');
  if (cause === 'no-rule-allows') {
    lines.push(
      closedBy.length > 0 ? '  No rule allows it. What no rule allows is denied because of' : '  No rule allows it.',
    );
    lines.push(...closedBy.map((rule) => `    ${ruleText(rule)}`));
    if (misses.length > 0) lines.push('  Rules that allow something else');
    for (const { rule, field, reason } of misses) {
      lines.push(`    ${ruleText({ ...rule, description: undefined })} ${field} ${reason}`);
    }
  }
  if (kernel !== undefined) lines.push(...kernelLines(kernel, explanation.entry));
  return lines;
}

function hitLines({ rule, field, deny, decides, redirect, peers, ports, selectors }: RuleHit): string[] {
  const act = deny ? 'Denied' : redirect === undefined ? 'Allowed' : `Sent to the ${redirect} proxy`;
  const what = decides ? act : `${act}, were it not for the above,`;
  const lines = [`  ${what} by ${ruleText(rule)}`];
  const scope = [peers === undefined ? 'any peer' : peers.join(' or '), ...(ports === undefined ? [] : [ports])];
  lines.push(`    ${field}: ${scope.join(', ')}`);
  for (const { selector, identities } of selectors) lines.push(`    ${selector} selects ${identityList(identities)}`);
  return lines;
}

const MAX_IDENTITIES = 10;

function identityList(identities: readonly number[]): string {
  const more = identities.length - MAX_IDENTITIES;
  return `${identities.slice(0, MAX_IDENTITIES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

type NamedRule = Pick<RuleReference, 'number' | 'origin' | 'labels'> & { readonly description?: string | undefined };

/** `rule 3 at web.json:12 [unspec:name=web] "The shop's front"` */
export function ruleText({ number, origin, labels, description }: NamedRule): string {
  const parts = [
    `rule ${number}`,
    ...(origin === undefined ? [] : [`at ${origin}`]),
    ...(labels.length === 0 ? [] : [`[${labels.join(' ')}]`]),
    ...(description === undefined ? [] : [JSON.stringify(description)]),
  ];
  return parts.join(' ');
}

function kernelLines(
  { endpoint, revision, entry, verdict, agrees, error }: KernelView,
  wanted?: PolicyEntryModel,
): string[] {
  const lines = [`  Kernel, endpoint ${endpoint}, policy revision ${revision.realized}: ${entryText(entry)}`];
  if (agrees) return lines;
  lines.push(`  ATTENTION: the kernel says ${VERDICTS[verdict]} by another entry than the rules: ${entryText(wanted)}`);
  if (revision.realized < revision.desired) {
    lines.push(`  The rules have revision ${revision.desired}; the endpoint does not enforce it yet.`);
  }
  if (error !== undefined) lines.push(`  ${error}`);
  return lines;
}

/** `allow ingress 41029 80/TCP (prefix 24)` */
function entryText(entry: PolicyEntryModel | undefined): string {
  if (entry === undefined) return 'no entry matches, the packet is dropped';
  const act = entry.deny ? 'deny' : entry.proxyPort === 0 ? 'allow' : `proxy port ${entry.proxyPort},`;
  const peer = entry.identity === 0 ? 'any identity' : `identity ${entry.identity}`;
  return `entry ${act} ${entry.egress ? 'egress' : 'ingress'}, ${peer}, ${portText(entry)}`;
}

function suggestionLines(suggestion: SuggestionModel, command: string): string[] {
  const { rules } = suggestion;
  const lines = suggestionNotes(suggestion);
  if (rules.length === 0) return lines;
  const smallest = rules.length === 1 ? 'The smallest rule that allows it' : 'The smallest rules that allow it';
  return [
    ...lines,
    `${smallest} (cilium ${command} --suggest | cilium policy import -):`,
    JSON.stringify(rules, undefined, 2),
  ];
}

const OBSTACLES: Readonly<Record<SuggestionModel['remove'][number]['kind'], string>> = {
  denies: 'denies it, whatever others allow',
  requires: 'requires labels that the peer does not have',
  redirects: 'sends it to a proxy, whatever others allow',
};

/** What the suggested rules do not mend, and what they allow besides. */
export function suggestionNotes({ remove, wider, impossible, elsewhere }: SuggestionModel): string[] {
  const obstacles = remove.map(
    ({ kind, rule, field }) =>
      `In the way: ${ruleText(rule)}, ${field} ${OBSTACLES[kind]}. It has to go or to be narrowed.`,
  );
  const unspeakable = impossible.map(
    (direction) => `No rule can be written for ${direction}: none of the labels may stand in a selector.`,
  );
  const extras = wider.map(({ direction, part, identities }) => {
    if (part === 'ports') return `The rule holds for all ports in ${direction}: it cannot name this one alone.`;
    const whom = identities.map((labels) => `[${labels.join(' ')}]`).join(', ');
    return `The rule ${part === 'subject' ? 'is' : 'allows it'} for ${whom} too (${direction}): selectors cannot tell them apart.`;
  });
  const away = elsewhere.map(
    ({ direction, ...place }) => `For ${direction} the rules of ${placeText(place)} decide: import the rule there.`,
  );
  return [...obstacles, ...unspeakable, ...extras, ...away];
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
