// SPDX-License-Identifier: Apache-2.0

/**
 * Brings the policy of each identity that has endpoints on this node into the kernel, and keeps it there.
 *
 * Identities whose resolved policy is the same share one slot of cilium_policy, its home: what is written once holds for
 * all of them. A small change is written into the slot in place: denies first, then the rest, then what goes, so that each
 * packet meets either its old or its new verdict. A large one fills a spare slot, after which the endpoints' records are
 * pointed there: the whole policy changes in one write. When one way fails (no room for old and new entries in one slot)
 * the other is taken. Nothing is written in place into a slot that anybody with another policy uses: who parts from the
 * others gets a spare, and who becomes like others moves to their home.
 *
 * What does not fit changes nothing: the identity keeps its last complete policy and says why. When only spares are
 * wanting, because many identities part at once, it keeps it until they are made.
 */
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import type { Logger } from '../runtime/logger.ts';
import { difference, type PolicyChanges, type PolicyEntry } from './policy-changes.ts';
import { SlotUsers } from './slot-users.ts';

/** Changes of more entries than this go through a spare slot. */
const IN_PLACE_MAX_CHANGES = 64;

/** What the policy repository offers to this class. */
export interface PolicySource {
  readonly revision: number;
  addSubject(identity: number): void;
  removeSubject(identity: number): void;
  /** The same object for all subjects with the same policy, as long as nothing tells them apart. */
  policyOf(identity: number): object;
  entries(identity: number): Iterable<PolicyEntry>;
  /** What changed since the last call; a policy that has become another's equal may go without notice. */
  takeUpdates(): Iterable<PolicyChanges & { readonly policy: object }>;
}

/** What the datapath offers to this class. */
export interface PolicySlotWriter {
  /** Entries that fit into a slot. */
  readonly maxEntries: number;
  /** An empty slot; undefined: more are being made (`onSpares`); throws `MapFull` when there will be none. */
  acquire(): number | undefined;
  apply(slot: number, changes: PolicyChanges): void;
  entries(slot: number): readonly PolicyEntry[];
  release(slot: number): void;
}

/** State of one identity's policy in the kernel. */
export interface RealizedPolicy {
  readonly slot: number;
  /** Revision of the policy that the slot holds. */
  readonly revision: number;
  /** Why a newer policy is not in force; undefined when it is, or is about to be. */
  readonly error: string | undefined;
}

interface Subject {
  slot: number;
  users: number;
  revision: number;
  error: string | undefined;
  /** Revision or error changed since the listener was told. */
  changed: boolean;
}

type SlotChangeListener = (identities: ReadonlySet<number>, slot: number) => void;
type RealizedListener = (realized: ReadonlyMap<number, RealizedPolicy>) => void;

export class PolicyRealizer {
  readonly #source: PolicySource;
  readonly #slots: PolicySlotWriter;
  readonly #log: Logger;
  readonly #subjects = new Map<number, Subject>();
  /** The slot that holds the whole of a policy. */
  readonly #homes = new Map<object, number>();
  readonly #users = new SlotUsers();
  /** Policies that have more entries than fit; they are not tried again until they change. */
  readonly #tooLarge = new WeakSet<object>();
  #isWaiting = false;
  #onSlotChange: SlotChangeListener = () => undefined;
  #onRealized: RealizedListener = () => undefined;

  constructor(source: PolicySource, slots: PolicySlotWriter, log: Logger) {
    this.#source = source;
    this.#slots = slots;
    this.#log = log;
  }

  /** Who rewrites the endpoints' records when their policy moves to another slot; must have done so when it returns. */
  onSlotChange(listener: SlotChangeListener): void {
    this.#onSlotChange = listener;
  }

  /** Who is told after each `sync` of the identities for which something else is in force, or fails, than before. */
  onRealized(listener: RealizedListener): void {
    this.#onRealized = listener;
  }

  /**
   * Before endpoints of an earlier agent are adopted: which identities their records name each slot for. None of these
   * slots is written in place while it has users that were not adopted yet, whose policy may be another.
   */
  expect(users: Iterable<{ readonly identity: number; readonly slot: number }>): void {
    for (const { identity, slot } of users) this.#users.expect(slot, identity);
  }

  /** After all were adopted. */
  adopted(): void {
    this.#users.forgetExpected();
  }

  /** One more endpoint has this identity: its policy is in the kernel when this returns. Throws MapFull when it does not fit. */
  acquire(identity: number): RealizedPolicy {
    this.sync();
    const known = this.#subjects.get(identity);
    if (known) {
      known.users++;
      return known;
    }
    const policy = this.#addSubject(identity);
    try {
      const slot = this.#homes.get(policy) ?? this.#fill(identity, policy);
      this.#homes.set(policy, slot);
      return this.#remember(identity, slot);
    } catch (error) {
      this.#source.removeSubject(identity);
      throw error;
    }
  }

  /**
   * As `acquire`, for an endpoint found after a restart whose record names `slot`: only differences are written, and
   * when they do not fit, what the slot holds stays in force.
   */
  adopt(identity: number, slot: number): RealizedPolicy {
    this.#users.arrive(slot, identity);
    if (slot === 0 || this.#subjects.has(identity)) return this.acquire(identity);
    this.sync();
    const policy = this.#addSubject(identity);
    const home = this.#homes.get(policy);
    if (home !== undefined) return this.#remember(identity, home);
    const subject = this.#remember(identity, slot);
    try {
      this.#adoptSlot(identity, subject, policy);
    } catch (error) {
      subject.revision = 0; // the slot holds one of an earlier agent
      this.#keepOld([identity], error);
    }
    return subject;
  }

  /** One endpoint less; the slot of the last one that uses it is given back, to be emptied and reused later. */
  release(identity: number): void {
    const subject = this.#subjects.get(identity);
    if (!subject || --subject.users > 0) return;
    this.#subjects.delete(identity);
    this.#source.removeSubject(identity);
    this.#leave(identity, subject.slot);
  }

  get(identity: number): RealizedPolicy | undefined {
    return this.#subjects.get(identity);
  }

  /** Some policies come into force only when there are spare slots again. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Writes to the kernel what changed in the repository since the last call. An identity that fails keeps its old policy. */
  sync(): void {
    this.#isWaiting = false;
    const changes = new Map<object, PolicyChanges>();
    for (const update of this.#source.takeUpdates()) changes.set(update.policy, update);
    const subjects = Map.groupBy(this.#subjects.keys(), (identity) => this.#source.policyOf(identity));
    // What became equal to another policy, or lost its last subject, is no more.
    for (const policy of this.#homes.keys()) if (!subjects.has(policy)) this.#homes.delete(policy);
    for (const [policy, identities] of subjects) this.#realize(policy, identities, changes.get(policy));
    this.#tell();
  }

  #addSubject(identity: number): object {
    this.#source.addSubject(identity);
    // A new subject's whole map counts as changed, and it is written by whoever called: nothing else is pending here.
    this.#source.takeUpdates();
    return this.#source.policyOf(identity);
  }

  #remember(identity: number, slot: number): Subject {
    const { revision } = this.#source;
    const subject: Subject = { slot, users: 1, revision, error: undefined, changed: false };
    this.#subjects.set(identity, subject);
    this.#users.add(slot, identity);
    return subject;
  }

  #adoptSlot(identity: number, subject: Subject, policy: object): void {
    const { slot } = subject;
    const missing = difference(this.#slots.entries(slot), this.#source.entries(identity));
    if (missing.upserts.length + missing.deletes.length > 0) {
      if (this.#users.areAmong(slot, new Set([identity]))) this.#slots.apply(slot, missing);
      else this.#moveTo(this.#fill(identity, policy), [identity]);
    }
    this.#homes.set(policy, subject.slot);
  }

  #realize(policy: object, identities: readonly number[], changes: PolicyChanges | undefined): void {
    const home = this.#homes.get(policy);
    if (home === undefined && changes === undefined && this.#tooLarge.has(policy)) return;
    this.#homes.delete(policy); // until all is well
    try {
      const isThere = home !== undefined && changes === undefined;
      const slot = isThere ? home : this.#write(policy, identities, home, changes);
      if (slot === undefined) {
        this.#isWaiting = true;
        return;
      }
      this.#moveTo(slot, identities);
      this.#homes.set(policy, slot);
    } catch (error) {
      this.#keepOld(identities, error);
      return;
    }
    for (const identity of identities) this.#note(identity, this.#source.revision, undefined);
  }

  /** Answers the slot that has the whole policy now; undefined: later. */
  #write(
    policy: object,
    identities: readonly number[],
    home: number | undefined,
    changes: PolicyChanges | undefined,
  ): number | undefined {
    const [first] = identities as [number];
    const candidate = home ?? this.#subjects.get(first)!.slot;
    const own = this.#users.areAmong(candidate, new Set(identities)) ? candidate : undefined;
    if (own !== undefined && own === home && isSmall(changes)) {
      try {
        this.#slots.apply(own, changes);
        return own;
      } catch {
        return this.#moveToSpare(policy, identities);
      }
    }
    try {
      const spare = this.#moveToSpare(policy, identities);
      if (spare !== undefined || own === undefined) return spare;
    } catch (error) {
      if (own === undefined || this.#tooLarge.has(policy)) throw error;
    }
    this.#slots.apply(own, difference(this.#slots.entries(own), this.#source.entries(first)));
    return own;
  }

  #moveToSpare(policy: object, identities: readonly number[]): number | undefined {
    const spare = this.#tryFill(identities[0]!, policy);
    if (spare !== undefined) this.#moveTo(spare, identities);
    return spare;
  }

  /** A spare slot with the whole policy in it. */
  #fill(identity: number, policy: object): number {
    const slot = this.#tryFill(identity, policy);
    if (slot !== undefined) return slot;
    throw new CiliumError('MapFull', 'no spare policy slot is left at the moment; start the container again');
  }

  /** Undefined: there is no spare slot now. */
  #tryFill(identity: number, policy: object): number | undefined {
    const upserts = [...this.#source.entries(identity)];
    this.#refuseOverflow(policy, upserts.length);
    const slot = this.#slots.acquire();
    if (slot === undefined) return undefined;
    try {
      this.#slots.apply(slot, { upserts, deletes: [] });
    } catch (error) {
      this.#slots.release(slot);
      throw error;
    }
    return slot;
  }

  #refuseOverflow(policy: object, entries: number): void {
    const { maxEntries } = this.#slots;
    this.#tooLarge.delete(policy);
    if (entries <= maxEntries) return;
    this.#tooLarge.add(policy);
    const message = `the policy needs ${entries} map entries, and ${maxEntries} fit; use fewer ports and peers, or wider ones`;
    throw new CiliumError('MapFull', message, { entries, maxEntries });
  }

  /** Points the endpoints of all these to a slot with their policy; when that fails they are where they were. */
  #moveTo(slot: number, identities: readonly number[]): void {
    const moving = new Set(identities.filter((identity) => this.#subjects.get(identity)!.slot !== slot));
    if (moving.size === 0) return;
    try {
      this.#onSlotChange(moving, slot);
    } catch (error) {
      // Some records may name the new slot already.
      for (const identity of moving) this.#onSlotChange(new Set([identity]), this.#subjects.get(identity)!.slot);
      if (!this.#users.has(slot)) this.#slots.release(slot);
      throw error;
    }
    for (const identity of moving) {
      const subject = this.#subjects.get(identity)!;
      const old = subject.slot;
      subject.slot = slot;
      this.#users.add(slot, identity);
      this.#leave(identity, old);
    }
  }

  /** No record of the identity names the slot any more. */
  #leave(identity: number, slot: number): void {
    if (!this.#users.remove(slot, identity)) return;
    for (const [policy, home] of this.#homes) if (home === slot) this.#homes.delete(policy);
    this.#slots.release(slot);
  }

  #keepOld(identities: readonly number[], error: unknown): void {
    const reason = describeError(error);
    const news = identities.filter((identity) => this.#subjects.get(identity)!.error !== reason);
    for (const identity of identities) this.#note(identity, undefined, reason);
    if (news.length === 0) return;
    this.#log.error('Policy does not fit; the last complete one stays in force', { identities: news, error });
  }

  #note(identity: number, revision: number | undefined, error: string | undefined): void {
    const subject = this.#subjects.get(identity)!;
    subject.changed ||= subject.error !== error || (revision !== undefined && subject.revision !== revision);
    subject.error = error;
    if (revision !== undefined) subject.revision = revision;
  }

  #tell(): void {
    const realized = new Map<number, RealizedPolicy>();
    for (const [identity, subject] of this.#subjects) {
      if (subject.changed) realized.set(identity, subject);
      subject.changed = false;
    }
    if (realized.size > 0) this.#onRealized(realized);
  }
}

function isSmall(changes: PolicyChanges | undefined): changes is PolicyChanges {
  return changes !== undefined && changes.upserts.length + changes.deletes.length <= IN_PLACE_MAX_CHANGES;
}
