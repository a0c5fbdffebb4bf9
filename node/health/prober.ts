// SPDX-License-Identifier: Apache-2.0

/**
 * Asks every node of the cluster, this one included, whether it answers: at its own addresses and at those of its router.
 *
 * Each node is asked every minute, less often the more nodes there are (so the load of a node grows with the logarithm of
 * their number); one that does not answer is asked again sooner. Nothing is done about what is found: it is shown.
 * Bounds: MAX_PARALLEL nodes at once, each with two questions an address.
 */
import { describeError } from '../../errors/cilium-error.ts';
import type { IpAddress } from '../../net/ip.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { backoffMs } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';
import type { ClusterNode } from '../node.ts';
import type { NodeRegistry } from '../node-registry.ts';
import { Limiter } from './limiter.ts';
import { answers, healthOf, type HealthReport, type NodeHealth, type PathHealth, type ProbeResult } from './report.ts';

/** An answer that takes longer is as good as none. */
export const PROBE_TIMEOUT_MS = 3_000;
const BASE_INTERVAL_MS = 60_000;
/** Time to the next try of a node that does not answer: doubles from here to the interval. */
const MIN_RETRY_MS = 2_000;
/** Nodes that come to be known at the same time are asked within this time for each of them, in no order. */
const SPREAD_MS = 10;
/** Asking 1,000 nodes at once costs 0.4 s of CPU; in such pieces the event loop never waits long. */
const MAX_PARALLEL = 32;

/** Asks one address; answers the time it took in milliseconds, throws when there is no answer in time. */
export type Probe = (address: IpAddress, timeoutMs: number, signal: AbortSignal) => Promise<number>;

export interface HealthProberOptions {
  /** `list`: this node first. */
  readonly nodes: Pick<NodeRegistry, 'list' | 'onChange'>;
  readonly icmp: Probe;
  readonly http: Probe;
  readonly log: Logger;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

interface Target {
  health: NodeHealth;
  failures: number;
  /** The probe under way. */
  running: Promise<void> | undefined;
  readonly stop: AbortController;
  loop: Promise<void>;
}

export class HealthProber implements Component {
  readonly name = 'health-prober';
  readonly #options: HealthProberOptions;
  readonly #random: () => number;
  readonly #targets = new Map<string, Target>();
  readonly #limiter = new Limiter(MAX_PARALLEL);
  #lastProbe: number | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(options: HealthProberOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  start(): Promise<void> {
    const { nodes } = this.#options;
    this.#unsubscribe = nodes.onChange(({ type, node }) => {
      if (type === 'upsert') this.#follow(node);
      else this.#forget(node);
    });
    for (const node of nodes.list()) this.#follow(node);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    const targets = [...this.#targets.values()];
    this.#targets.clear();
    for (const { stop } of targets) stop.abort();
    await Promise.all(targets.map(({ loop }) => loop));
  }

  /** How often a node that answers is asked. */
  get intervalMs(): number {
    return BASE_INTERVAL_MS * Math.log1p(this.#targets.size);
  }

  report(): HealthReport {
    const { nodes } = this.#options;
    const known = nodes.list().map((node) => this.#targets.get(node.name)?.health ?? healthOf(node));
    return { nodes: known, lastProbe: this.#lastProbe, intervalMs: this.intervalMs };
  }

  /** Asks all nodes now; resolves when each has answered or not. */
  async probe(): Promise<void> {
    await Promise.all([...this.#targets.values()].map((target) => this.#ask(target)));
  }

  #follow(node: ClusterNode): void {
    const known = this.#targets.get(node.name);
    if (known !== undefined) {
      known.health = healthOf(node, known.health);
      return;
    }
    const stop = new AbortController();
    const target: Target = { health: healthOf(node), failures: 0, running: undefined, stop, loop: Promise.resolve() };
    this.#targets.set(node.name, target);
    target.loop = this.#repeat(target, this.#random() * this.#targets.size * SPREAD_MS);
  }

  #forget({ name }: ClusterNode): void {
    this.#targets.get(name)?.stop.abort();
    this.#targets.delete(name);
  }

  async #repeat(target: Target, firstDelayMs: number): Promise<void> {
    const { signal } = target.stop;
    let delay = firstDelayMs;
    try {
      for (;;) {
        await this.#options.clock.sleep(delay, signal);
        await this.#ask(target);
        delay = this.#nextDelay(target);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** The regular one varies by a tenth, so that nodes that started together do not ask together for ever. */
  #nextDelay({ failures }: Target): number {
    const { intervalMs } = this;
    const regular = intervalMs * (0.95 + 0.1 * this.#random());
    if (failures === 0) return regular;
    return backoffMs(failures, { minBackoffMs: MIN_RETRY_MS, maxBackoffMs: intervalMs, random: this.#random });
  }

  /** One probe at a time; who asks for another meanwhile gets that one. */
  #ask(target: Target): Promise<void> {
    target.running ??= this.#limiter
      .run(() => this.#askAll(target))
      .finally(() => {
        target.running = undefined;
      });
    return target.running;
  }

  async #askAll(target: Target): Promise<void> {
    const { signal } = target.stop;
    const isOver = (): boolean => signal.aborted;
    if (isOver()) return;
    const { host, endpoint } = target.health;
    const paths = new Map(
      await Promise.all(
        [...host, ...endpoint].map(
          async ({ address }) => [address.toString(), await this.#path(address, signal)] as const,
        ),
      ),
    );
    if (isOver()) return;
    // The addresses may be others by now.
    const refresh = (path: PathHealth): PathHealth => paths.get(path.address.toString()) ?? path;
    const { node, host: hosts, endpoint: endpoints } = target.health;
    target.health = { node, host: hosts.map(refresh), endpoint: endpoints.map(refresh) };
    this.#lastProbe = this.#options.clock.now();
    this.#count(target);
  }

  #count(target: Target): void {
    const { log } = this.#options;
    const { health } = target;
    const fields = { node: health.node.name };
    if (answers(health)) {
      if (target.failures > 1) log.info('Node answers again', fields);
      target.failures = 0;
      return;
    }
    target.failures++;
    // A node that has just come may not listen yet.
    if (target.failures === 2) log.warn('Node does not answer', { ...fields, reason: firstFailure(health) });
  }

  async #path(address: IpAddress, signal: AbortSignal): Promise<PathHealth> {
    const { icmp, http } = this.#options;
    const [icmpResult, httpResult] = await Promise.all([
      this.#result(icmp, address, signal),
      this.#result(http, address, signal),
    ]);
    return { address, icmp: icmpResult, http: httpResult };
  }

  async #result(probe: Probe, address: IpAddress, signal: AbortSignal): Promise<ProbeResult> {
    const { clock } = this.#options;
    try {
      const latencyMs = await probe(address, PROBE_TIMEOUT_MS, signal);
      return { at: clock.now(), latencyMs };
    } catch (error) {
      return { at: clock.now(), error: describeError(error) };
    }
  }
}

function firstFailure({ host, endpoint }: NodeHealth): string {
  const results = [...host, ...endpoint].flatMap(({ icmp, http }) => [icmp, http]);
  return results.find((result) => result?.error !== undefined)?.error ?? '';
}
