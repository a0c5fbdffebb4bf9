// SPDX-License-Identifier: Apache-2.0

/** Lets some pieces of work run at a time; the others wait in order, not for ever and not without end. */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Clock } from '../../runtime/clock.ts';

export interface GateLimits {
  /** How many run at a time. */
  readonly running: number;
  /** How many may wait; one more is refused. */
  readonly waiting: number;
  /** Who has waited for longer when it is its turn is refused: what runs before it does not get on. */
  readonly waitMs: number;
}

interface Waiter {
  readonly since: number;
  readonly enter: () => void;
  readonly refuse: () => void;
}

export class Gate {
  readonly #limits: GateLimits;
  readonly #clock: Pick<Clock, 'monotonic'>;
  #waiters: Waiter[] = [];
  #running = 0;

  constructor(limits: GateLimits, clock: Pick<Clock, 'monotonic'>) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Settles as `work` does; rejects with `KvstoreUnavailable` when it is refused, without having begun. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#limits.running) this.#running++;
    else await this.#wait();
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #wait(): Promise<void> {
    if (this.#waiters.length >= this.#limits.waiting) throw refusal();
    await new Promise<undefined>((resolve, reject) => {
      const since = this.#clock.monotonic();
      this.#waiters.push({ since, enter: () => resolve(undefined), refuse: () => reject(refusal()) });
    });
  }

  /** Hands the place to the next. */
  #leave(): void {
    const oldest = this.#clock.monotonic() - this.#limits.waitMs;
    const late = this.#waiters.findIndex(({ since }) => since >= oldest);
    for (const waiter of this.#waiters.splice(0, late < 0 ? this.#waiters.length : late)) waiter.refuse();
    const next = this.#waiters.shift();
    if (next === undefined) this.#running--;
    else next.enter();
  }
}

function refusal(): CiliumError {
  return new CiliumError('KvstoreUnavailable', 'etcd: too many requests wait for an answer');
}
