// SPDX-License-Identifier: Apache-2.0

/**
 * Who follows which keys of the embedded store, and the last changes for those who resume.
 *
 * Events reach a watcher in a microtask of their own, before the answer to the request that caused them.
 */
import type { KvEvent, Watch, WatchHandlers } from '../kvstore.ts';

/** How many revisions are kept for watches that begin in the past. */
export const HISTORY_REVISIONS = 4_096;

interface Watcher {
  readonly prefix: string;
  readonly handlers: WatchHandlers;
  /** Not delivered yet, one array a revision; `undefined` while no microtask is on its way. */
  queue: (readonly KvEvent[])[] | undefined;
}

export class WatchHub {
  readonly #watchers = new Set<Watcher>();
  /** Events by revision, consecutive, the oldest first; begins at `#first`. */
  #history: (readonly KvEvent[])[] = [];
  #first = 1;

  /** Forgets the past: the next event has the revision after `revision`. All watches end as lost. */
  reset(revision: number): void {
    this.#history = [];
    this.#first = revision + 1;
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const { handlers } of watchers) handlers.onEnd('lost');
  }

  /** All events of one revision, the one after the last. */
  publish(events: readonly KvEvent[]): void {
    if (events.length === 0) return; // leases only: no revision
    this.#history.push(events);
    if (this.#history.length > 2 * HISTORY_REVISIONS) {
      this.#first += HISTORY_REVISIONS;
      this.#history = this.#history.slice(HISTORY_REVISIONS);
    }
    for (const watcher of this.#watchers) this.#enqueue(watcher, events);
  }

  watch(prefix: string, fromRevision: number, handlers: WatchHandlers): Watch {
    const watcher: Watcher = { prefix, handlers, queue: undefined };
    this.#watchers.add(watcher);
    if (fromRevision < this.#first) {
      queueMicrotask(() => {
        if (this.#watchers.delete(watcher)) handlers.onEnd('compacted');
      });
    } else {
      for (const events of this.#history.slice(fromRevision - this.#first)) this.#enqueue(watcher, events);
    }
    return { started: Promise.resolve(), close: () => void this.#watchers.delete(watcher) };
  }

  #enqueue(watcher: Watcher, events: readonly KvEvent[]): void {
    const { prefix } = watcher;
    const wanted = events.filter((event) => (event.type === 'put' ? event.entry.key : event.key).startsWith(prefix));
    if (wanted.length === 0) return;
    if (watcher.queue !== undefined) {
      watcher.queue.push(wanted);
      return;
    }
    const queue = (watcher.queue = [wanted]);
    queueMicrotask(() => {
      watcher.queue = undefined;
      for (const batch of queue) if (this.#watchers.has(watcher)) watcher.handlers.onEvents(batch);
    });
  }
}
