// SPDX-License-Identifier: Apache-2.0

/**
 * The smallest rule that would allow a flow that is denied, as JSON to import: for exactly this subject, this peer and
 * this port, among all identities that are known. No requirement, peer or port can be left out of it without more being
 * allowed. Where a rule denies the flow, no other rule can allow it: that one has to go.
 */
import type { LabelSet } from '../identity/label-set.ts';
import { identityName } from '../identity/numeric-identity.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import type { RepositoryView } from './repository-view.ts';
import type { Direction, Rule, Section } from './rule.ts';
import { subjectKind } from './subject-policy.ts';
import type { FlowEnd } from './why/flow-end.ts';
import { judge, type Hit, type Judgement, type Packet } from './why/judge.ts';
import { peerMember, type PeerMember } from './why/peer-member.ts';
import { narrowSelector, type NarrowSelector } from './why/narrow.ts';
import { isManaged, withoutRequirements, type AskedSubject } from './why/subject.ts';

export interface Suggestion {
  /** Ready for `policy import`; none when it is enough that `remove` goes. */
  readonly rules: readonly object[];
  /** On each of the rules, so that `policy delete` finds them. */
  readonly label: string;
  /** Entries that refuse the flow whatever others allow; they have to go, or to be narrowed. */
  readonly remove: readonly Obstacle[];
  /** Where the rules would allow more than this flow. */
  readonly wider: readonly Wider[];
  /** Directions for which no rule can be written: no label of the identity may stand in a selector. */
  readonly impossible: readonly Direction[];
}

export interface Obstacle {
  readonly direction: Direction;
  /** `requires`: it asks for labels that the peer does not have (fromRequires). `redirects`: to a proxy that is not there. */
  readonly kind: 'denies' | 'requires' | 'redirects';
  readonly rule: Rule;
  readonly section: Section;
  readonly entry: number;
  /** Which item of its toPorts; undefined: the entry as a whole. */
  readonly portRule: number | undefined;
}

export interface Wider {
  readonly direction: Direction;
  /** `ports`: the language has no word for this one (port 0; protocols other than TCP, UDP, SCTP and ICMP). */
  readonly part: 'subject' | 'peer' | 'ports';
  /** Whom it selects besides. */
  readonly identities: readonly LabelSet[];
}

/** A direction that denies the flow. */
export interface DeniedDirection {
  readonly direction: Direction;
  readonly subject: FlowEnd;
  readonly asked: AskedSubject;
  readonly peer: FlowEnd;
  readonly judgement: Judgement;
}

export function suggest(view: RepositoryView, denied: readonly DeniedDirection[], packet: Packet): Suggestion {
  const { from, to } = endsOf(denied[0]!);
  const label = `explain:flow=${identityName(from.identity)}-${identityName(to.identity)}-${packet.protocol}-${packet.port}`;
  const rules = new Map<string, object>();
  const wider: Wider[] = [];
  const impossible: Direction[] = [];
  const remove: Obstacle[] = [];
  for (const one of denied) {
    const { direction } = one;
    const peer = peerMember(view, one.peer);
    const { judgement, unmet } = withoutUnmet(view, one, peer, packet);
    remove.push(...refusals(view, direction, judgement), ...unmet);
    if (!needsRule(view, judgement)) continue;
    const subject = subjectSelector(view, one.subject.labels);
    if (subject === undefined || peer === undefined) {
      impossible.push(direction);
      continue;
    }
    const { l4, exact } = portMember(packet);
    const member = `${direction === 'ingress' ? 'from' : 'to'}${peer.kind}`;
    const selector = subjectKind(one.subject.labels).isHost ? 'nodeSelector' : 'endpointSelector';
    const key = subject.selector.toString();
    rules.set(key, {
      labels: [label],
      [selector]: subject.selector.toJSON(),
      ...rules.get(key),
      [direction]: [{ [member]: peer.list, ...l4 }],
    });
    if (subject.alsoSelects.length > 0) wider.push({ direction, part: 'subject', identities: subject.alsoSelects });
    if (peer.alsoSelects.length > 0) wider.push({ direction, part: 'peer', identities: peer.alsoSelects });
    if (!exact) wider.push({ direction, part: 'ports', identities: [] });
  }
  return { rules: [...rules.values()], label, remove, wider, impossible };
}

function endsOf({ direction, subject, peer }: DeniedDirection): { from: FlowEnd; to: FlowEnd } {
  return direction === 'egress' ? { from: subject, to: peer } : { from: peer, to: subject };
}

/** False when something allows the flow already, and only what refuses it is in the way. */
function needsRule(view: RepositoryView, { hits, setting }: Judgement): boolean {
  return setting === undefined && hits.every((hit) => refuses(view, hit));
}

function refuses({ dropsRedirects }: RepositoryView, { deny, redirect }: Hit): boolean {
  return deny || (dropsRedirects && redirect !== undefined);
}

/** Entries that hit the flow and refuse it. */
function refusals(view: RepositoryView, direction: Direction, { hits }: Judgement): Obstacle[] {
  return hits
    .filter((hit) => refuses(view, hit))
    .map(({ rule, section, entry, portRuleIndex: portRule, deny }) => {
      return { direction, kind: deny ? 'denies' : 'redirects', rule, section, entry, portRule };
    });
}

/**
 * Requirements narrow the selectors of endpoints in every rule of the subject, in ours too: those that the peer does not
 * meet have to go first, and then something else may allow or refuse the flow.
 */
function withoutUnmet(
  view: RepositoryView,
  { direction, asked, peer, judgement }: DeniedDirection,
  member: PeerMember | undefined,
  packet: Packet,
): { judgement: Judgement; unmet: readonly Obstacle[] } {
  if (member?.kind !== 'Endpoints' || !needsRule(view, judgement)) return { judgement, unmet: [] };
  const unmet = [...asked.rules].flatMap((rule) =>
    rule.entries[direction].flatMap(({ requires = [] }, entry): Obstacle[] =>
      requires.every((selector) => selector.matches(peer.labels))
        ? []
        : [{ direction, kind: 'requires', rule, section: direction, entry, portRule: undefined }],
    ),
  );
  if (unmet.length === 0) return { judgement, unmet };
  return { judgement: judge(view, withoutRequirements(view, asked), direction, peer.labels, packet), unmet };
}

/** Told apart from all that may be subjects, too. */
function subjectSelector(view: RepositoryView, labels: LabelSet): NarrowSelector | undefined {
  const { isHost } = subjectKind(labels);
  const others = Array.from(view.peers.identities(), ([, other]) => other);
  return narrowSelector(
    labels,
    others.filter((other) => isManaged(other) && subjectKind(other).isHost === isHost),
  );
}

const PORT_PROTOCOLS = new Map<number, string>([
  [IP_PROTOCOL.TCP, 'TCP'],
  [IP_PROTOCOL.UDP, 'UDP'],
  [IP_PROTOCOL.SCTP, 'SCTP'],
]);

function portMember({ protocol, port }: Packet): { l4: object; exact: boolean } {
  const name = PORT_PROTOCOLS.get(protocol);
  if (name !== undefined)
    return { l4: { toPorts: [{ ports: [{ port: String(port), protocol: name }] }] }, exact: port !== 0 };
  if (protocol !== IP_PROTOCOL.ICMP && protocol !== IP_PROTOCOL.ICMPv6) return { l4: {}, exact: protocol === 0 };
  const family = protocol === IP_PROTOCOL.ICMP ? 'IPv4' : 'IPv6';
  return { l4: { icmps: [{ fields: [{ family, type: port }] }] }, exact: true };
}
