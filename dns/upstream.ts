// SPDX-License-Identifier: Apache-2.0

/**
 * One question to one server, over UDP or TCP.
 *
 * Nobody can guess what an answer would have to look like: each question has a socket of its own, so a source port that
 * the kernel chose, and a random number; the socket is connected, so only the server is heard; and the reply must repeat
 * the question.
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { CiliumError } from '../errors/cilium-error.ts';
import { isReplyTo, withId, type Query } from './message.ts';
import { StreamReader, streamed } from './stream.ts';

export const DNS_PORT = 53;
const MAX_ID = 0xffff;

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

/** The server's reply under the query's own number. Throws `System` when it cannot be reached, and what `signal` says. */
export type Exchange = (query: Query, server: Upstream, signal: AbortSignal) => Promise<Buffer>;

export const exchangeOverUdp: Exchange = async (query, { address, port }, signal) => {
  const id = randomInt(MAX_ID + 1);
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      onAbort(signal, reject);
      socket.on('error', (cause) => reject(unreachable(address, cause)));
      socket.on('message', (bytes) => {
        if (isReplyTo(query, id, bytes)) resolve(withId(bytes, query.id));
      });
      socket.once('connect', () => socket.send(withId(query.bytes, id)));
      socket.connect(port, address);
    });
  } finally {
    socket.close();
  }
};

export const exchangeOverTcp: Exchange = async (query, { address, port }, signal) => {
  const id = randomInt(MAX_ID + 1);
  const socket = connect({ host: address, port });
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const reader = new StreamReader();
      onAbort(signal, reject);
      socket.on('error', (cause) => reject(unreachable(address, cause)));
      socket.on('end', () => reject(unreachable(address, new Error('the connection was closed without a reply'))));
      socket.on('data', (chunk: Buffer) => {
        for (const bytes of reader.push(chunk)) {
          if (isReplyTo(query, id, bytes)) resolve(withId(bytes, query.id));
          else reject(unreachable(address, new Error('the reply is to another question')));
        }
      });
      socket.write(streamed(withId(query.bytes, id)));
    });
  } finally {
    socket.destroy();
  }
};

function onAbort(signal: AbortSignal, reject: (reason: Error) => void): void {
  if (signal.aborted) reject(signal.reason as Error);
  else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
}

function unreachable(address: string, cause: unknown): CiliumError {
  return new CiliumError('System', `ask the DNS server ${address}`, { server: address }, cause);
}
