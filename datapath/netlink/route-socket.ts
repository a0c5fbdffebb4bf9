// SPDX-License-Identifier: Apache-2.0

/**
 * A NETLINK_ROUTE socket. The kernel serves a request inside send(), so an answer can be read at once: synchronous calls
 * take 20-100 µs. What waits for a grace period (deleting a link) is sent from a worker thread instead.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { SyscallError } from '../ffi/errno.ts';
import { MSG_DONTWAIT, ReadWatch, Socket } from '../ffi/libc.ts';
import {
  type Message,
  type MessageWriter,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAcknowledgement,
  readMessages,
} from './message.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const SOL_SOCKET = 1;
/** SO_RCVBUF beyond net.core.rmem_max, for root. */
const SO_RCVBUFFORCE = 33;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const ADDRESS_BYTES = 12;

/** The kernel makes dumps in pieces of at most 32 KiB. */
const RECEIVE_BYTES = 64 * 1024;
/** Room for the changes that pile up while the event loop is busy. */
const SUBSCRIPTION_BYTES = 1024 * 1024;

function openSocket(name: string, groups: number): Socket {
  const socket = new Socket(name, AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE);
  try {
    const address = Buffer.alloc(ADDRESS_BYTES);
    address.writeUInt16LE(AF_NETLINK);
    address.writeUInt32LE(groups, 8);
    socket.bind(address);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** How often a list is asked for when it changes each time; the last answer then has to do. */
const MAX_ATTEMPTS = 5;

export class RouteSocket {
  readonly #socket: Socket;
  readonly #buffer = Buffer.alloc(RECEIVE_BYTES);
  #sequence = 0;

  constructor() {
    this.#socket = openSocket('rtnetlink', 0);
    this.#socket.setOption(SOL_NETLINK, NETLINK_EXT_ACK, 1);
    this.#socket.setOption(SOL_NETLINK, NETLINK_CAP_ACK, 1);
    this.#socket.setOption(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  }

  /**
   * Sends and returns the answer's messages, copied; throws a SyscallError with the kernel's explanation. A list that
   * changed while the kernel made it is asked for again.
   */
  request(operation: string, writer: MessageWriter): Message[] {
    for (let attempt = 1; ; attempt++) {
      const sequence = ++this.#sequence;
      this.#socket.send(writer.finish(sequence));
      const answer = this.#receive(operation, sequence);
      if (attempt === MAX_ATTEMPTS || !answer.some(({ flags }) => (flags & NLM_F_DUMP_INTR) !== 0)) return answer;
    }
  }

  /** `request` from a worker thread. One at a time, and no `request` meanwhile: the owner sees to that. */
  async requestAsync(operation: string, writer: MessageWriter): Promise<Message[]> {
    const sequence = ++this.#sequence;
    await this.#socket.sendAsync(writer.finish(sequence));
    return this.#receive(operation, sequence);
  }

  close(): void {
    this.#socket.close();
  }

  #receive(operation: string, sequence: number): Message[] {
    const answer: Message[] = [];
    for (;;) {
      const length = this.#socket.receive(this.#buffer, MSG_DONTWAIT);
      if (length === undefined) throw new CiliumError('Internal', `${operation}: no answer from the kernel`);
      for (const message of readMessages(this.#buffer.subarray(0, length))) {
        if (message.sequence !== sequence) continue; // rest of a request that had failed half-way
        if (message.type === NLMSG_DONE) return answer;
        if (message.type === NLMSG_ERROR) {
          const { errno, text } = readAcknowledgement(message);
          if (errno === 0) return answer;
          const what = text === '' ? operation : `${operation} (${text})`;
          throw new SyscallError(what, errno);
        }
        answer.push({ ...message, payload: Buffer.from(message.payload) });
      }
    }
  }
}

/** Calls `onChange` on the event loop after something of `groups` changed; many changes make one call. */
export class RouteSubscription {
  readonly #socket: Socket;
  readonly #watch: ReadWatch;
  readonly #buffer = Buffer.alloc(RECEIVE_BYTES);

  constructor(groups: number, onChange: () => void) {
    this.#socket = openSocket('rtnetlink events', groups);
    this.#socket.setOption(SOL_SOCKET, SO_RCVBUFFORCE, SUBSCRIPTION_BYTES);
    this.#watch = new ReadWatch('rtnetlink events', this.#socket.fd, () => {
      this.#drain();
      onChange();
    });
    this.#watch.unref();
  }

  close(): void {
    this.#watch.close();
    this.#socket.close();
  }

  /** What changed does not matter here: listeners read the present state. Lost messages (ENOBUFS) are a change too. */
  #drain(): void {
    try {
      while (this.#socket.receive(this.#buffer, MSG_DONTWAIT) !== undefined);
    } catch (error) {
      if (!(error instanceof SyscallError && error.errno === 'ENOBUFS')) throw error;
    }
  }
}
