// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_policy: slot -> policy trie. Slots are made ahead, because a write to the outer map waits 8-16 ms for a grace
 * period; writes to a slot's trie do not (0.6 µs an entry).
 *
 * A slot is free (not in the outer map), spare (an empty trie, hence closed), in use, or released. A released slot keeps
 * its entries until every packet that read a record naming it is through; then it is emptied and is a spare again. All
 * that waits is done on a worker thread in rounds: one batch write makes new spares and is the wait for the released.
 * Between rounds exactly the wanted number of spares is kept, so slots do not pile up after a crowd has left.
 */
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import type { Logger } from '../../runtime/logger.ts';
import { BpfMap } from '../ffi/bpf-map.ts';
import {
  createPolicyTrie,
  decodePolicyEntry,
  encodePolicyKeys,
  encodePolicyValues,
  POLICY_ENTRY,
  POLICY_KEY,
  type PolicyEntry,
  type PolicyKey,
} from './policy-map.ts';

/** Entries of one slot at most. */
export const POLICY_MAX_ENTRIES = 16_384;

/** A trie with more than so many entries is thrown away instead of emptied: emptying is done on the event loop. */
const MAX_EMPTIED_ENTRIES = 256;

export interface PolicySlotChanges {
  /** Keys are distinct. */
  readonly upserts: readonly PolicyEntry[];
  readonly deletes: readonly PolicyKey[];
}

interface Slot {
  readonly number: number;
  readonly trie: BpfMap;
  entries: number;
}

export class PolicySlots {
  readonly #outer: BpfMap;
  readonly #log: Logger;
  /** Of one slot. */
  readonly maxEntries: number;
  /** Not in the outer map; the lowest number last. */
  readonly #free: number[] = [];
  readonly #spares: Slot[] = [];
  readonly #used = new Map<number, Slot>();
  readonly #released: Slot[] = [];
  /** In use, but not in the outer map yet. */
  readonly #unwritten: Slot[] = [];
  #wantedSpares = 0;
  /** Somebody asked for a spare when there was none. */
  #isAwaited = false;
  #onSpares: () => void = () => undefined;
  #round: Promise<void> | undefined;
  #adopted = false;
  #closing = false;

  constructor(outer: BpfMap, log: Logger, maxEntries: number = POLICY_MAX_ENTRIES) {
    this.#outer = outer;
    this.#log = log;
    this.maxEntries = maxEntries;
  }

  /**
   * Before anything else: takes over the slots that an earlier agent made; those not in use are spares once `prepare` was
   * called. A slot in use whose trie is gone (the outer map was replaced) is made again by then, empty.
   */
  adopt(slotsInUse: Iterable<number>): void {
    const inUse = new Set(slotsInUse);
    const present = new Set<number>();
    for (const { key, value } of this.#outer.entries()) {
      const number = key.readUInt32LE();
      const trie = BpfMap.openId(slotName(number), value.readUInt32LE());
      if (number === 0 || trie === undefined) continue;
      present.add(number);
      const slot = { number, trie, entries: countEntries(trie) };
      if (inUse.has(number)) this.#used.set(number, slot);
      else this.#released.push(slot);
    }
    for (let number = this.#outer.info.maxEntries - 1; number > 0; number--) {
      if (present.has(number)) continue;
      if (inUse.has(number)) {
        const slot = { number, trie: createPolicyTrie(this.maxEntries), entries: 0 };
        this.#used.set(number, slot);
        this.#unwritten.push(slot);
      } else {
        this.#free.push(number);
      }
    }
    this.#adopted = true;
  }

  /** Gives back every slot in use but these: those of endpoints that died while there was no agent. */
  retain(slots: ReadonlySet<number>): void {
    for (const slot of [...this.#used.keys()]) if (!slots.has(slot)) this.release(slot);
  }

  /** Keeps `count` spares from now on; resolves when they are there, or no free slot is left. */
  async prepare(count: number): Promise<void> {
    this.#wantedSpares = count;
    await this.#work();
  }

  /** Who is called when there are spares again after somebody got none. */
  onSpares(listener: () => void): void {
    this.#onSpares = listener;
  }

  /** A spare, empty slot; throws `MapFull` when there is none. */
  acquire(): number {
    const slot = this.tryAcquire();
    if (slot !== undefined) return slot;
    throw new CiliumError('MapFull', 'no spare policy slot is left at the moment', this.counts());
  }

  /** As `acquire`; undefined: none is spare, but more are being made (`onSpares`). */
  tryAcquire(): number | undefined {
    if (!this.#adopted) throw new CiliumError('Internal', 'policy slots are used before they were adopted');
    const slot = this.#spares.pop();
    if (slot !== undefined) this.#used.set(slot.number, slot);
    else this.#refuseForGood();
    this.#startWork();
    return slot?.number;
  }

  /**
   * Changes a slot in place: denies first, then the other upserts, then the deletes, so that no packet meets less than
   * the old or the new policy denies. Throws `MapFull` before changing anything when the entries would not fit; when the
   * kernel refuses one of them, those before it are taken back.
   */
  apply(slot: number, changes: PolicySlotChanges): void {
    const target = this.#get(slot);
    const { upserts, deletes } = changes;
    const replaced = target.entries === 0 ? [] : entriesUnder(target.trie, upserts);
    const added = upserts.length - replaced.length;
    if (target.entries + added > this.maxEntries) {
      const facts = { slot, entries: target.entries, added, maxEntries: this.maxEntries };
      const wanted = target.entries + added;
      throw new CiliumError('MapFull', `policy has ${wanted} entries, ${this.maxEntries} fit`, facts);
    }
    try {
      writeEntries(target.trie, upserts);
    } catch (error) {
      this.#takeBack(target, upserts, replaced);
      throw error;
    }
    target.entries += added;
    const keys = encodePolicyKeys(deletes);
    for (let at = 0; at < keys.length; at += POLICY_KEY.size) {
      if (target.trie.delete(keys.subarray(at, at + POLICY_KEY.size))) target.entries--;
    }
  }

  entries(slot: number): PolicyEntry[] {
    const entries: PolicyEntry[] = [];
    for (const { key, value } of this.#get(slot).trie.entries()) entries.push(decodePolicyEntry(key, value));
    return entries;
  }

  /** Gives a slot back; no record names it any more. It is emptied and used again later, in the background. */
  release(slot: number): void {
    const target = this.#get(slot);
    this.#used.delete(slot);
    this.#released.push(target);
    this.#startWork();
  }

  counts(): { used: number; spare: number; free: number } {
    return { used: this.#used.size, spare: this.#spares.length, free: this.#free.length };
  }

  /** Resolves when nothing is left to do in the background. */
  async settle(): Promise<void> {
    await this.#round;
  }

  /** Closes our handles; the slots stay as they are, and what was still to be recycled is left to the next agent. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#round?.catch(() => undefined);
    for (const slot of [...this.#spares, ...this.#used.values(), ...this.#released]) slot.trie.close();
    this.#spares.length = 0;
    this.#released.length = 0;
    this.#unwritten.length = 0;
    this.#used.clear();
    this.#adopted = false;
  }

  /** Throws when no spare is to be expected; else somebody waits for one. */
  #refuseForGood(): void {
    if (this.#wantedSpares === 0 || (!this.#isWorkLeft() && this.#round === undefined))
      throw new CiliumError('MapFull', 'no spare policy slot is left', this.counts());
    this.#isAwaited = true;
  }

  #get(slot: number): Slot {
    const found = this.#used.get(slot);
    if (found === undefined) throw new CiliumError('NotFound', `policy slot ${slot} is not in use`, { slot });
    return found;
  }

  /** Some of the upserts are written, and the kernel refused the next. */
  #takeBack({ number, trie }: Slot, upserts: readonly PolicyEntry[], replaced: readonly PolicyEntry[]): void {
    try {
      const old = new Set(replaced.map(textOf));
      const added = upserts.filter((entry) => !old.has(textOf(entry)));
      trie.deleteBatch(encodePolicyKeys(added), added.length);
      writeEntries(trie, replaced);
    } catch (error) {
      this.#log.error('Cannot take back a change of policy', { slot: number, error });
    }
  }

  #startWork(): void {
    this.#work().catch((error: unknown) => {
      this.#log.error('Cannot prepare policy slots', { error: describeError(error) });
    });
  }

  /** Does rounds until nothing is left to do; one worker at a time. */
  #work(): Promise<void> {
    this.#round ??= (async () => {
      // Everything of this turn of the event loop goes into one round.
      await Promise.resolve();
      while (!this.#closing && this.#isWorkLeft()) {
        await this.#doRound();
        this.#tellOfSpares();
      }
    })().finally(() => {
      this.#round = undefined;
    });
    return this.#round;
  }

  #tellOfSpares(): void {
    if (!this.#isAwaited || this.#spares.length === 0) return;
    this.#isAwaited = false;
    this.#onSpares();
  }

  #isWorkLeft(): boolean {
    return this.#released.length + this.#unwritten.length > 0 || this.#missingSpares() > 0;
  }

  /** How many new slots are to be made. */
  #missingSpares(): number {
    const missing = this.#wantedSpares - this.#spares.length - this.#released.length;
    return Math.min(missing, this.#free.length);
  }

  async #doRound(): Promise<void> {
    const missing = this.#missingSpares();
    const released = this.#released.splice(0);
    const fresh: Slot[] = [];
    try {
      while (fresh.length < missing) fresh.push(this.#createSlot());
      // Released slots are written as they are: the write does not change them, but it waits for the packets under way.
      const unwritten = [...this.#unwritten];
      await this.#writeOuter([...fresh, ...released, ...unwritten]);
      this.#unwritten.splice(0, unwritten.length);
      this.#spares.push(...fresh.splice(0));
      for (let slot = released[0]; slot !== undefined && !this.#closing; slot = released[0]) {
        await this.#recycle(slot);
        released.shift();
      }
    } finally {
      this.#released.push(...released);
      for (const slot of fresh) this.#discard(slot);
    }
  }

  #createSlot(): Slot {
    const trie = createPolicyTrie(this.maxEntries);
    return { number: this.#free.pop()!, trie, entries: 0 };
  }

  /** A released slot that no packet looks at any more: it is a spare again, or gone. */
  async #recycle(slot: Slot): Promise<void> {
    if (this.#spares.length < this.#wantedSpares && slot.entries <= MAX_EMPTIED_ENTRIES) {
      emptyTrie(slot.trie);
      slot.entries = 0;
      this.#spares.push(slot);
    } else {
      await this.#outer.deleteAsync(outerKey(slot.number));
      this.#discard(slot);
    }
  }

  #discard(slot: Slot): void {
    slot.trie.close();
    this.#free.push(slot.number);
  }

  async #writeOuter(slots: readonly Slot[]): Promise<void> {
    const keys = Buffer.alloc(slots.length * 4);
    const values = Buffer.alloc(slots.length * 4);
    for (const [i, slot] of slots.entries()) {
      keys.writeUInt32LE(slot.number, i * 4);
      values.writeInt32LE(slot.trie.fd, i * 4);
    }
    await this.#outer.updateBatchAsync(keys, values, slots.length);
  }
}

function slotName(slot: number): string {
  return `cilium_policy slot ${slot}`;
}

function outerKey(slot: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(slot);
  return key;
}

function countEntries(trie: BpfMap): number {
  let total = 0;
  for (const { count } of trie.batches()) total += count;
  return total;
}

/** Denies first. */
function writeEntries(trie: BpfMap, entries: readonly PolicyEntry[]): void {
  for (const deny of [true, false]) {
    const part = entries.filter((entry) => entry.deny === deny);
    trie.updateBatch(encodePolicyKeys(part), encodePolicyValues(part), part.length);
  }
}

/** What the trie holds under these keys. A trie's look-up finds the longest match, so its length is compared. */
function entriesUnder(trie: BpfMap, upserts: readonly PolicyEntry[]): PolicyEntry[] {
  const keys = encodePolicyKeys(upserts);
  const value = Buffer.alloc(POLICY_ENTRY.size);
  const found: PolicyEntry[] = [];
  for (const [i, { bits }] of upserts.entries()) {
    const key = keys.subarray(i * POLICY_KEY.size, (i + 1) * POLICY_KEY.size);
    if (trie.lookup(key, value) && value[POLICY_ENTRY.at.match_bits] === bits)
      found.push(decodePolicyEntry(key, value));
  }
  return found;
}

function textOf({ identity, egress, protocol, port, bits }: PolicyKey): string {
  return `${identity} ${egress} ${protocol} ${port} ${bits}`;
}

function emptyTrie(trie: BpfMap): void {
  const keys: Buffer[] = [];
  for (const { key } of trie.entries()) keys.push(Buffer.from(key));
  if (keys.length > 0) trie.deleteBatch(Buffer.concat(keys), keys.length);
}
