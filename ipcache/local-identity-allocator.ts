// SPDX-License-Identifier: Apache-2.0

/**
 * Numbers for label sets that mean something on this node only: the prefixes that rules name.
 *
 * The lowest free number is taken. A number that was given back is withheld for a while, so that no policy entry or
 * event that still speaks of it can mean another prefix; labels that come back in that time get it again. The same holds
 * for all numbers of the checkpoint after a restart: the kernel still knows them.
 */
import { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { LOCAL_IDENTITY_MAX, LOCAL_IDENTITY_MIN } from '../identity/numeric-identity.ts';
import { systemClock, type Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { readJsonFile, writeFileAtomic } from '../runtime/state-file.ts';

/** Longer than an agent takes to restore its rules, and than anybody looks at an old event. */
const WITHHOLD_MS = 10 * 60_000;

const checkpointSchema = z.array(
  z.strictObject({ id: z.int().min(LOCAL_IDENTITY_MIN).max(LOCAL_IDENTITY_MAX), labels: z.string() }),
);

export interface LocalIdentityAllocatorOptions {
  /** The checkpoint; its folder must exist. */
  readonly path: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** @default LOCAL_IDENTITY_MAX: the highest number to give. */
  readonly max?: number;
}

interface Allocation {
  readonly id: number;
  readonly labels: string;
  users: number;
  /** Without users: when it becomes free, on the monotonic clock. */
  freeAt: number;
}

export class LocalIdentityAllocator implements Component {
  readonly name = 'local-identities';
  readonly #path: string;
  readonly #max: number;
  readonly #clock: Clock;
  readonly #saving: Controller;
  readonly #byLabels = new Map<string, Allocation>();
  readonly #byId = new Map<number, Allocation>();
  /** Those without users, the one that was given back first in front. */
  readonly #withheld = new Set<Allocation>();
  /** No number below is free. */
  #lowest: number = LOCAL_IDENTITY_MIN;

  constructor(options: LocalIdentityAllocatorOptions) {
    this.#path = options.path;
    this.#max = options.max ?? LOCAL_IDENTITY_MAX;
    this.#clock = options.clock ?? systemClock;
    this.#saving = new Controller({
      name: 'local-identities-save',
      run: () => this.#save(),
      log: options.log,
      clock: this.#clock,
    });
  }

  async start(): Promise<void> {
    const checkpoint = (await readJsonFile(this.#path, checkpointSchema)) ?? [];
    for (const { id, labels } of checkpoint) this.reserve(id, labels);
    this.#saving.start();
  }

  async stop(): Promise<void> {
    await this.#saving.stop();
    await this.#save();
  }

  /** The number of the label set; each call counts as one user. Throws `PoolExhausted`. */
  acquire(labels: string): number {
    const allocation = this.#byLabels.get(labels) ?? this.#add(this.#lowestFree(), labels);
    allocation.users++;
    this.#withheld.delete(allocation);
    return allocation.id;
  }

  /** One user less. */
  release(labels: string): void {
    const allocation = this.#byLabels.get(labels);
    if (allocation === undefined || allocation.users === 0) return;
    if (--allocation.users === 0) this.#withhold(allocation);
  }

  /** Keeps a number that the kernel still knows for its labels; false when either is taken. */
  reserve(id: number, labels: string): boolean {
    if (this.#byId.has(id) || this.#byLabels.has(labels) || id < LOCAL_IDENTITY_MIN || id > this.#max) return false;
    this.#withhold(this.#add(id, labels));
    return true;
  }

  lookup(id: number): string | undefined {
    return this.#byId.get(id)?.labels;
  }

  /** Those in use. */
  *list(): Generator<{ readonly id: number; readonly labels: string; readonly users: number }> {
    for (const { id, labels, users } of this.#byId.values()) if (users > 0) yield { id, labels, users };
  }

  #add(id: number, labels: string): Allocation {
    const allocation = { id, labels, users: 0, freeAt: 0 };
    this.#byLabels.set(labels, allocation);
    this.#byId.set(id, allocation);
    this.#saving.trigger();
    return allocation;
  }

  #withhold(allocation: Allocation): void {
    allocation.freeAt = this.#clock.monotonic() + WITHHOLD_MS;
    this.#withheld.add(allocation);
  }

  #lowestFree(): number {
    const now = this.#clock.monotonic();
    for (const allocation of this.#withheld) {
      if (allocation.freeAt > now) break;
      this.#withheld.delete(allocation);
      this.#byLabels.delete(allocation.labels);
      this.#byId.delete(allocation.id);
      this.#lowest = Math.min(this.#lowest, allocation.id);
    }
    while (this.#byId.has(this.#lowest)) this.#lowest++;
    if (this.#lowest <= this.#max) return this.#lowest;
    throw new CiliumError('PoolExhausted', 'all node-local identities are in use or were until a moment ago', {
      inUse: this.#byId.size - this.#withheld.size,
      withheld: this.#withheld.size,
    });
  }

  async #save(): Promise<void> {
    const numbers = Array.from(this.#byId.values(), ({ id, labels }) => ({ id, labels }));
    await writeFileAtomic(this.#path, `${JSON.stringify(numbers.sort((a, b) => a.id - b.id))}\n`);
  }
}
