// SPDX-License-Identifier: Apache-2.0

/**
 * Questions over TCP on one address (RFC 7766), within bounds that one client cannot use up for others: connections of
 * one client and of all, questions under way on one connection, length of a question, and time without one.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { MAX_QUERY_BYTES } from './message.ts';
import type { Responder } from './responder.ts';
import { StreamReader, streamed } from './stream.ts';

/** Connections: of one client, and of all. Docker's resolver opens one for each question. */
const MAX_PER_CLIENT = 50;
const MAX_CONNECTIONS = 500;
/** Questions of one connection that are not answered yet; the next ones wait in the kernel. */
const MAX_PIPELINED = 16;
/** A connection without a complete question for so long is closed (RFC 7766 6.2.3 asks for a few seconds). */
const IDLE_MS = 10_000;
/** Replies that the client does not fetch. */
const MAX_UNREAD_BYTES = 262_144;

export interface TcpLimits {
  readonly idleMs?: number;
}

export class TcpListener {
  static readonly transport = 'tcp';
  readonly #server: Server;
  readonly #responder: Responder;
  readonly #idleMs: number;
  readonly #connections = new Set<Socket>();
  readonly #perClient = new Map<string, number>();

  private constructor(responder: Responder, { idleMs = IDLE_MS }: TcpLimits) {
    this.#responder = responder;
    this.#idleMs = idleMs;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Throws the system's error when the address cannot be bound. `onError`: the socket is of no use any more. */
  static async open(
    address: string,
    port: number,
    responder: Responder,
    onError: (error: Error) => void,
    limits: TcpLimits = {},
  ): Promise<TcpListener> {
    const listener = new TcpListener(responder, limits);
    listener.#server.listen({ host: address, port, ipv6Only: true });
    await once(listener.#server, 'listening');
    listener.#server.on('error', onError);
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get connections(): number {
    return this.#connections.size;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined); // the client has gone: `close` follows
    const client = socket.remoteAddress;
    const count = this.#perClient.get(client ?? '') ?? 0;
    if (client === undefined || count >= MAX_PER_CLIENT) {
      socket.destroy();
      return;
    }
    this.#perClient.set(client, count + 1);
    this.#connections.add(socket);
    socket.on('close', () => {
      this.#connections.delete(socket);
      const left = this.#perClient.get(client)! - 1;
      if (left === 0) this.#perClient.delete(client);
      else this.#perClient.set(client, left);
    });
    this.#serve(socket, client);
  }

  #serve(socket: Socket, client: string): void {
    const reader = new StreamReader();
    let underWay = 0;
    // Bytes of a question that never ends do not count as life.
    let idle = setTimeout(() => socket.destroy(), this.#idleMs);
    socket.on('close', () => clearTimeout(idle));
    socket.on('end', () => {
      if (underWay === 0) socket.end();
    });
    socket.on('data', (chunk) => {
      const messages = reader.push(chunk);
      if ((reader.announced ?? 0) > MAX_QUERY_BYTES) {
        socket.destroy();
        return;
      }
      if (messages.length > 0) {
        clearTimeout(idle);
        idle = setTimeout(() => socket.destroy(), this.#idleMs);
      }
      for (const message of messages) {
        if (++underWay >= MAX_PIPELINED) socket.pause();
        void this.#responder.respond(message, client, 'tcp').then((reply) => {
          underWay--;
          if (!reply || socket.destroyed) {
            socket.destroy(); // no reply to something is a reply to nothing that follows
            return;
          }
          socket.write(streamed(reply));
          if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
          else if (underWay < MAX_PIPELINED) socket.resume();
          if (underWay === 0 && socket.readableEnded) socket.end();
        });
      }
    });
  }
}
