// SPDX-License-Identifier: Apache-2.0

/** Locks between the clients of one process, given in the order they were asked for. */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';

export class LockTable {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** Of each lock that is held: who waits for it. */
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves with what gives the lock back, which may be called twice. */
  async acquire(path: string, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const waiting = this.#waiting.get(path);
    if (waiting === undefined) this.#waiting.set(path, []);
    else await this.#wait(path, waiting, signal);
    let isHeld = true;
    return () => {
      if (isHeld) this.#release(path);
      isHeld = false;
    };
  }

  /** How many locks are held. */
  get size(): number {
    return this.#waiting.size;
  }

  #release(path: string): void {
    const next = this.#waiting.get(path)?.shift();
    if (next === undefined) this.#waiting.delete(path);
    else next();
  }

  async #wait(path: string, waiting: (() => void)[], signal: AbortSignal | undefined): Promise<void> {
    const { promise: turn, resolve } = Promise.withResolvers<undefined>();
    const wake = (): void => resolve(undefined);
    waiting.push(wake);
    const done = new AbortController();
    const limit = AbortSignal.any(signal === undefined ? [done.signal] : [done.signal, signal]);
    const outcome = await Promise.race([
      turn.then(() => 'turn' as const),
      this.#clock.sleep(this.#timeoutMs, limit).then(
        () => 'timeout' as const,
        () => 'aborted' as const,
      ),
    ]);
    done.abort();
    if (outcome === 'turn') return;
    const index = waiting.indexOf(wake);
    // The turn may have come in the same moment: then it is passed on.
    if (index >= 0) waiting.splice(index, 1);
    else this.#release(path);
    signal?.throwIfAborted();
    throw new CiliumError('Timeout', `lock ${path} was not free within ${this.#timeoutMs / 1000} s`, { path });
  }
}
