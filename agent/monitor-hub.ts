// SPDX-License-Identifier: Apache-2.0

/**
 * Reads the kernel's event ring as long as the agent runs: for the table of flows seen, and for whoever watches, who gets
 * the agent's own events too. While nobody watches it looks a few times a second only.
 */
import type { AgentEvent, MonitorListener } from './rest/services.ts';

export interface EventSource {
  /** Begins to deliver records, the oldest in the ring first. They are valid during the call. */
  start(onRecords: (records: readonly Uint8Array[]) => void): void;
  stop(): void;
  /** Delivers what there is now. */
  drain(): void;
  setPace(pace: 'watched' | 'background'): void;
}

export interface MonitorHubDeps {
  readonly source: EventSource;
  /** How many records the kernel could not write so far. */
  readonly lostCount: () => number;
  readonly flows: { take(records: readonly Uint8Array[]): void };
}

export class MonitorHub {
  readonly #deps: MonitorHubDeps;
  readonly #listeners = new Set<MonitorListener>();
  #lostBefore = 0;
  #lostAtStart = 0;

  constructor(deps: MonitorHubDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { source, flows, lostCount } = this.#deps;
    this.#lostAtStart = lostCount();
    source.setPace('background');
    source.start((records) => {
      flows.take(records);
      if (this.#listeners.size === 0) return;
      for (const record of records) for (const listener of this.#listeners) listener.record(record);
    });
  }

  stop(): void {
    this.#deps.source.stop();
  }

  /** How many records the kernel could not write since the start. */
  get lost(): number {
    return this.#deps.lostCount() - this.#lostAtStart;
  }

  /** What the kernel wrote until now has been taken when this returns. */
  drain(): void {
    this.#deps.source.drain();
  }

  /** Begins to call the listener, with what happens from now on; the answer ends that. */
  subscribe(listener: MonitorListener): () => void {
    const { source, lostCount } = this.#deps;
    source.drain();
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) {
      this.#lostBefore = lostCount();
      source.setPace('watched');
    }
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) source.setPace('background');
    };
  }

  /** Tells of something that happened in the agent. */
  publish(event: AgentEvent): void {
    for (const listener of this.#listeners) listener.agent(event);
  }

  /** Tells the listeners how many records the kernel lost since the last call; for a timer. */
  reportLost(): void {
    if (this.#listeners.size === 0) return;
    const now = this.#deps.lostCount();
    const lost = now - this.#lostBefore;
    this.#lostBefore = now;
    if (lost > 0) for (const listener of this.#listeners) listener.lost(lost);
  }
}
