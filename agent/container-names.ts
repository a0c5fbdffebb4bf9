// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps the names of this node's containers what Docker says.
 *
 * A container's name is known when it starts, its aliases only afterwards: Docker is asked for them as soon as our part of
 * the start is done, and answers when all of it is. Later only `docker rename` changes anything, which is followed as an
 * event; after a gap (the agent was away, or Docker) all names are compared. What could not be asked is asked again.
 */
import type { Endpoint, ContainerNames as Names } from '../endpoint/endpoint.ts';
import type { EndpointListener } from '../endpoint/endpoint-manager.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { backoffMs, Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import type { NamesOnNetwork } from './docker-names.ts';

/** Questions at a time: one waits while its container starts, and must not keep the others waiting. */
const MAX_QUESTIONS = 16;
/** Docker comes back by itself, and then names are to be right soon. */
const MAX_RECONNECT_MS = 5_000;

export interface ContainerNamesDeps {
  readonly docker: {
    ofContainer(id: string): Promise<NamesOnNetwork[]>;
    running(): Promise<ReadonlyMap<string, string>>;
    followRenames(begun: () => void, renamed: (id: string) => void, signal: AbortSignal): Promise<void>;
  };
  readonly endpoints: {
    list(): Endpoint[];
    rename(dockerEndpointId: string, names: Names): Promise<void>;
    onChange(listener: EndpointListener): void;
  };
  readonly log: Logger;
  readonly clock: Clock;
}

export class ContainerNames implements Component {
  readonly name = 'container-names';
  readonly #deps: ContainerNamesDeps;
  readonly #controller: Controller;
  readonly #stop = new AbortController();
  /** Containers to be asked for, oldest first. */
  readonly #wanted = new Set<string>();
  readonly #working = new Set<Promise<void>>();
  #following: Promise<void> | undefined;

  constructor(deps: ContainerNamesDeps) {
    this.#deps = deps;
    this.#controller = new Controller({
      name: 'container-names',
      run: () => this.#compare(),
      maxBackoffMs: MAX_RECONNECT_MS,
      log: deps.log,
      clock: deps.clock,
    });
    deps.endpoints.onChange((event, { identity }) => {
      if (event === 'created' && identity) this.#want(identity.container.id);
    });
  }

  start(): Promise<void> {
    this.#controller.start();
    this.#following ??= this.#follow();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wanted.clear();
    await this.#controller.stop();
    await this.#following;
    await Promise.all(this.#working);
  }

  /** How the comparison of all names went last. */
  get status(): ControllerStatus {
    return this.#controller.status;
  }

  /** Events from Docker, for as long as there is one. */
  async #follow(): Promise<void> {
    const { docker, clock } = this.#deps;
    const { signal } = this.#stop;
    let failures = 0;
    const begun = (): void => {
      failures = 0;
      this.#controller.trigger();
    };
    while (!signal.aborted) {
      // Why Docker cannot be reached is told by the comparison, which is tried as well.
      await docker.followRenames(begun, (id) => this.#want(id), signal).catch(() => this.#controller.trigger());
      const pause = backoffMs(++failures, { maxBackoffMs: MAX_RECONNECT_MS });
      await clock.sleep(pause, signal).catch(() => undefined);
    }
  }

  /** One list of all containers; those are asked for whose names are not known, or not the same. */
  async #compare(): Promise<void> {
    const { docker, endpoints } = this.#deps;
    const running = await docker.running();
    const wrong = new Set<string>();
    for (const { identity } of endpoints.list()) {
      if (!identity) continue;
      const { id, name, network, aliases } = identity.container;
      const isKnown = network !== undefined && aliases !== undefined && running.get(id) === name;
      if (running.has(id) && !isKnown) wrong.add(id);
    }
    const results = await inParallel(MAX_QUESTIONS, wrong, (id) => this.#learn(id));
    const failed = results.filter((result) => result !== undefined);
    if (failed.length > 0) throw new AggregateError(failed, `Names of ${failed.length} containers are not known`);
  }

  #want(id: string): void {
    if (this.#stop.signal.aborted) return;
    this.#wanted.add(id);
    if (this.#working.size >= MAX_QUESTIONS) return;
    const work = this.#work().finally(() => this.#working.delete(work));
    this.#working.add(work);
  }

  async #work(): Promise<void> {
    await Promise.resolve(); // Docker is answered first
    for (const id of this.#wanted) {
      this.#wanted.delete(id);
      if ((await this.#learn(id)) !== undefined) this.#controller.trigger();
    }
  }

  /** What went wrong, if anything. */
  async #learn(id: string): Promise<unknown> {
    const { docker, endpoints } = this.#deps;
    const own = endpoints.list().filter(({ identity }) => identity?.container.id === id);
    if (own.length === 0) return undefined;
    try {
      const names = await docker.ofContainer(id);
      for (const { dockerEndpointId, ...called } of names) await endpoints.rename(dockerEndpointId, called);
      const missing = own.find(({ facts }) => !names.some((one) => one.dockerEndpointId === facts.dockerEndpointId));
      // Docker lets go of an endpoint a moment before it tells us, or has not noted a new one yet.
      if (!missing || !endpoints.list().includes(missing)) return undefined;
      return new CiliumError('NotFound', `Docker does not list endpoint ${missing.id} of container ${id}`);
    } catch (error) {
      return error;
    }
  }
}

/** Results of `work` on each item, some at a time; `work` must not reject. */
async function inParallel<T, R>(limit: number, items: Iterable<T>, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) results.push(await work(item));
  };
  await Promise.all(Array.from({ length: limit }, worker));
  return results;
}
