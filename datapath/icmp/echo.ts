// SPDX-License-Identifier: Apache-2.0

/**
 * Asks addresses for an ICMP echo, from the event loop and without ever waiting in it: raw sockets that take echo replies
 * only. Replies to other programs are seen, too, and let go.
 */
import { randomBytes } from 'node:crypto';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { IpAddress, IpFamily } from '../../net/ip.ts';
import type { Clock } from '../../runtime/clock.ts';
import { isErrno } from '../ffi/errno.ts';
import { MSG_DONTWAIT, ReadWatch, Socket } from '../ffi/libc.ts';
import { decodeEchoReply, encodeEchoRequest, REPLY_TYPE, TOKEN_BYTES } from './echo-message.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2000000 | 0o4000;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
/** Bits of types that are not let through. */
const ICMP_FILTER = 1;
const ICMP6_FILTER = 1;
const ICMP6_FILTER_BYTES = 32;

const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;

/** Replies are short; of longer packets the rest is not needed. */
const RECEIVE_BYTES = 2_048;
/** How many packets one turn of the event loop takes; the rest is for the next. */
const MAX_PACKETS_A_TURN = 64;
/** A lost packet is no lost node: the question is put again. */
const REPEAT_MS = 1_000;

interface FamilySocket {
  readonly socket: Socket;
  readonly watch: ReadWatch;
}

export class IcmpEcho {
  readonly #clock: Clock;
  readonly #sockets = new Map<IpFamily, FamilySocket>();
  readonly #buffer = Buffer.alloc(RECEIVE_BYTES);
  /** By token: what takes the reply. */
  readonly #waiting = new Map<string, () => void>();
  #sequence = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Opens the sockets of the families that the kernel has. Throws a SyscallError, such as EPERM without CAP_NET_RAW. */
  open(): void {
    for (const family of [4, 6] as const) {
      try {
        this.#sockets.set(family, this.#openSocket(family));
      } catch (error) {
        if (isErrno(error, 'EAFNOSUPPORT')) continue;
        this.close();
        throw error;
      }
    }
  }

  /** Questions that are out get no answer any more. */
  close(): void {
    for (const { socket, watch } of this.#sockets.values()) {
      watch.close();
      socket.close();
    }
    this.#sockets.clear();
  }

  /**
   * Milliseconds from the question to its answer. Throws `Timeout` when there is none, a SyscallError such as
   * ENETUNREACH when it cannot be sent, the reason of `signal` when that aborts.
   */
  async ask(address: IpAddress, timeoutMs: number, signal?: AbortSignal): Promise<number> {
    const token = randomBytes(TOKEN_BYTES);
    const key = token.toString('hex');
    const answered = Promise.withResolvers<undefined>();
    const given = new AbortController();
    const stop = signal === undefined ? given.signal : AbortSignal.any([signal, given.signal]);
    let asked = this.#clock.monotonic();
    let replied: number | undefined;
    this.#waiting.set(key, () => {
      replied ??= this.#clock.monotonic() - asked;
      answered.resolve(undefined);
    });
    try {
      for (let left = timeoutMs; left > 0 && replied === undefined; left -= REPEAT_MS) {
        signal?.throwIfAborted();
        asked = this.#clock.monotonic();
        this.#send(address, token);
        const pause = this.#clock.sleep(Math.min(REPEAT_MS, left), stop).catch(() => undefined);
        await Promise.race([answered.promise, pause]);
      }
      signal?.throwIfAborted();
    } finally {
      this.#waiting.delete(key);
      given.abort();
    }
    if (replied !== undefined) return replied;
    throw new CiliumError('Timeout', `no ICMP echo from ${address.toString()} within ${timeoutMs} ms`);
  }

  #send(address: IpAddress, token: Uint8Array): void {
    const open = this.#sockets.get(address.family);
    if (open === undefined) throw new CiliumError('Precondition', `there is no ICMP socket for IPv${address.family}`);
    open.socket.sendTo(encodeEchoRequest(address.family, this.#sequence++, token), socketAddress(address));
  }

  #openSocket(family: IpFamily): FamilySocket {
    const [domain, protocol] = family === 4 ? [AF_INET, IPPROTO_ICMP] : [AF_INET6, IPPROTO_ICMPV6];
    const socket = new Socket(`ICMP of IPv${family}`, domain, SOCK_RAW_CLOEXEC_NONBLOCK, protocol);
    try {
      if (family === 4) socket.setOption(SOL_RAW, ICMP_FILTER, ~(1 << REPLY_TYPE[4]));
      else socket.setOptionBytes(IPPROTO_ICMPV6, ICMP6_FILTER, onlyReplies());
      const watch = new ReadWatch(socket.name, socket.fd, () => this.#receive(family, socket));
      watch.unref();
      return { socket, watch };
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  #receive(family: IpFamily, socket: Socket): void {
    for (let i = 0; i < MAX_PACKETS_A_TURN; i++) {
      const length = socket.receiveSome(this.#buffer, MSG_DONTWAIT);
      if (length === undefined) return;
      const token = decodeEchoReply(family, this.#buffer.subarray(0, length));
      if (token !== undefined) this.#waiting.get(token.toString('hex'))?.();
    }
  }
}

function onlyReplies(): Buffer {
  const blocked = Buffer.alloc(ICMP6_FILTER_BYTES, 0xff);
  const word = (REPLY_TYPE[6] >> 5) * 4;
  blocked.writeUInt32LE((blocked.readUInt32LE(word) & ~(1 << (REPLY_TYPE[6] & 31))) >>> 0, word);
  return blocked;
}

/** struct sockaddr_in or sockaddr_in6, without port. */
function socketAddress(address: IpAddress): Buffer {
  const isFour = address.family === 4;
  const buffer = Buffer.alloc(isFour ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  buffer.writeUInt16LE(isFour ? AF_INET : AF_INET6);
  buffer.set(address.bytes, isFour ? 4 : 8);
  return buffer;
}
