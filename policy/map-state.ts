// SPDX-License-Identifier: Apache-2.0

/**
 * The entries that a subject's policy map should hold, kept up to date contributor by contributor.
 *
 * Each entry (a cell here) has the strongest verdict among its contributors. The kernel looks up the longest match in
 * the trie of the peer's identity and in the trie of "any", and takes the stronger of the two; so within one trie an
 * entry that is weaker than one that covers it must not be there, or it would hide it. Such a cell stays known and
 * comes back when the stronger one goes.
 *
 * Changes are only noted when they happen and worked out when somebody asks, so what cancels out costs nothing further.
 */
import {
  L4_FULL_BITS,
  l4Bits,
  l4Covers,
  l4Cut,
  l4Parts,
  PRECEDENCE_ALLOW,
  PRECEDENCE_DENY,
  type L4Key,
  type PolicyEntry,
  type PolicyKey,
} from './map-entry.ts';
import type { Contributor, SharedValue, ValueTable } from './values.ts';

export interface MapChanges {
  readonly upserts: readonly PolicyEntry[];
  readonly deletes: readonly PolicyKey[];
}

interface Cell {
  readonly trie: Trie;
  readonly l4: L4Key;
  /** One item for each reason; the same contributor may be there more than once. */
  readonly contributors: Contributor[];
  /** Highest precedence of the contributors; 0 without any. */
  precedence: number;
  /** What the map should hold; undefined: no entry. */
  current: SharedValue | undefined;
  /** What it held when changes were last taken. */
  taken: SharedValue | undefined;
  /** `current` may be out of date; the cell is in the list of such. */
  stale: boolean;
  /** `taken` may differ from `current`; the cell is in the list of such. */
  changed: boolean;
}

/** All cells of one identity in one direction. */
interface Trie {
  readonly identity: number;
  readonly egress: boolean;
  readonly cells: Map<L4Key, Cell>;
  /** Bit n is set if a cell with n bits is or was there. */
  lengths: number;
  /** How many cells are stronger than a plain allow, and so may cover others. */
  strong: number;
}

export class MapState {
  readonly #values: ValueTable;
  readonly #ingress = new Map<number, Trie>();
  readonly #egress = new Map<number, Trie>();
  #stale: Cell[] = [];
  #changed: Cell[] = [];

  constructor(values: ValueTable) {
    this.#values = values;
  }

  /** Whether `takeChanges` may have something to say. */
  get hasChanges(): boolean {
    return this.#stale.length > 0 || this.#changed.length > 0;
  }

  add(egress: boolean, identity: number, l4: L4Key, contributor: Contributor): void {
    const cell = this.#cell(egress, identity, l4);
    cell.contributors.push(contributor);
    this.#markStale(cell);
    if (contributor.precedence > cell.precedence) this.#setPrecedence(cell, contributor.precedence);
  }

  /** Takes back one `add`. */
  remove(egress: boolean, identity: number, l4: L4Key, contributor: Contributor): void {
    const cell = this.#tries(egress).get(identity)!.cells.get(l4)!;
    const { contributors } = cell;
    const last = contributors.pop()!;
    if (last !== contributor) contributors[contributors.lastIndexOf(contributor)] = last;
    this.#markStale(cell);
    if (contributor.precedence < cell.precedence) return;
    let precedence = 0;
    for (const other of contributors) precedence = Math.max(precedence, other.precedence);
    this.#setPrecedence(cell, precedence);
  }

  /** The whole map. */
  *entries(): Generator<PolicyEntry> {
    this.#settle();
    for (const tries of [this.#ingress, this.#egress]) {
      for (const trie of tries.values()) {
        for (const cell of trie.cells.values()) if (cell.current !== undefined) yield entryOf(cell, cell.current);
      }
    }
  }

  /** The difference to the last call. */
  takeChanges(): MapChanges {
    this.#settle();
    const upserts: PolicyEntry[] = [];
    const deletes: PolicyKey[] = [];
    const changed = this.#changed;
    this.#changed = [];
    for (const cell of changed) {
      cell.changed = false;
      if (cell.contributors.length === 0) this.#forget(cell);
      if (cell.current === cell.taken) continue;
      if (cell.current === undefined) deletes.push(keyOf(cell));
      else upserts.push(entryOf(cell, cell.current));
      if (cell.taken !== undefined) this.#values.release(cell.taken);
      cell.taken = cell.current && this.#values.share(cell.current);
    }
    return { upserts, deletes };
  }

  /** A copy that goes its own way from here on: same cells, same changes not yet taken. */
  fork(): MapState {
    const copy = new MapState(this.#values);
    for (const egress of [false, true]) {
      for (const trie of this.#tries(egress).values()) {
        const cells = new Map<L4Key, Cell>();
        const twin: Trie = { ...trie, cells };
        copy.#tries(egress).set(trie.identity, twin);
        for (const [l4, cell] of trie.cells) {
          const { current, taken } = cell;
          if (current !== undefined) this.#values.share(current);
          if (taken !== undefined) this.#values.share(taken);
          const cellTwin: Cell = { ...cell, trie: twin, contributors: [...cell.contributors] };
          cells.set(l4, cellTwin);
          if (cell.stale) copy.#stale.push(cellTwin);
          if (cell.changed) copy.#changed.push(cellTwin);
        }
      }
    }
    return copy;
  }

  /** Gives up all values. The state is of no use afterwards. */
  dispose(): void {
    for (const tries of [this.#ingress, this.#egress]) {
      for (const { cells } of tries.values()) {
        for (const { current, taken } of cells.values()) {
          if (current !== undefined) this.#values.release(current);
          if (taken !== undefined) this.#values.release(taken);
        }
      }
      tries.clear();
    }
    this.#stale = [];
    this.#changed = [];
  }

  #settle(): void {
    const stale = this.#stale;
    this.#stale = [];
    for (const cell of stale) {
      cell.stale = false;
      const value = isVisible(cell) ? this.#values.acquire(cell.contributors) : undefined;
      if (cell.current !== undefined) this.#values.release(cell.current);
      cell.current = value;
      if (!cell.changed) this.#changed.push(cell);
      cell.changed = true;
    }
  }

  #markStale(cell: Cell): void {
    if (!cell.stale) this.#stale.push(cell);
    cell.stale = true;
  }

  #setPrecedence(cell: Cell, precedence: number): void {
    const { trie } = cell;
    const before = cell.precedence;
    if (precedence === before) return;
    cell.precedence = precedence;
    trie.strong += Number(precedence > PRECEDENCE_ALLOW) - Number(before > PRECEDENCE_ALLOW);
    // A plain allow hides nothing; a stronger cell that comes, goes or changes may hide or free what it covers.
    if (Math.max(precedence, before) <= PRECEDENCE_ALLOW || l4Bits(cell.l4) === L4_FULL_BITS) return;
    for (const other of trie.cells.values()) if (l4Covers(cell.l4, other.l4)) this.#markStale(other);
  }

  #tries(egress: boolean): Map<number, Trie> {
    return egress ? this.#egress : this.#ingress;
  }

  #cell(egress: boolean, identity: number, l4: L4Key): Cell {
    const tries = this.#tries(egress);
    let trie = tries.get(identity);
    if (trie === undefined) {
      trie = { identity, egress, cells: new Map(), lengths: 0, strong: 0 };
      tries.set(identity, trie);
    }
    let cell = trie.cells.get(l4);
    if (cell === undefined) {
      cell = {
        trie,
        l4,
        contributors: [],
        precedence: 0,
        current: undefined,
        taken: undefined,
        stale: false,
        changed: false,
      };
      trie.cells.set(l4, cell);
      trie.lengths |= 1 << l4Bits(l4);
    }
    return cell;
  }

  #forget({ trie, l4 }: Cell): void {
    trie.cells.delete(l4);
    if (trie.cells.size === 0) this.#tries(trie.egress).delete(trie.identity);
  }
}

/** False when nothing contributes, or when a stronger cell of the same trie covers this one. */
function isVisible(cell: Cell): boolean {
  const { trie, l4, precedence } = cell;
  if (precedence === 0) return false;
  if (precedence === PRECEDENCE_DENY || trie.strong === 0) return true;
  const bits = l4Bits(l4);
  for (let length = 0; length < bits; length++) {
    if ((trie.lengths & (1 << length)) === 0) continue;
    const covering = trie.cells.get(l4Cut(l4, length));
    if (covering !== undefined && covering.precedence > precedence) return false;
  }
  return true;
}

function keyOf({ trie, l4 }: Cell): PolicyKey {
  return { identity: trie.identity, egress: trie.egress, ...l4Parts(l4) };
}

function entryOf(cell: Cell, { deny, proxyPort, precedence, cookie }: SharedValue): PolicyEntry {
  const { trie, l4 } = cell;
  const { protocol, port, bits } = l4Parts(l4);
  return { identity: trie.identity, egress: trie.egress, protocol, port, bits, deny, proxyPort, precedence, cookie };
}
