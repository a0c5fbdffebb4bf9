// SPDX-License-Identifier: Apache-2.0

/**
 * Gives memory back to the system after large changes.
 *
 * An import of thousands of rules leaves several times its size behind as garbage, and V8 keeps what it has grown to
 * until there is more work, which an agent may not have for days. So when it has been quiet for a moment and the heap has
 * grown by much, it is collected once; that takes some tens of milliseconds.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describeError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/logger.ts';

const QUIET_MS = 3_000;
const MUCH_BYTES = 16 * 2 ** 20;

export interface MemoryReturnDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Bytes of the heap. */
  readonly heapSize?: () => number;
  readonly collect?: () => void;
}

export class MemoryReturn {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #heapSize: () => number;
  readonly #collect: () => void;
  readonly #stop = new AbortController();
  #touched = 0;
  #isWaiting = false;
  /** What is left of the heap by a collection; unknown until the first. */
  #floor: number;

  constructor({
    clock,
    log,
    heapSize = () => process.memoryUsage().heapTotal,
    collect = collector(),
  }: MemoryReturnDeps) {
    this.#clock = clock;
    this.#log = log;
    this.#heapSize = heapSize;
    this.#collect = collect;
    this.#floor = heapSize();
  }

  /** Something was done that may have left garbage. */
  touch(): void {
    this.#touched = this.#clock.monotonic();
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    void this.#wait();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #wait(): Promise<void> {
    try {
      for (let quietMs = 0; quietMs < QUIET_MS; quietMs = this.#clock.monotonic() - this.#touched) {
        await this.#clock.sleep(QUIET_MS - quietMs, this.#stop.signal);
      }
      if (this.#heapSize() - this.#floor < MUCH_BYTES) return;
      this.#collect();
      this.#floor = this.#heapSize();
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#log.warn('Cannot give memory back', { error: describeError(error) });
    } finally {
      this.#isWaiting = false;
    }
  }
}

/** V8's collector, as thorough as when memory runs out: only then does it give pages back. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (options: object) => void;
  return () => gc({ type: 'major', flavor: 'last-resort' });
}
