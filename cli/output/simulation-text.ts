// SPDX-License-Identifier: Apache-2.0

/** What an import would change, for people: policy by policy, then the flows seen that would meet another verdict. */
import type {
  FlowDifferenceEnd,
  FlowDifferenceModel,
  PolicyDifferenceModel,
  SimulatedPeerModel,
  SimulatedVerdict,
  SimulationModel,
} from '../../api/simulation-models.ts';
import { ruleText } from './explanation-text.ts';
import { table } from './table.ts';

/** Names that one line has room for. */
const MAX_NAMES = 8;
const MAX_FLOWS = 50;

export function simulationText({ rules, policies, flows }: SimulationModel): string {
  const removed = rules.removed.map((rule) => `  - ${ruleText(rule)}`);
  const parts = [
    [`Rules: ${rules.added} come, ${rules.removed.length} go. Nothing has been changed.`, ...removed].join('\n'),
    ...(policies.length === 0 ? ['No policy of an endpoint here changes.'] : policies.map(policyText)),
    flowsText(flows),
  ];
  return `${parts.map((part) => part.trimEnd()).join('\n\n')}\n`;
}

function policyText({ subjects, direction, open, changes }: PolicyDifferenceModel): string {
  const title = `${direction === 'ingress' ? 'Ingress' : 'Egress'} of ${names(subjects.map(nameOf))}`;
  const word = direction === 'ingress' ? 'from' : 'to';
  const rows = new Map<string, string[]>();
  for (const { peers, packets, before, after } of changes.toSorted(othersLast)) {
    const row = [`  ${effect(before, after)}`, `${word} ${names(sorted(peers).map(peerName))}`];
    const there = rows.get(row.join('\t'));
    if (there === undefined) rows.set(row.join('\t'), [...row, packets]);
    else there.push(`${there.pop()!}, ${packets}`);
  }
  const lines = [`${title}${openText(open)}`];
  return `${lines.join('\n')}\n${table([...rows.values()])}`;
}

function openText({ before, after }: PolicyDifferenceModel['open']): string {
  if (before === after) return '';
  return after ? ': no rule restricts it any more' : ': only what rules allow passes from then on';
}

function flowsText({ seen, since, missed, changed }: SimulationModel['flows']): string {
  const scope = `${seen} flows seen since ${since}${missed > 0 ? ` (${missed} events could not be looked at)` : ''}`;
  if (changed.length === 0) return `None of ${scope} would meet another verdict.`;
  const rows = changed.slice(0, MAX_FLOWS).map((flow) => flowRow(flow));
  const more = changed.length - rows.length;
  const tail = more > 0 ? `  … and ${more} more: -o json shows all\n` : '';
  return `${changed.length} of ${scope} would meet another verdict:\n${table(rows)}${tail}`;
}

function flowRow({ from, to, packet, before, after, count, ...times }: FlowDifferenceModel): string[] {
  const flow = `${flowEnd(from)} -> ${flowEnd(to)}`;
  return [`  ${effect(before, after)}`, flow, packet, `${count}x, last ${times['last-seen']}`];
}

function effect(before: SimulatedVerdict, after: SimulatedVerdict): string {
  if (after === 'denied') return 'NEWLY DENIED';
  if (after === 'redirect') return before === 'denied' ? 'NEWLY ALLOWED (proxy)' : 'NOW BY PROXY';
  return before === 'denied' ? 'NEWLY ALLOWED' : 'NO MORE PROXY';
}

/** Containers by name; others by their labels. */
function nameOf({ identity, labels, containers }: Omit<FlowDifferenceEnd, 'address'>): string {
  if (containers.length > 0) return containers.join(', ');
  return labels.length > 0 ? `[${labels.join(' ')}]` : `identity ${identity}`;
}

function peerName(peer: SimulatedPeerModel): string {
  if (peer.kind === 'others') return 'all others';
  return peer.kind === 'prefix' ? peer.prefix! : nameOf({ ...peer, identity: peer.identity! });
}

type Change = PolicyDifferenceModel['changes'][number];

function othersLast(a: Change, b: Change): number {
  const isOthers = ({ peers }: Change): number => Number(peers.some(({ kind }) => kind === 'others'));
  return isOthers(a) - isOthers(b);
}

/** Containers of this node come first. */
function sorted(peers: readonly SimulatedPeerModel[]): SimulatedPeerModel[] {
  return peers.toSorted((a, b) => Number(b.containers.length > 0) - Number(a.containers.length > 0));
}

function flowEnd(end: FlowDifferenceEnd): string {
  return end.address ?? nameOf(end);
}

function names(all: readonly string[]): string {
  const more = all.length - MAX_NAMES;
  return `${all.slice(0, MAX_NAMES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
