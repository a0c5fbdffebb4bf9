// SPDX-License-Identifier: Apache-2.0

/** Questions over UDP on one address. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import type { Responder } from './responder.ts';

export class UdpListener {
  static readonly transport = 'udp';
  readonly #socket: Socket;
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Throws the system's error when the address cannot be bound. `onError`: the socket is of no use any more. */
  static async open(
    address: string,
    port: number,
    responder: Responder,
    onError: (error: Error) => void,
  ): Promise<UdpListener> {
    const socket = createSocket(isIPv6(address) ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' });
    const listener = new UdpListener(socket);
    socket.on('message', (bytes, { address: source, port: sourcePort }) => {
      void responder.respond(bytes, source, 'udp').then((reply) => {
        // A client that has gone is no error; nor is a reply that finds no room: the client asks again.
        if (reply && !listener.#isClosed) socket.send(reply, sourcePort, source, () => undefined);
      });
    });
    socket.bind(port, address);
    try {
      await once(socket, 'listening');
    } catch (error) {
      socket.close();
      throw error;
    }
    socket.on('error', onError);
    return listener;
  }

  get port(): number {
    return this.#socket.address().port;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await new Promise<void>((resolve) => this.#socket.close(resolve));
  }
}
