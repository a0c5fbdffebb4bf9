// SPDX-License-Identifier: Apache-2.0

/**
 * Answers nodes that ask whether this one is there: `GET /hello` on the health port, and nothing else. It listens on the
 * node's own addresses and on those of its router, not on any other; as they come and go, so does it.
 *
 * Bounds: MAX_CONNECTIONS an address, 2 KiB of request, REQUEST_TIMEOUT_MS for it; one answer a connection.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import { CiliumError, describeError } from '../../errors/cilium-error.ts';
import type { IpAddress } from '../../net/ip.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Component } from '../../runtime/component.ts';
import { Controller, type ControllerStatus } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/logger.ts';

/** Also the path in Cilium's health API. */
export const HELLO_PATH = '/hello';
const MAX_CONNECTIONS = 256;
const MAX_HEADER_BYTES = 2_048;
const REQUEST_TIMEOUT_MS = 5_000;
/** An address that is new on its device cannot be listened on at once. */
const RETRY = { minBackoffMs: 500, maxBackoffMs: 15_000 };

export interface HelloServerOptions {
  readonly port: number;
  /** Where to listen. */
  readonly addresses: () => readonly IpAddress[];
  readonly log: Logger;
  readonly clock: Clock;
}

export class HelloServer implements Component {
  readonly name = 'health-listener';
  readonly #options: HelloServerOptions;
  readonly #listening: Controller;
  readonly #servers = new Map<string, Server>();

  constructor(options: HelloServerOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#listening = new Controller({ name: 'health-listener', run: () => this.#listen(), log, clock, ...RETRY });
  }

  get status(): ControllerStatus {
    return this.#listening.status;
  }

  /** Does not wait: what cannot be listened on is tried again. */
  start(): Promise<void> {
    this.#listening.trigger();
    this.#listening.start();
    return Promise.resolve();
  }

  /** The addresses may be others. */
  changed(): void {
    this.#listening.trigger();
  }

  async stop(): Promise<void> {
    await this.#listening.stop();
    await Promise.all([...this.#servers].map(([address, server]) => this.#close(address, server)));
  }

  async #listen(): Promise<void> {
    const { port, addresses } = this.#options;
    const wanted = new Set(addresses().map((address) => address.toString()));
    for (const [address, server] of [...this.#servers]) if (!wanted.has(address)) await this.#close(address, server);
    const problems: string[] = [];
    for (const address of wanted) {
      if (this.#servers.has(address)) continue;
      try {
        this.#servers.set(address, await this.#open(address));
      } catch (error) {
        problems.push(describeError(error));
      }
    }
    if (problems.length === 0) return;
    throw new CiliumError(
      'Precondition',
      `other nodes cannot ask this one at port ${port} (--health-port): ${problems.join('; ')}`,
      { problems },
    );
  }

  async #open(address: string): Promise<Server> {
    const limits = {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    };
    const server = createServer(limits, answerHello);
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port: this.#options.port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', () => {
      this.#servers.delete(address);
      this.changed();
    });
    return server;
  }

  async #close(address: string, server: Server): Promise<void> {
    this.#servers.delete(address);
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

const answerHello: RequestListener = (request, response) => {
  const isHello = request.method === 'GET' && request.url === HELLO_PATH;
  const text = isHello ? '{"status":"ok"}\n' : '';
  response.writeHead(isHello ? 200 : 404, {
    'content-type': 'application/json',
    'content-length': text.length,
    connection: 'close',
  });
  response.end(text);
};
