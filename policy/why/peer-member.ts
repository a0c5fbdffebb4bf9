// SPDX-License-Identifier: Apache-2.0

/** The member of an entry that names one peer and nobody else: an entity, a prefix or labels. */
import type { LabelSet } from '../../identity/label-set.ts';
import { LABEL_SOURCE } from '../../identity/label.ts';
import { Prefix } from '../../net/ip.ts';
import type { RepositoryView } from '../repository-view.ts';
import { ENTITIES } from '../rule.ts';
import type { FlowEnd } from './flow-end.ts';
import { narrowSelector } from './narrow.ts';

/** More exceptions than this make a list that nobody reads; then the rule is wider. */
const MAX_EXCEPTS = 16;

export interface PeerMember {
  readonly kind: 'Endpoints' | 'Entities' | 'CIDR' | 'CIDRSet';
  readonly list: readonly unknown[];
  readonly alsoSelects: readonly LabelSet[];
}

/** Undefined: none of its labels can be written in a selector. */
export function peerMember(view: RepositoryView, { labels, address }: FlowEnd): PeerMember | undefined {
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
