// SPDX-License-Identifier: Apache-2.0

/**
 * The DNS server of a node: UDP and TCP on the addresses that dockerd was told (`--dns`), and on no others.
 *
 * An address that cannot be bound (another server has the port, the address is not there yet) is tried again; the
 * others are served meanwhile, and so is everything else of the agent.
 */
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import type { Forwarder } from './forwarder.ts';
import type { Responder } from './responder.ts';
import { TcpListener } from './tcp-listener.ts';
import { UdpListener } from './udp-listener.ts';
import { DNS_PORT } from './upstream.ts';

/** Another program may give the port up, or an address return, without telling anybody. */
const MAX_BACKOFF_MS = 10_000;

export interface DnsServerDeps {
  readonly addresses: readonly string[];
  /** @default 53 */
  readonly port?: number;
  readonly responder: Responder;
  readonly forwarder: Pick<Forwarder, 'stop'>;
  readonly log: Logger;
  readonly clock: Clock;
}

interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

export class DnsServer implements Component {
  readonly name = 'dns-server';
  readonly #deps: DnsServerDeps;
  readonly #controller: Controller;
  readonly #listeners = new Map<string, Listener>();

  constructor(deps: DnsServerDeps) {
    this.#deps = deps;
    this.#controller = new Controller({
      name: 'dns-server',
      run: () => this.#listen(),
      maxBackoffMs: MAX_BACKOFF_MS,
      log: deps.log,
      clock: deps.clock,
    });
  }

  /** Does not wait for the addresses. */
  start(): Promise<void> {
    this.#controller.trigger();
    this.#controller.start();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#controller.stop();
    this.#deps.forwarder.stop();
    await Promise.all([...this.#listeners.values()].map((listener) => listener.close()));
    this.#listeners.clear();
  }

  /** Whether all addresses are served, and else why not. */
  get status(): ControllerStatus {
    return this.#controller.status;
  }

  /** The port of an address and transport that is served. */
  portOf(address: string, transport: 'udp' | 'tcp'): number | undefined {
    return this.#listeners.get(`${transport} ${address}`)?.port;
  }

  async #listen(): Promise<void> {
    const { addresses, port = DNS_PORT, responder } = this.#deps;
    const failures: unknown[] = [];
    for (const address of addresses) {
      for (const Listener of [UdpListener, TcpListener]) {
        const key = `${Listener.transport} ${address}`;
        if (this.#listeners.has(key)) continue;
        try {
          this.#listeners.set(key, await Listener.open(address, port, responder, (error) => this.#lost(key, error)));
        } catch (cause) {
          failures.push(new CiliumError('System', `serve DNS on ${key} port ${port}`, { address, port }, cause));
        }
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'Names of other nodes are not answered everywhere');
  }

  /** A socket that failed is opened anew. */
  #lost(key: string, error: Error): void {
    this.#deps.log.warn('A DNS socket failed and is opened again', { reason: describeError(error), socket: key });
    const listener = this.#listeners.get(key);
    this.#listeners.delete(key);
    void listener?.close().catch(() => undefined);
    this.#controller.trigger();
  }
}
