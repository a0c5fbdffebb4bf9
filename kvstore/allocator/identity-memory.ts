// SPDX-License-Identifier: Apache-2.0

/** Which numbers stood for which labels when the store was last seen: for a start while it is away. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { isCiliumError } from '../../errors/cilium-error.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Controller } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import { readJsonFile, writeFileAtomic } from '../../runtime/state-file.ts';

/** Changes of this time are written together. */
const GATHER_MS = 10_000;
const schema = z.array(z.tuple([z.int().positive(), z.string()]));

export interface IdentityMemoryOptions {
  /** The file; its folder must exist when it is written. */
  readonly path: string;
  readonly log: Logger;
  readonly clock: Clock;
}

export class IdentityMemory {
  readonly #options: IdentityMemoryOptions;
  readonly #saving: Controller;
  #entries: () => Iterable<readonly [number, string]> = () => [];
  #isDirty = false;

  constructor(options: IdentityMemoryOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#saving = new Controller({
      name: 'identity-memory',
      run: async (signal) => {
        await clock.sleep(GATHER_MS, signal);
        await this.#save();
      },
      log,
      clock,
    });
  }

  /** Whether this node has seen the store before. */
  get exists(): boolean {
    return existsSync(this.#options.path);
  }

  /** A file that cannot be used is as good as none. */
  async load(): Promise<readonly (readonly [number, string])[]> {
    try {
      return (await readJsonFile(this.#options.path, schema)) ?? [];
    } catch (error) {
      if (!isCiliumError(error, 'Precondition')) throw error;
      this.#options.log.warn('Known identities cannot be read; the kvstore has them', { error });
      return [];
    }
  }

  /** `entries`: what is to be remembered whenever it is written. */
  start(entries: () => Iterable<readonly [number, string]>): void {
    this.#entries = entries;
    this.#saving.start();
  }

  async stop(): Promise<void> {
    await this.#saving.stop();
    if (this.#isDirty) await this.#save();
  }

  /** There is something new. */
  touch(): void {
    this.#isDirty = true;
    this.#saving.trigger();
  }

  async #save(): Promise<void> {
    this.#isDirty = false;
    try {
      await writeFileAtomic(this.#options.path, JSON.stringify([...this.#entries()]));
    } catch (error) {
      this.#isDirty = true;
      throw error;
    }
  }
}
