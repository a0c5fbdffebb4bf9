// SPDX-License-Identifier: Apache-2.0

import { CiliumError } from '../../errors/cilium-error.ts';
import type { PolicyChanges, PolicyEntry, PolicyEntryKey } from '../policy-changes.ts';
import type { PolicySlotWriter } from '../policy-realizer.ts';

/** The kernel's policy slots, in Maps. */
export class FakeSlots implements PolicySlotWriter {
  readonly contents = new Map<number, Map<string, PolicyEntry>>();
  readonly released: number[] = [];
  maxEntries = 1000;
  /** More than this the kernel refuses, whatever `maxEntries` promises. */
  capacity = 1000;
  spares = 1000;
  /** There will be other spares when none is left. */
  moreCome = false;
  /** As the kernel's: what is to be deleted goes after the rest was written. */
  countsBoth = false;
  #next = 1;

  acquire(): number | undefined {
    if (this.spares === 0 && this.moreCome) return undefined;
    if (this.spares-- === 0) throw new CiliumError('MapFull', 'no spare policy slot is left');
    return this.make();
  }

  /** A slot as an earlier agent left it. */
  make(entries: readonly PolicyEntry[] = []): number {
    this.contents.set(this.#next, new Map(entries.map((entry) => [textOf(entry), entry])));
    return this.#next++;
  }

  apply(slot: number, changes: PolicyChanges): void {
    const entries = this.contents.get(slot)!;
    const after = new Map(entries);
    for (const entry of changes.upserts) after.set(textOf(entry), entry);
    const capacity = Math.min(this.capacity, this.maxEntries);
    if (this.countsBoth && after.size > capacity) throw new CiliumError('MapFull', `slot ${slot} has no room`);
    for (const key of changes.deletes) after.delete(textOf(key));
    if (after.size > capacity) throw new CiliumError('MapFull', `slot ${slot} has no room`);
    this.contents.set(slot, after);
  }

  entries(slot: number): PolicyEntry[] {
    return [...(this.contents.get(slot)?.values() ?? [])];
  }

  release(slot: number): void {
    this.released.push(slot);
  }
}

export function textOf({ identity, egress, protocol, port, bits }: PolicyEntryKey): string {
  return `${identity} ${egress ? 'egress' : 'ingress'} ${protocol}/${port}/${bits}`;
}
