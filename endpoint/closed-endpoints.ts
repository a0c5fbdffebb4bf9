// SPDX-License-Identifier: Apache-2.0

/** Endpoints that could not be restored: closed, and tried again with back-off until they are open or gone. */
import type { Clock } from '../runtime/clock.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import type { Endpoint } from './endpoint.ts';

export interface ClosedEndpointsDeps {
  /** Throws as long as the endpoint stays closed. */
  readonly reopen: (endpoint: Endpoint) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

export class ClosedEndpoints {
  readonly #endpoints = new Set<Endpoint>();
  readonly #reopen: ClosedEndpointsDeps['reopen'];
  readonly #retries: Controller;

  constructor({ reopen, clock, log }: ClosedEndpointsDeps) {
    this.#reopen = reopen;
    this.#retries = new Controller({ name: 'closed-endpoints', run: () => this.#retry(), clock, log });
  }

  /** Begins to try, if there are any. */
  start(): void {
    if (this.#endpoints.size === 0) return;
    this.#retries.start();
    this.#retries.trigger();
  }

  stop(): Promise<void> {
    return this.#retries.stop();
  }

  get status(): ControllerStatus {
    return this.#retries.status;
  }

  add(endpoint: Endpoint): void {
    this.#endpoints.add(endpoint);
  }

  has(endpoint: Endpoint): boolean {
    return this.#endpoints.has(endpoint);
  }

  delete(endpoint: Endpoint): void {
    this.#endpoints.delete(endpoint);
  }

  async #retry(): Promise<void> {
    const failures: unknown[] = [];
    for (const endpoint of [...this.#endpoints]) {
      await this.#reopen(endpoint).then(
        () => this.#endpoints.delete(endpoint),
        (error: unknown) => failures.push(error),
      );
    }
    if (failures.length > 0) throw new AggregateError(failures, `${failures.length} endpoints are closed`);
  }
}
