// SPDX-License-Identifier: Apache-2.0

/**
 * The smallest rule that would allow a flow that is denied, as JSON to import: for exactly this subject, this peer and
 * this port, among all identities that are known. No requirement, peer or port can be left out of it without more being
 * allowed. Where a rule denies the flow, no other rule can allow it: that one has to go.
 */
import { Prefix } from '../net/ip.ts';
import type { LabelSet } from '../identity/label-set.ts';
import { LABEL_SOURCE } from '../identity/label.ts';
import { identityName } from '../identity/numeric-identity.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import type { RepositoryView } from './repository-view.ts';
import { ENTITIES, type Direction, type Rule, type Section } from './rule.ts';
import { subjectKind } from './subject-policy.ts';
import type { FlowEnd } from './why/flow-end.ts';
import { judge, type Judgement, type Packet } from './why/judge.ts';
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
  /** `requires`: the entry asks for labels that the peer does not have (fromRequires). */
  readonly kind: 'denies' | 'requires';
  readonly rule: Rule;
  readonly section: Section;
  readonly entry: number;
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

/** More exceptions than this make a list that nobody reads; then the rule is wider. */
const MAX_EXCEPTS = 16;

export function suggest(view: RepositoryView, denied: readonly DeniedDirection[], packet: Packet): Suggestion {
  const { from, to } = endsOf(denied[0]!);
  const label = `explain:flow=${identityName(from.identity)}-${identityName(to.identity)}-${packet.protocol}-${packet.port}`;
  const rules = new Map<string, object>();
  const wider: Wider[] = [];
  const impossible: Direction[] = [];
  const remove: Obstacle[] = [];
  for (const one of denied) {
    remove.push(...denies(one));
    if (!needsRule(one)) continue;
    const { direction } = one;
    const subject = subjectSelector(view, one.subject.labels);
    const peer = peerMember(view, one.peer);
    if (subject === undefined || peer === undefined) {
      impossible.push(direction);
      continue;
    }
    const unmet = peer.kind === 'Endpoints' ? unmetRequirements(one) : [];
    remove.push(...unmet);
    if (unmet.length > 0 && !needsRule({ ...one, judgement: judgeUnrequired(view, one, packet) })) continue;
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

/** False when something allows the flow already, and only denies are in the way. */
function needsRule({ judgement: { hits, setting } }: DeniedDirection): boolean {
  return setting === undefined && hits.every(({ deny }) => deny);
}

/** Denies that hit the flow. */
function denies({ direction, judgement: { hits } }: DeniedDirection): Obstacle[] {
  return hits
    .filter(({ deny }) => deny)
    .map(({ rule, section, entry }) => ({ direction, kind: 'denies', rule, section, entry }));
}

/** Requirements narrow the selectors of endpoints in every rule of the subject, in ours too. */
function unmetRequirements({ direction, asked, peer }: DeniedDirection): Obstacle[] {
  return [...asked.rules].flatMap((rule) =>
    rule.entries[direction].flatMap(({ requires = [] }, entry) =>
      requires.every((selector) => selector.matches(peer.labels))
        ? []
        : [{ direction, kind: 'requires' as const, rule, section: direction, entry }],
    ),
  );
}

function judgeUnrequired(view: RepositoryView, { direction, asked, peer }: DeniedDirection, packet: Packet): Judgement {
  return judge(view, withoutRequirements(view, asked), direction, peer.labels, packet);
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

interface PeerMember {
  readonly kind: 'Endpoints' | 'Entities' | 'CIDR' | 'CIDRSet';
  readonly list: readonly unknown[];
  readonly alsoSelects: readonly LabelSet[];
}

function peerMember(view: RepositoryView, { labels, address }: FlowEnd): PeerMember | undefined {
  const range = outsideRange(view, labels);
  if (range !== undefined) {
    const single = address && Prefix.of(address);
    return single !== undefined && range.contains(single)
      ? { kind: 'CIDR', list: [single.toString()], alsoSelects: [] }
      : rangeMember(view, labels, range);
  }
  const others = Array.from(view.peers.identities(), ([, other]) => other);
  const narrow = narrowSelector(labels, others);
  if (narrow === undefined) return undefined;
  const { selector, alsoSelects } = narrow;
  const [only] = selector.requirements;
  const entity = ENTITIES.find((name) => name === only!.key);
  return selector.requirements.length === 1 && only!.source === LABEL_SOURCE.reserved && entity !== undefined
    ? { kind: 'Entities', list: [entity], alsoSelects }
    : { kind: 'Endpoints', list: [selector.toJSON()], alsoSelects };
}

/** All addresses that may have this identity. Undefined: it is not outside, or of both families. */
function outsideRange(view: RepositoryView, labels: LabelSet): Prefix | undefined {
  const narrowest = [...labels.prefixes].sort((a, b) => b.length - a.length)[0];
  if (narrowest !== undefined) return narrowest;
  const { ipv4, ipv6 } = view.context.families;
  const world = labels.has(LABEL_SOURCE.reserved, 'world') && ipv4 !== ipv6;
  if (labels.has(LABEL_SOURCE.reserved, 'world-ipv4') || (world && ipv4)) return Prefix.parse('0.0.0.0/0');
  return labels.has(LABEL_SOURCE.reserved, 'world-ipv6') || (world && ipv6) ? Prefix.parse('::/0') : undefined;
}

/** A range without those inside it that have identities of their own. */
function rangeMember(view: RepositoryView, labels: LabelSet, range: Prefix): PeerMember {
  const inside = Array.from(view.peers.identities(), ([, other]) => other).filter(
    (other) => !other.equals(labels) && other.prefixes.some((prefix) => range.contains(prefix)),
  );
  const prefixes = inside.flatMap((other) => other.prefixes).filter((prefix) => prefix.length > range.length);
  const widest = prefixes.filter((prefix) => !prefixes.some((o) => o.length < prefix.length && o.contains(prefix)));
  const except = [...new Set(widest.map(String))];
  if (except.length > 0 && except.length <= MAX_EXCEPTS)
    return { kind: 'CIDRSet', list: [{ cidr: range.toString(), except }], alsoSelects: [] };
  if (range.length > 0) return { kind: 'CIDR', list: [range.toString()], alsoSelects: inside };
  const world = [...labels].find(({ key }) => key.startsWith('world'))!;
  return { kind: 'Entities', list: [world.key], alsoSelects: inside };
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
  if (protocol !== IP_PROTOCOL.ICMP && protocol !== IP_PROTOCOL.ICMPv6) return { l4: {}, exact: false };
  const family = protocol === IP_PROTOCOL.ICMP ? 'IPv4' : 'IPv6';
  return { l4: { icmps: [{ fields: [{ family, type: port }] }] }, exact: true };
}
