// SPDX-License-Identifier: Apache-2.0

/** Hands the kernel's event records and the agent's own events to whoever watches. The ring is read only while somebody does. */
import type { AgentEvent, MonitorListener } from './rest/services.ts';

export interface EventSource {
  /** Begins to deliver records, from now on. */
  start(onRecord: (record: Uint8Array) => void): void;
  stop(): void;
}

export class MonitorHub {
  readonly #source: EventSource;
  readonly #lostCount: () => number;
  readonly #listeners = new Set<MonitorListener>();
  #lostBefore = 0;

  /** `lostCount`: how many records the kernel could not write so far. */
  constructor(source: EventSource, lostCount: () => number) {
    this.#source = source;
    this.#lostCount = lostCount;
  }

  /** Begins to call the listener; the answer ends that. */
  subscribe(listener: MonitorListener): () => void {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) {
      this.#lostBefore = this.#lostCount();
      this.#source.start((record) => {
        for (const each of this.#listeners) each.record(record);
      });
    }
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#source.stop();
    };
  }

  /** Tells of something that happened in the agent. */
  publish(event: AgentEvent): void {
    for (const listener of this.#listeners) listener.agent(event);
  }

  /** Tells the listeners how many records the kernel lost since the last call; for a timer. */
  reportLost(): void {
    if (this.#listeners.size === 0) return;
    const now = this.#lostCount();
    const lost = now - this.#lostBefore;
    this.#lostBefore = now;
    if (lost > 0) for (const listener of this.#listeners) listener.lost(lost);
  }
}
