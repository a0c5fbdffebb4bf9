// SPDX-License-Identifier: Apache-2.0

/** How many questions a second each client may ask, so that a busy one costs the agent little. */
import type { Clock } from '../runtime/clock.ts';

/** A thousand times what a container asks that resolves a name for each of its connections; 2 % of what the agent can. */
const MAX_PER_SECOND = 1_000;
const WINDOW_MS = 1_000;

export class RateLimit {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #asked = new Map<string, number>();
  #windowEnd = -Infinity;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** Counts a question; false: this client has asked enough in this second. Clients are of this node, so they are few. */
  admit(client: string): boolean {
    const now = this.#clock.monotonic();
    if (now >= this.#windowEnd) {
      this.#asked.clear();
      this.#windowEnd = now + WINDOW_MS;
    }
    const asked = (this.#asked.get(client) ?? 0) + 1;
    this.#asked.set(client, asked);
    return asked <= MAX_PER_SECOND;
  }
}
