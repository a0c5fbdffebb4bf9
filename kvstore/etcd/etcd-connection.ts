// SPDX-License-Identifier: Apache-2.0

/**
 * The way to a cluster of etcd members: one is used until it fails, then the next.
 *
 * What reads is tried on every member. What writes is tried again only if it has certainly not been done; otherwise the
 * caller is told `KvstoreUnavailable` and decides, because a condition that held at the first attempt may fail at the
 * second just because the first was carried out.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { systemClock } from '../../runtime/clock.ts';
import { checkConfig, type EtcdConfig, type EtcdTimes } from './etcd-config.ts';
import { EtcdEndpoint, type Decoder, type EtcdService, type EtcdStream } from './etcd-endpoint.ts';
import { toError, toFault, type EtcdFault } from './etcd-fault.ts';
import { Gate } from './gate.ts';

/** More at once would not be faster, and their time would run while they wait in this process. */
const LIMITS = { running: 100, waiting: 10_000, waitMs: 10_000 };

export class EtcdConnection {
  readonly config: EtcdConfig;
  readonly times: EtcdTimes;
  readonly endpoints: readonly EtcdEndpoint[];
  #current: number;
  readonly #gate = new Gate(LIMITS, systemClock);
  /** How to fail what is not answered yet. */
  readonly #unanswered = new Set<(error: CiliumError) => void>();
  #leaving: NodeJS.Timeout | undefined;
  #hasLeft = false;
  /** `random`: uniform in [0, 1); where to begin, so that nodes spread over members. */
  constructor(config: EtcdConfig, times: EtcdTimes, random: () => number = Math.random) {
    this.endpoints = checkConfig(config).map((url) => new EtcdEndpoint(url, config, times));
    this.config = config;
    this.times = times;
    this.#current = Math.floor(random() * this.endpoints.length);
  }

  /** `what`: for the error, such as `read key`. `decode`: instead of etcd3's way to read the answer. */
  read<T>(what: string, service: EtcdService, method: string, message: unknown, decode?: Decoder<T>): Promise<T> {
    return this.#request(what, true, (endpoint) => endpoint.request<T>(service, method, message, decode));
  }

  write<T>(what: string, service: EtcdService, method: string, message: unknown): Promise<T> {
    return this.#request(what, false, (endpoint) => endpoint.request<T>(service, method, message));
  }

  /** A stream to the present member, and what to call when it failed. */
  async stream<Request, Response>(
    service: EtcdService,
    method: string,
    timeoutMs?: number,
  ): Promise<{ stream: EtcdStream<Request, Response>; failed: (what: string, error: unknown) => CiliumError }> {
    const endpoint = this.endpoints[this.#current]!;
    const failed = (what: string, error: unknown): CiliumError => {
      const fault = toFault(error, this.config);
      this.#note(endpoint, fault);
      // Older etcd says that a stream lacks permission when its token is no longer valid.
      if (this.config.username !== undefined && fault.kind === 'refused') endpoint.renew();
      return toError(what, endpoint.url, fault, error);
    };
    try {
      return { stream: await endpoint.stream<Request, Response>(service, method, timeoutMs), failed };
    } catch (error) {
      if (error instanceof CiliumError) throw error;
      throw failed('stream', error);
    }
  }

  /** What is not answered by then fails, and so does all that is asked later. */
  leave(withinMs: number): void {
    this.#leaving ??= setTimeout(() => {
      this.#hasLeft = true;
      for (const fail of this.#unanswered) fail(leftError());
    }, withinMs);
  }

  /** The answer, unless `leave` ends the waiting for it. */
  async answer<T>(work: () => Promise<T>): Promise<T> {
    if (this.#hasLeft) throw leftError();
    const left = Promise.withResolvers<never>();
    this.#unanswered.add(left.reject);
    try {
      return await Promise.race([work(), left.promise]);
    } finally {
      this.#unanswered.delete(left.reject);
    }
  }

  close(): void {
    clearTimeout(this.#leaving);
    this.#leaving = undefined;
    this.#hasLeft = false;
    for (const endpoint of this.endpoints) endpoint.close();
  }

  #request<T>(what: string, isRepeatable: boolean, ask: (endpoint: EtcdEndpoint) => Promise<T>): Promise<T> {
    return this.answer(() => this.#gate.run(() => this.#tryAll<T>(what, isRepeatable, ask)));
  }

  async #tryAll<T>(what: string, isRepeatable: boolean, ask: (endpoint: EtcdEndpoint) => Promise<T>): Promise<T> {
    const failures: CiliumError[] = [];
    let mayRenew = true;
    for (let count = this.endpoints.length, first = this.#current, i = 0; i < count;) {
      const endpoint = this.endpoints[(first + i) % count]!;
      try {
        return await ask(endpoint);
      } catch (error) {
        if (error instanceof CiliumError) throw error;
        const fault = toFault(error, this.config);
        this.#note(endpoint, fault);
        const failure = toError(what, endpoint.url, fault, error);
        if (fault.kind === 'token' && mayRenew) mayRenew = false;
        else if (fault.kind !== 'away' || !(isRepeatable || fault.isUndone)) throw failure;
        else {
          failures.push(failure);
          i++;
        }
      }
    }
    const [failure] = failures;
    if (failures.length === 1) throw failure!;
    const reasons = failures.map(({ details }) => `${details['endpoint'] as string}: ${details['reason'] as string}`);
    const isMistake = failures.every(({ details }) => details['isMistake'] === true);
    throw new CiliumError('KvstoreUnavailable', `etcd ${what}: ${reasons.join('; ')}`, { reasons, isMistake }, failure);
  }

  #note(endpoint: EtcdEndpoint, { kind }: EtcdFault): void {
    if (kind === 'token') endpoint.renew();
    if (kind === 'away' && this.endpoints[this.#current] === endpoint) {
      this.#current = (this.#current + 1) % this.endpoints.length;
    }
  }
}

function leftError(): CiliumError {
  return new CiliumError('KvstoreUnavailable', 'the client of etcd is about to stop and waits no longer');
}
