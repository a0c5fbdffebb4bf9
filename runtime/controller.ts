// SPDX-License-Identifier: Apache-2.0

/**
 * Background work that is retried until it succeeds, and repeated if it has an interval.
 *
 * At most one run at a time; triggers that come during a run are folded into one run after it. A failed run is
 * repeated after a delay that doubles from `minBackoffMs` to `maxBackoffMs`, with jitter so that nodes that failed
 * together do not come back together.
 */
import { describeError } from '../errors/cilium-error.ts';
import { systemClock, type Clock } from './clock.ts';
import type { Logger } from './logger.ts';

export interface BackoffOptions {
  /** @default 1 s: first delay. */
  readonly minBackoffMs?: number;
  /** @default 60 s: no delay is longer. */
  readonly maxBackoffMs?: number;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export interface ControllerOptions extends BackoffOptions {
  readonly name: string;
  /** Must stop soon after its signal aborts, and may be repeated after it failed half way. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** Time from the end of a successful run to the next. Without it only `trigger` starts one. */
  readonly intervalMs?: number;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** What `cilium status --all-controllers` shows. Times in milliseconds since the epoch. */
export interface ControllerStatus {
  readonly name: string;
  readonly successCount: number;
  readonly failureCount: number;
  readonly consecutiveFailures: number;
  readonly lastSuccess?: number;
  readonly lastFailure?: number;
  readonly lastError?: string;
}

const DEFAULT_MIN_BACKOFF_MS = 1_000;
const DEFAULT_MAX_BACKOFF_MS = 60_000;

/** The delay after the given number of failures (from 1): exponential, then 50 to 100 % of it. */
export function backoffMs(failures: number, options: BackoffOptions = {}): number {
  const { minBackoffMs = DEFAULT_MIN_BACKOFF_MS, maxBackoffMs = DEFAULT_MAX_BACKOFF_MS } = options;
  const full = Math.min(maxBackoffMs, minBackoffMs * 2 ** Math.min(failures - 1, 32));
  return full * (0.5 + 0.5 * (options.random ?? Math.random)());
}

export class Controller {
  readonly #options: ControllerOptions;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  /** Aborted to end the present wait. */
  #wake = new AbortController();
  #due = false;
  #loop: Promise<void> | undefined;
  #successCount = 0;
  #failureCount = 0;
  #consecutiveFailures = 0;
  #last: { lastSuccess?: number; lastFailure?: number; lastError?: string } = {};

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Begins; with an interval the first run is at once. Calling it again does nothing. */
  start(): void {
    if (this.#options.intervalMs !== undefined) this.#due = true;
    this.#loop ??= this.#work();
  }

  /** Asks for a run: now, or after the present one. It cuts a back-off short. Before `start` it is remembered. */
  trigger(): void {
    this.#due = true;
    this.#wake.abort();
  }

  /** Aborts the present run, waits for it and begins no other. May be called twice. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake.abort();
    await this.#loop;
  }

  get status(): ControllerStatus {
    return {
      name: this.#options.name,
      successCount: this.#successCount,
      failureCount: this.#failureCount,
      consecutiveFailures: this.#consecutiveFailures,
      ...this.#last,
    };
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (!this.#due) {
        await this.#wait(this.#options.intervalMs);
        continue;
      }
      this.#due = false;
      if (!(await this.#runOnce(signal))) {
        await this.#wait(backoffMs(this.#consecutiveFailures, this.#options));
        this.#due = true;
      }
    }
  }

  /** Until the time is over (then a run is due), a trigger or stop. */
  async #wait(ms: number | undefined): Promise<void> {
    if (this.#stop.signal.aborted || this.#due) return;
    this.#wake = new AbortController();
    const { signal } = this.#wake;
    if (ms === undefined) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      return;
    }
    const slept = await this.#clock.sleep(ms, signal).then(
      () => true,
      () => false,
    );
    if (slept) this.#due = true;
  }

  async #runOnce(signal: AbortSignal): Promise<boolean> {
    const { name, log, run } = this.#options;
    try {
      await run(signal);
      if (this.#consecutiveFailures > 0) {
        log.info('Background work succeeds again', { controller: name, attempt: this.#consecutiveFailures + 1 });
      }
      this.#successCount++;
      this.#consecutiveFailures = 0;
      this.#last = { ...this.#last, lastSuccess: this.#clock.now() };
      return true;
    } catch (error) {
      if (signal.aborted) return true;
      this.#failureCount++;
      this.#consecutiveFailures++;
      this.#last = { ...this.#last, lastFailure: this.#clock.now(), lastError: describeError(error) };
      // One line when it begins to fail; the repetitions would say the same.
      if (this.#consecutiveFailures === 1)
        log.warn('Background work failed and is retried', { controller: name, error });
      else log.debug('Background work failed again', { controller: name, attempt: this.#consecutiveFailures, error });
      return false;
    }
  }
}
