// SPDX-License-Identifier: Apache-2.0

/**
 * Passes questions on to the servers of the host and their replies back, byte for byte but for the number.
 *
 * A server that does not answer soon is not given up: the next one is asked beside it, and the first good reply counts.
 * Servers that failed are asked last for a while. A reply that only says "I cannot" counts when no other comes.
 */
import type { Clock } from '../runtime/clock.ts';
import { RCODE, rcodeOf, type Query } from './message.ts';
import { exchangeOverTcp, exchangeOverUdp, type Upstream } from './upstream.ts';

/** When the next server is asked as well. Docker's resolver waits 4 s in all, so three must fit. */
const NEXT_SERVER_MS = 1_000;
/** When the client is told that nobody knows. */
const GIVE_UP_MS = 3_500;
/** How long a server that failed is asked last. */
const AVOID_MS = 30_000;
/** A datagram may be lost, so the only server is asked once more. */
const MIN_ATTEMPTS = 2;
/** What one client and what all together may wait for: Docker's own resolver lets 100 through for one container. */
const MAX_PER_CLIENT = 100;
const MAX_IN_FLIGHT = 1_000;
const REFUSALS: readonly number[] = [RCODE.ServFail, RCODE.NotImp, RCODE.Refused];

export interface ForwarderDeps {
  /** Whom to ask, in order of preference. */
  readonly servers: () => readonly Upstream[];
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly nextServerMs?: number;
  readonly giveUpMs?: number;
}

export class Forwarder {
  readonly #deps: ForwarderDeps;
  readonly #nextServerMs: number;
  readonly #giveUpMs: number;
  /** Questions that wait, by client. */
  readonly #waiting = new Map<string, number>();
  readonly #failedAt = new Map<string, number>();
  readonly #stopped = new AbortController();
  #inFlight = 0;

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
    this.#nextServerMs = deps.nextServerMs ?? NEXT_SERVER_MS;
    this.#giveUpMs = deps.giveUpMs ?? GIVE_UP_MS;
  }

  get hasServers(): boolean {
    return this.#deps.servers().length > 0;
  }

  /** How many questions wait for a reply. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** The best reply, or undefined: nobody answered, or too much is asked at once. */
  async ask(query: Query, client: string, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const own = this.#waiting.get(client) ?? 0;
    if (own >= MAX_PER_CLIENT || this.#inFlight >= MAX_IN_FLIGHT || this.#stopped.signal.aborted) return undefined;
    this.#waiting.set(client, own + 1);
    this.#inFlight++;
    try {
      return await this.#race(query, transport);
    } finally {
      this.#inFlight--;
      const left = this.#waiting.get(client)! - 1;
      if (left === 0) this.#waiting.delete(client);
      else this.#waiting.set(client, left);
    }
  }

  /** Ends what is under way; nothing is asked afterwards. */
  stop(): void {
    this.#stopped.abort();
  }

  #race(query: Query, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const attempts = this.#attempts();
    const exchange = transport === 'udp' ? exchangeOverUdp : exchangeOverTcp;
    const over = new AbortController();
    return new Promise((resolve) => {
      let begun = 0;
      const waiting = new Set<Upstream>();
      /** Those that let the time pass after which the next one was asked. */
      const silent = new Set<Upstream>();
      let refusal: Buffer | undefined;
      let nextTimer: NodeJS.Timeout | undefined;
      const finish = (reply: Buffer | undefined): void => {
        clearTimeout(nextTimer);
        clearTimeout(endTimer);
        this.#stopped.signal.removeEventListener('abort', giveUp);
        over.abort();
        resolve(reply);
      };
      const giveUp = (): void => {
        for (const server of [...silent, ...waiting]) this.#noteFailure(server);
        finish(refusal);
      };
      const next = (): void => {
        clearTimeout(nextTimer);
        const server = attempts[begun];
        if (over.signal.aborted) return;
        if (server === undefined) {
          if (waiting.size === 0) finish(refusal);
          return;
        }
        begun++;
        waiting.add(server);
        nextTimer = setTimeout(() => {
          silent.add(server);
          next();
        }, this.#nextServerMs);
        exchange(query, server, over.signal).then(
          (reply) => {
            waiting.delete(server);
            silent.delete(server);
            if (!REFUSALS.includes(rcodeOf(reply))) {
              this.#failedAt.delete(keyOf(server));
              for (const overtaken of silent) this.#noteFailure(overtaken);
              finish(reply);
              return;
            }
            refusal ??= reply;
            next();
          },
          () => {
            waiting.delete(server);
            if (over.signal.aborted) return;
            this.#noteFailure(server);
            next();
          },
        );
      };
      const endTimer = setTimeout(giveUp, this.#giveUpMs);
      this.#stopped.signal.addEventListener('abort', giveUp, { once: true });
      next();
    });
  }

  /** Servers that failed lately come last. */
  #attempts(): Upstream[] {
    const now = this.#deps.clock.monotonic();
    const hasFailed = (server: Upstream): boolean => now - (this.#failedAt.get(keyOf(server)) ?? -Infinity) < AVOID_MS;
    const servers = this.#deps.servers();
    const ordered = [...servers.filter((server) => !hasFailed(server)), ...servers.filter(hasFailed)];
    const again = ordered.slice(0, Math.max(0, MIN_ATTEMPTS - ordered.length)).map((server) => ({ ...server }));
    return [...ordered, ...again];
  }

  #noteFailure(server: Upstream): void {
    const known = new Set(this.#deps.servers().map(keyOf));
    for (const key of this.#failedAt.keys()) if (!known.has(key)) this.#failedAt.delete(key);
    this.#failedAt.set(keyOf(server), this.#deps.clock.monotonic());
  }
}

function keyOf({ address, port }: Upstream): string {
  return `${address} ${port}`;
}
