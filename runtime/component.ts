// SPDX-License-Identifier: Apache-2.0

/** Parts of the daemon that hold resources, and the order in which they come and go. */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Logger } from './logger.ts';

/** A part that holds resources between `start` and `stop`. A `start` that fails cleans up after itself; `stop` may be called twice. */
export interface Component {
  readonly name: string;
  /** @default COMPONENT_TIMEOUT_MS: how long `start` may take. */
  readonly startTimeoutMs?: number;
  start(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

/** How long one component may take to start or to stop. */
export const COMPONENT_TIMEOUT_MS = 30_000;
/** A component that took longer than this is named in the log. */
const SLOW_COMPONENT_MS = 100;

/** Starts components in the order given and stops them in the reverse order. */
export class Lifecycle {
  readonly #components: readonly Component[];
  readonly #started: Component[] = [];
  readonly #log: Logger;

  constructor(components: readonly Component[], log: Logger) {
    this.#components = components;
    this.#log = log;
  }

  /** Starts all; when one fails, those that had started are stopped and the error names the one that failed. */
  async start(signal: AbortSignal): Promise<void> {
    for (const component of this.#components) {
      try {
        signal.throwIfAborted();
        await this.#timed(component, 'start', component.start(signal));
        this.#started.push(component);
      } catch (cause) {
        await this.stop().catch((error: unknown) => this.#log.warn('Stop after failed start', { error }));
        throw new CiliumError('Internal', `start ${component.name}`, { component: component.name }, cause);
      }
    }
  }

  /** Stops what had started, every one even when an earlier one throws; throws an AggregateError of what went wrong. */
  async stop(): Promise<void> {
    const errors: unknown[] = [];
    for (let component = this.#started.pop(); component !== undefined; component = this.#started.pop()) {
      try {
        await this.#timed(component, 'stop', component.stop());
      } catch (cause) {
        errors.push(new CiliumError('Internal', `stop ${component.name}`, {}, cause));
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'Some components did not stop');
  }

  async #timed(component: Component, action: 'start' | 'stop', work: Promise<void>): Promise<void> {
    const begin = performance.now();
    const limitMs = (action === 'start' ? component.startTimeoutMs : undefined) ?? COMPONENT_TIMEOUT_MS;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(new CiliumError('Timeout', `${component.name} did not ${action} in ${limitMs} ms`));
      }, limitMs);
    });
    try {
      await Promise.race([work, limit]);
    } finally {
      clearTimeout(timer);
    }
    const duration = performance.now() - begin;
    if (duration > SLOW_COMPONENT_MS) {
      this.#log.info(`Slow component ${action}`, { component: component.name, durationMs: Math.round(duration) });
    }
  }
}
