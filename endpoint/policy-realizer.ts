// SPDX-License-Identifier: Apache-2.0

/**
 * Brings the policy of each identity that has endpoints on this node into the kernel, and keeps it there.
 *
 * Endpoints with the same identity share one slot of cilium_policy. A small change is written into the slot in place:
 * denies first, then the rest, then what goes, so that each packet meets either its old or its new verdict. A large one
 * fills a spare slot, after which the endpoints' records are pointed there: the whole policy changes in one write. When
 * one way fails (no room for old and new entries in one slot; no spare, because many identities change at once) the other
 * is taken.
 * What does not fit changes nothing: the identity keeps its last complete policy and says why.
 */
import { describeError } from '../errors/cilium-error.ts';
import type { Logger } from '../runtime/logger.ts';

/** Changes of more entries than this go through a spare slot. */
const IN_PLACE_MAX_CHANGES = 64;

/** Key and value of one policy entry, as the policy room computes and the datapath writes it. */
export interface PolicyEntry extends PolicyEntryKey {
  readonly deny: boolean;
  readonly proxyPort: number;
  readonly precedence: number;
  readonly cookie: number;
}

export interface PolicyEntryKey {
  readonly identity: number;
  readonly egress: boolean;
  readonly protocol: number;
  readonly port: number;
  readonly bits: number;
}

export interface PolicyChanges {
  readonly upserts: readonly PolicyEntry[];
  readonly deletes: readonly PolicyEntryKey[];
}

/** What the policy repository offers to this class. */
export interface PolicySource {
  readonly revision: number;
  addSubject(identity: number): void;
  removeSubject(identity: number): void;
  entries(identity: number): Iterable<PolicyEntry>;
  takeUpdates(): Iterable<PolicyChanges & { readonly subject: number }>;
}

/** What the datapath offers to this class. */
export interface PolicySlotWriter {
  acquire(): number;
  apply(slot: number, changes: PolicyChanges): void;
  entries(slot: number): readonly PolicyEntry[];
  release(slot: number): void;
}

/** State of one identity's policy in the kernel. */
export interface RealizedPolicy {
  readonly slot: number;
  /** Revision of the policy that the slot holds. */
  readonly revision: number;
  /** Why a newer policy is not in force; undefined when it is. */
  readonly error: string | undefined;
}

interface Subject {
  slot: number;
  users: number;
  revision: number;
  error: string | undefined;
}

export class PolicyRealizer {
  readonly #source: PolicySource;
  readonly #slots: PolicySlotWriter;
  readonly #log: Logger;
  readonly #subjects = new Map<number, Subject>();
  #onSlotChange: (identity: number, slot: number) => void = () => undefined;
  #onRealized: (identity: number, realized: RealizedPolicy) => void = () => undefined;

  constructor(source: PolicySource, slots: PolicySlotWriter, log: Logger) {
    this.#source = source;
    this.#slots = slots;
    this.#log = log;
  }

  /** Who rewrites the endpoints' records when their policy moves to another slot; must have done so when it returns. */
  onSlotChange(listener: (identity: number, slot: number) => void): void {
    this.#onSlotChange = listener;
  }

  /** Who is told after each `sync`, for every identity, what the kernel enforces now. */
  onRealized(listener: (identity: number, realized: RealizedPolicy) => void): void {
    this.#onRealized = listener;
  }

  /** One more endpoint has this identity: its policy is in the kernel when this returns. Throws MapFull when it does not fit. */
  acquire(identity: number): RealizedPolicy {
    this.sync();
    const known = this.#subjects.get(identity);
    if (known) {
      known.users++;
      return known;
    }
    const slot = this.#slots.acquire();
    this.#source.addSubject(identity);
    try {
      this.#slots.apply(slot, { upserts: [...this.#source.entries(identity)], deletes: [] });
    } catch (error) {
      this.#source.removeSubject(identity);
      this.#slots.release(slot);
      throw error;
    }
    return this.#remember(identity, slot);
  }

  /**
   * As `acquire`, for an endpoint found after a restart whose record names `slot`: only differences are written, and
   * when they do not fit, what the slot holds stays in force.
   */
  adopt(identity: number, slot: number): RealizedPolicy {
    if (slot === 0 || this.#subjects.has(identity)) return this.acquire(identity);
    this.sync();
    this.#source.addSubject(identity);
    const subject = this.#remember(identity, slot);
    try {
      this.#slots.apply(slot, this.#missing(identity, slot));
    } catch (error) {
      subject.revision = 0; // the slot holds one of an earlier agent
      this.#keepOld(identity, subject, error);
    }
    return subject;
  }

  /** One endpoint less; the slot of the last one is given back, to be emptied and reused later. */
  release(identity: number): void {
    const subject = this.#subjects.get(identity);
    if (!subject || --subject.users > 0) return;
    this.#subjects.delete(identity);
    this.#source.removeSubject(identity);
    this.#slots.release(subject.slot);
  }

  get(identity: number): RealizedPolicy | undefined {
    return this.#subjects.get(identity);
  }

  /** Writes to the kernel what changed in the repository since the last call. An identity that fails keeps its old policy. */
  sync(): void {
    const { revision } = this.#source;
    const changed = new Set<number>();
    for (const update of this.#source.takeUpdates()) {
      const subject = this.#subjects.get(update.subject);
      if (!subject) continue;
      changed.add(update.subject);
      this.#write(update.subject, subject, update);
    }
    for (const [identity, subject] of this.#subjects) {
      // A subject whose last write failed is behind by more than the changes just taken: try its whole policy.
      if (subject.error !== undefined && !changed.has(identity)) this.#write(identity, subject, undefined);
      if (subject.error === undefined) subject.revision = revision;
      this.#onRealized(identity, subject);
    }
  }

  #remember(identity: number, slot: number): Subject {
    // A new subject's whole map counts as changed, and it is written by whoever called: nothing else is pending here.
    this.#source.takeUpdates();
    const subject: Subject = { slot, users: 1, revision: this.#source.revision, error: undefined };
    this.#subjects.set(identity, subject);
    return subject;
  }

  #write(identity: number, subject: Subject, changes: PolicyChanges | undefined): void {
    const small =
      changes && subject.error === undefined && changes.upserts.length + changes.deletes.length <= IN_PLACE_MAX_CHANGES;
    try {
      try {
        if (small) this.#slots.apply(subject.slot, changes);
        else this.#moveToSpare(identity, subject);
      } catch (error) {
        if (!changes) throw error; // it failed both ways before
        if (small) this.#moveToSpare(identity, subject);
        else this.#slots.apply(subject.slot, this.#missing(identity, subject.slot));
      }
      subject.error = undefined;
    } catch (error) {
      this.#keepOld(identity, subject, error);
    }
  }

  /** What has to be written to a slot for the whole policy. */
  #missing(identity: number, slot: number): PolicyChanges {
    return difference(this.#slots.entries(slot), this.#source.entries(identity));
  }

  #keepOld(identity: number, subject: Subject, error: unknown): void {
    subject.error = describeError(error);
    this.#log.error('Policy does not fit; the last complete one stays in force', { identity, error });
  }

  #moveToSpare(identity: number, subject: Subject): void {
    const spare = this.#slots.acquire();
    try {
      this.#slots.apply(spare, { upserts: [...this.#source.entries(identity)], deletes: [] });
    } catch (error) {
      this.#slots.release(spare);
      throw error;
    }
    try {
      this.#onSlotChange(identity, spare);
    } catch (error) {
      this.#onSlotChange(identity, subject.slot); // some records may name the spare already
      this.#slots.release(spare);
      throw error;
    }
    this.#slots.release(subject.slot);
    subject.slot = spare;
  }
}

/** What has to be written so that `have` becomes `want`. */
export function difference(have: Iterable<PolicyEntry>, want: Iterable<PolicyEntry>): PolicyChanges {
  const left = new Map<string, PolicyEntry>();
  for (const entry of have) left.set(keyOf(entry), entry);
  const upserts: PolicyEntry[] = [];
  for (const entry of want) {
    const key = keyOf(entry);
    const old = left.get(key);
    left.delete(key);
    if (!old || !sameValue(old, entry)) upserts.push(entry);
  }
  return { upserts, deletes: [...left.values()] };
}

function keyOf(key: PolicyEntryKey): string {
  return `${key.identity} ${key.egress ? 1 : 0} ${key.protocol} ${key.port} ${key.bits}`;
}

function sameValue(a: PolicyEntry, b: PolicyEntry): boolean {
  return a.deny === b.deny && a.proxyPort === b.proxyPort && a.precedence === b.precedence && a.cookie === b.cookie;
}
