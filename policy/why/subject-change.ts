// SPDX-License-Identifier: Apache-2.0

/** What a change of rules means for some subjects in one direction: peer by peer, only where something may change. */
import type { LabelSet } from '../../identity/label-set.ts';
import type { NumericIdentity } from '../../identity/numeric-identity.ts';
import type { IpAddress, Prefix } from '../../net/ip.ts';
import { L4_ANY } from '../map-entry.ts';
import type { RepositoryView } from '../repository-view.ts';
import type { Direction } from '../rule.ts';
import type { ChangedPrefixes } from './changed-prefixes.ts';
import type { ChangedSubjects } from './changed-subjects.ts';
import { ClaimsByPeer, type Term, termsOf } from './claims.ts';
import type { PacketVerdict } from './judge.ts';
import { changedPorts, L4Region, type Claim, type PortChange } from './port-sweep.ts';

/** Peers for which the same changes. */
export interface PeerGroup {
  readonly peers: readonly SimulatedPeer[];
  /** None: nothing changes, other than for `others` or for the prefix around. */
  readonly changes: readonly PortChange[];
}

export type SimulatedPeer =
  | { readonly kind: 'identity'; readonly identity: NumericIdentity; readonly labels: LabelSet }
  /** Its addresses are known by a wider identity so far. */
  | { readonly kind: 'prefix'; readonly prefix: Prefix; readonly labels: LabelSet }
  /** Every peer that no group names. */
  | { readonly kind: 'others' };

/** A flow, seen or made up. */
export interface SimulatedFlow {
  /** Whose policy is asked. */
  readonly subject: NumericIdentity;
  readonly direction: Direction;
  readonly peer: NumericIdentity;
  /** Of a peer outside; its longest prefix counts then, before and after, and not `peer`. */
  readonly peerAddress?: IpAddress | undefined;
  readonly protocol: number;
  /** The receiver's, or the type of an ICMP message. */
  readonly port: number;
}

export interface FlowDifference<F extends SimulatedFlow> {
  readonly flow: F;
  readonly before: PacketVerdict;
  readonly after: PacketVerdict;
}

/** Identities of a peer's addresses before and after; mostly the same. */
interface Peer {
  readonly before: NumericIdentity;
  readonly after: NumericIdentity;
}

/** What changes for a peer, and the same to compare. */
interface Sweep {
  readonly changes: readonly PortChange[];
  readonly text: string;
}

export class SubjectChange {
  readonly #view: RepositoryView;
  readonly #prefixes: ChangedPrefixes;
  /** What stays as it is, what goes and what comes. */
  readonly #kept: ClaimsByPeer;
  readonly #gone: ClaimsByPeer;
  readonly #come: ClaimsByPeer;
  readonly #others: Sweep;
  readonly #peers = new Map<string, Peer>();
  readonly #changes = new Map<string, Sweep>();
  /** By the claims on a peer: many peers have the same. */
  readonly #sweeps = new Map<string, Sweep>();

  constructor(view: RepositoryView, prefixes: ChangedPrefixes, subjects: ChangedSubjects, direction: Direction) {
    this.#view = view;
    this.#prefixes = prefixes;
    const { kept, gone, come } = termsOf(view, subjects, direction);
    const region = new L4Region();
    for (const { l4 } of [...gone, ...come]) for (const key of l4) region.add(key);
    const moved: Peer[] = [...subjects.moved];
    if (moved.length > 0) region.add(L4_ANY);
    const wide = [...gone, ...come].some(({ peers }) => peers === undefined);

    const all = (): boolean => true;
    this.#gone = new ClaimsByPeer(gone, prefixes, all);
    this.#come = new ClaimsByPeer(come, prefixes, all);
    const concerned = new Set([...this.#gone.peers(), ...this.#come.peers()]);
    for (const { before, after } of prefixes.moved) {
      if (wide || this.#gone.names(before) || this.#come.names(after)) moved.push({ before, after });
    }
    for (const { before, after } of moved) for (const id of [before, after]) concerned.add(id);
    const overlapping = kept.flatMap(({ l4, ...term }): Term[] => {
      const keys = l4.filter((key) => region.overlaps(key));
      return keys.length === 0 ? [] : [{ ...term, l4: keys }];
    });
    this.#kept = new ClaimsByPeer(overlapping, prefixes, wide ? all : (id) => concerned.has(id));
    this.#others = this.#sweep([], []);

    for (const peer of moved) this.#compare(peer);
    const known = wide ? [...this.#kept.peers(), ...concerned] : concerned;
    for (const id of known) {
      if (!prefixes.added.has(id) && !prefixes.gone.has(id)) this.#compare({ before: id, after: id });
    }
  }

  /** Peers with the same changes together, those for whom nothing changes last; none when nothing changes at all. */
  groups(): PeerGroup[] {
    const others = this.#others;
    const inside = this.#insideOther();
    for (const id of inside) this.#remember(this.#peerOfIdentity(id), others);
    const groups = new Map<string, { peers: SimulatedPeer[]; changes: readonly PortChange[] }>();
    if (others.changes.length > 0) groups.set(others.text, { peers: [{ kind: 'others' }], changes: others.changes });
    for (const [key, peer] of this.#peers) {
      const { changes, text } = this.#changes.get(key)!;
      if (text === others.text && !inside.has(this.#ownOf(peer))) continue;
      const group = groups.get(text) ?? { peers: [], changes };
      groups.set(text, group);
      group.peers.push(this.#nameOf(peer));
    }
    const found = [...groups.values()];
    const changing = found.filter(({ changes }) => changes.length > 0);
    return changing.length === 0 ? [] : [...changing, ...found.filter(({ changes }) => changes.length === 0)];
  }

  /** Undefined: the flow is judged as before. */
  flow<F extends SimulatedFlow>(flow: F): FlowDifference<F> | undefined {
    const { before, after } = this.#peerOf(flow);
    const { changes } = this.#changes.get(`${before} ${after}`) ?? this.#others;
    const found = changes.find(
      ({ protocol, exceptProtocols, firstPort, lastPort }) =>
        (protocol === undefined ? !exceptProtocols.includes(flow.protocol) : protocol === flow.protocol) &&
        firstPort <= flow.port &&
        flow.port <= lastPort,
    );
    return found && { flow, before: found.before, after: found.after };
  }

  #peerOf({ peer, peerAddress }: SimulatedFlow): Peer {
    const outside = peerAddress !== undefined && this.#prefixes.isOutside(peer);
    if (outside)
      return { before: this.#prefixes.identityBefore(peerAddress), after: this.#prefixes.identityAfter(peerAddress) };
    return this.#peerOfIdentity(peer);
  }

  #compare(peer: Peer): void {
    const before = [...this.#kept.own(peer.before), ...this.#gone.own(peer.before)];
    const after = [...this.#kept.own(peer.after), ...this.#come.own(peer.after)];
    const key = `${textOf(before)} > ${textOf(after)}`;
    const known = this.#sweeps.get(key) ?? this.#sweep(before, after);
    this.#sweeps.set(key, known);
    this.#remember(peer, known);
  }

  /** With what is said to any peer. */
  #sweep(before: readonly Claim[], after: readonly Claim[]): Sweep {
    const changes = changedPorts(
      [...this.#kept.any, ...this.#gone.any, ...before],
      [...this.#kept.any, ...this.#come.any, ...after],
    );
    return { changes, text: JSON.stringify(changes) };
  }

  #remember(peer: Peer, changes: Sweep): void {
    const key = `${peer.before} ${peer.after}`;
    if (this.#peers.has(key)) return;
    this.#peers.set(key, peer);
    this.#changes.set(key, changes);
  }

  /** Identities inside prefixes for which something else changes than for others: a reader would take them as included. */
  #insideOther(): Set<NumericIdentity> {
    const found = new Set<NumericIdentity>();
    for (const [key, peer] of this.#peers) {
      if (this.#changes.get(key)!.text === this.#others.text) continue;
      const own = this.#ownOf(peer);
      for (const range of this.#prefixes.rangesOf(own)) {
        for (const id of this.#prefixes.inside(range)) if (id !== own) found.add(id);
      }
    }
    return found;
  }

  /** Its addresses, and where they come from or go to. */
  #peerOfIdentity(id: NumericIdentity): Peer {
    const added = this.#prefixes.added.get(id);
    if (added !== undefined) return { before: this.#prefixes.identityBefore(added.prefix), after: id };
    const gone = this.#prefixes.gone.get(id);
    return { before: id, after: gone === undefined ? id : this.#prefixes.identityAfter(gone) };
  }

  /** The identity that the peer is: a new one, or that which it has before the change. */
  #ownOf({ before, after }: Peer): NumericIdentity {
    return this.#prefixes.added.has(after) && this.#peerOfIdentity(after).before === before ? after : before;
  }

  #nameOf(peer: Peer): SimulatedPeer {
    const added = this.#prefixes.added.get(this.#ownOf(peer));
    if (added !== undefined) return { kind: 'prefix', ...added };
    return { kind: 'identity', identity: peer.before, labels: this.#view.peers.labelsOf(peer.before)! };
  }
}

function textOf(claims: readonly Claim[]): string {
  return claims.map(({ l4, precedence }) => `${l4}:${precedence}`).join(' ');
}
