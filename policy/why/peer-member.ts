// SPDX-License-Identifier: Apache-2.0

/** The member of an entry that names one peer and nobody else: an entity, a prefix or labels. */
import type { LabelSet } from '../../identity/label-set.ts';
import { LABEL_SOURCE } from '../../identity/label.ts';
import { worldName } from '../../identity/numeric-identity.ts';
import { Prefix } from '../../net/ip.ts';
import { PrefixTrie } from '../../net/prefix-trie.ts';
import type { RepositoryView } from '../repository-view.ts';
import { ENTITIES } from '../rule.ts';
import type { FlowEnd } from './flow-end.ts';
import { narrowSelector } from './narrow.ts';

const EVERYTHING = { 4: Prefix.parse('0.0.0.0/0'), 6: Prefix.parse('::/0') };

/** More exceptions than this make a list that nobody reads; then the rule is wider. */
const MAX_EXCEPTS = 16;

export interface PeerMember {
  readonly kind: 'Endpoints' | 'Entities' | 'CIDR' | 'CIDRSet';
  readonly list: readonly unknown[];
  readonly alsoSelects: readonly LabelSet[];
}

/** Undefined: none of its labels can be written in a selector. */
export function peerMember(view: RepositoryView, { labels, address }: FlowEnd): PeerMember | undefined {
  const [range] = outsideRanges(view, labels);
  const single = address && Prefix.of(address);
  // Labels of names say who it is better than the range around, which others have, too.
  if (range !== undefined && (single !== undefined || labels.first(LABEL_SOURCE.fqdn) === undefined)) {
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

/** All addresses that may have this identity; none: it is not outside, or of both families. */
function outsideRanges({ context }: RepositoryView, labels: LabelSet): readonly Prefix[] {
  if (labels.prefixes.length > 0) return labels.prefixes;
  const { ipv4, ipv6 } = context.families;
  const worlds = ([4, 6] as const).filter((family) =>
    labels.has(LABEL_SOURCE.reserved, worldName(family, context.families)),
  );
  return worlds.filter((family) => (family === 4 ? ipv4 : ipv6)).map((family) => EVERYTHING[family]);
}

/** A range without those inside it that have identities of their own. */
function rangeMember(view: RepositoryView, labels: LabelSet, range: Prefix): PeerMember {
  const within = Array.from(view.peers.identities(), ([, other]) => other).filter(
    (other) => !other.equals(labels) && outsideRanges(view, other).some((prefix) => range.contains(prefix)),
  );
  const except = widest(within.flatMap(({ prefixes }) => prefixes).filter(({ length }) => length > range.length));
  if (except.size > 0 && except.size <= MAX_EXCEPTS) {
    const alsoSelects = within.filter(({ prefixes }) => !prefixes.some((prefix) => except.longest(prefix)));
    return {
      kind: 'CIDRSet',
      list: [{ cidr: range.toString(), except: [...except.inside(EVERYTHING[range.family])] }],
      alsoSelects,
    };
  }
  if (range.length > 0) return { kind: 'CIDR', list: [range.toString()], alsoSelects: within };
  const world = [...labels].find(({ key }) => key.startsWith('world'))!;
  return { kind: 'Entities', list: [world.key], alsoSelects: within };
}

/** Those that lie in no other one, as they are written. */
function widest(prefixes: readonly Prefix[]): PrefixTrie<string> {
  const found = new PrefixTrie<string>();
  for (const prefix of prefixes.toSorted((a, b) => a.length - b.length)) {
    if (found.longest(prefix) === undefined) found.set(prefix, prefix.toString());
  }
  return found;
}
