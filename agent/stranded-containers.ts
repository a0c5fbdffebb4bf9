// SPDX-License-Identifier: Apache-2.0

/**
 * Containers that Docker could not bring back up when it started itself, because of us.
 *
 * Docker starts those with a restart policy before it answers anybody's questions, so that we cannot learn whose endpoint
 * is being made and have to refuse it; or the agent was not there yet. It tries once, and never again. So once it answers,
 * those whose last start failed for such a reason are started for it.
 */
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { DRIVER_NAME } from './collector.ts';
import type { DockerEngine } from './docker.ts';

/**
 * How the reasons read that pass: our own words when Docker is silent (endpoint-manager.ts), and those of Docker for a
 * plug-in that is not there (moby pkg/plugins).
 */
const PASSING = [
  /remote: Docker did not say within \d+ ms/,
  /dial unix \S*\/cilium\.sock/,
  new RegExp(`plugin "?${DRIVER_NAME}"? not found`),
];

export interface StrandedContainersDeps {
  readonly docker: Pick<DockerEngine, 'failedStarts' | 'startContainer'>;
  readonly clock: Clock;
  readonly log: Logger;
}

export class StrandedContainers implements Component {
  readonly name = 'stranded-containers';
  readonly #deps: StrandedContainersDeps;
  readonly #rounds: Controller;

  constructor(deps: StrandedContainersDeps) {
    this.#deps = deps;
    const { clock, log } = deps;
    this.#rounds = new Controller({ name: this.name, run: (signal) => this.#look(signal), clock, log });
  }

  /** The first look is at once: Docker may have started before the agent. */
  start(): Promise<void> {
    this.#rounds.trigger();
    this.#rounds.start();
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  get status(): ControllerStatus {
    return this.#rounds.status;
  }

  /** Docker has just been started, and does not answer yet. */
  dockerStarted(): void {
    this.#rounds.trigger();
  }

  /** Throws while Docker does not answer. One that cannot be started is left as it is: its reason is another now. */
  async #look(signal: AbortSignal): Promise<void> {
    const { docker, log } = this.#deps;
    for (const { id, name, error } of await docker.failedStarts(DRIVER_NAME)) {
      if (signal.aborted) return;
      if (!PASSING.some((reason) => reason.test(error))) continue;
      log.info('Container started, as Docker could not do it when it started itself', { containerID: id, name });
      await docker.startContainer(id).catch((cause: unknown) => {
        log.warn('Container not started; start it by hand', { containerID: id, name, error: cause });
      });
    }
  }
}
