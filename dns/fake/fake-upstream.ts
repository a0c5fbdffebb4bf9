// SPDX-License-Identifier: Apache-2.0

/** A DNS server on loopback, UDP and TCP on one port, that says what the test wants; and a client. */
import { decode, encode, type Packet } from 'dns-packet';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, isIPv6, type AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { StreamReader, streamed } from '../stream.ts';
import type { Upstream } from '../upstream.ts';

export interface Asked {
  readonly packet: Packet;
  readonly bytes: Buffer;
  readonly transport: 'udp' | 'tcp';
  /** Source port of the question. */
  readonly port: number;
}

/** What to send back: messages, one after the other. */
export type Handler = (asked: Asked) => readonly Buffer[] | Promise<readonly Buffer[]>;

export interface FakeUpstream extends Upstream {
  readonly asked: Asked[];
}

/** `wanted`: the port; 0 is any that is free. */
export async function fakeUpstream(t: TestContext, handler: Handler, wanted = 0): Promise<FakeUpstream> {
  const asked: Asked[] = [];
  const handle = async (bytes: Buffer, transport: 'udp' | 'tcp', port: number): Promise<readonly Buffer[]> => {
    const question: Asked = { packet: decode(bytes), bytes, transport, port };
    asked.push(question);
    return await handler(question);
  };
  const tcp = createServer((socket) => {
    const reader = new StreamReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      for (const message of reader.push(chunk)) {
        void handle(message, 'tcp', socket.remotePort!).then((replies) => {
          for (const reply of replies) socket.write(streamed(reply));
        });
      }
    });
  });
  tcp.listen(wanted, '127.0.0.1');
  await once(tcp, 'listening');
  const { port } = tcp.address() as AddressInfo;
  const udp = createSocket('udp4');
  let isClosed = false;
  udp.on('message', (bytes, source) => {
    void handle(bytes, 'udp', source.port).then((replies) => {
      if (isClosed) return;
      for (const reply of replies) udp.send(reply, source.port, source.address, () => undefined);
    });
  });
  udp.bind(port, '127.0.0.1');
  await once(udp, 'listening');
  t.after(() => {
    isClosed = true;
    udp.close();
    tcp.close();
  });
  return { address: '127.0.0.1', port, asked };
}

/** A reply to the question with one address, or with another response code and nothing. */
export function reply({ packet }: Asked, data = '192.0.2.1', rcode = 0): Buffer {
  const [question] = packet.questions!;
  return encode({
    type: 'response',
    id: packet.id!,
    flags: 0x0180 | rcode,
    questions: packet.questions!,
    answers: rcode === 0 ? [{ type: 'A', name: question!.name, ttl: 60, data }] : [],
  });
}

/** Sends bytes and waits for what comes back. */
export async function askUdp(
  bytes: Buffer,
  port: number,
  address = '127.0.0.1',
  signal = new AbortController().signal,
): Promise<Buffer> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  try {
    socket.send(bytes, port, address);
    const [answer] = (await once(socket, 'message', { signal })) as [Buffer];
    return answer;
  } finally {
    socket.close();
  }
}

/** Sends messages on one connection and waits for as many; rejects when the server closes it before. */
export async function askTcp(messages: readonly Buffer[], port: number, address = '127.0.0.1'): Promise<Buffer[]> {
  const socket = connect(port, address);
  const reader = new StreamReader();
  const answers: Buffer[] = [];
  try {
    await once(socket, 'connect');
    socket.write(Buffer.concat(messages.map(streamed)));
    for await (const chunk of socket) {
      answers.push(...reader.push(chunk as Buffer));
      if (answers.length >= messages.length) return answers;
    }
    throw new Error(`closed after ${answers.length} replies`);
  } finally {
    socket.destroy();
  }
}
