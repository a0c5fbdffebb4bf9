// SPDX-License-Identifier: Apache-2.0

/** The few calls of libc that Node has no API for. Each converts, calls and turns -1 into a SyscallError. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import type * as Koffi from 'koffi';
import { SyscallError } from './errno.ts';
import { Handle } from './handle.ts';
import { callAsync, openLibrary } from './native.ts';

/** statfs magic of the BPF file system. */
const BPF_FS_MAGIC = 0xcafe4a11;
const STATFS_BYTES = 120;

export const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

const F_DUPFD_CLOEXEC = 1030;

const LOCK_EX = 2;
const LOCK_NB = 4;

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

const { declare } = openLibrary('libc.so.6', 'this program needs glibc');

const cClose = declare<[number], number>('int close(int fd)');
const cFcntl = declare<[number, number, number], number>('int fcntl(int fd, int command, int argument)');
const cFlock = declare<[number, number], number>('int flock(int fd, int operation)');
const cStatfs = declare<[string, Uint8Array], number>('int statfs(const char *path, _Out_ void *buf)');
const cSocket = declare<[number, number, number], number>('int socket(int domain, int type, int protocol)');
const cBind = declare<[number, Uint8Array, number], number>('int bind(int fd, const void *addr, uint32_t len)');
const cSetsockopt = declare<[number, number, number, Uint8Array, number], number>(
  'int setsockopt(int fd, int level, int name, const void *value, uint32_t len)',
);
const cSend = declare<[number, Uint8Array, number, number], number>(
  'int64_t send(int fd, const void *buf, size_t len, int flags)',
);
const cSendto = declare<[number, Uint8Array, number, number, Uint8Array, number], number>(
  'int64_t sendto(int fd, const void *buf, size_t len, int flags, const void *addr, uint32_t addrlen)',
);
const cRecv = declare<[number, Uint8Array, number, number], number>(
  'int64_t recv(int fd, _Out_ void *buf, size_t len, int flags)',
);
const cMmap = declare<[null, number, number, number, number, number], bigint>(
  'void *mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t offset)',
);
const cMunmap = declare<[bigint, number], number>('int munmap(void *addr, size_t len)');

function check(result: number, operation: string, details?: Record<string, unknown>): number {
  if (result < 0) throw new SyscallError(operation, koffi.errno(), details);
  return result;
}

export function closeFd(fd: number): void {
  check(cClose(fd), 'close', { fd });
}

/** Another descriptor of the same open file, closed on exec. */
export function duplicateFd(fd: number): number {
  return check(cFcntl(fd, F_DUPFD_CLOEXEC, 0), 'duplicate descriptor', { fd });
}

/** True when `path` lies on a BPF file system; throws ENOENT when it does not exist. */
export function isBpfFs(path: string): boolean {
  const buffer = Buffer.alloc(STATFS_BYTES);
  check(cStatfs(path, buffer), `statfs ${path}`, { path });
  return buffer.readBigUInt64LE(0) === BigInt(BPF_FS_MAGIC);
}

/** A folder that no other process can lock until this one closes it or ends, however that happens. */
export class FolderLock extends Handle {
  readonly #fd: number;

  /** Throws SyscallError, with EWOULDBLOCK (EAGAIN) when somebody else has the lock. */
  constructor(path: string) {
    const fd = openSync(path, 'r');
    if (cFlock(fd, LOCK_EX | LOCK_NB) < 0) {
      const errno = koffi.errno();
      closeSync(fd);
      throw new SyscallError(`lock ${path}`, errno, { path });
    }
    super('folder lock', path);
    this.#fd = fd;
  }

  protected release(): void {
    closeSync(this.#fd);
  }
}

/** A socket that only C can serve, such as netlink's. */
export class Socket extends Handle {
  readonly #fd: number;

  constructor(name: string, domain: number, type: number, protocol: number) {
    const fd = check(cSocket(domain, type, protocol), `socket ${name}`);
    super('socket', name);
    this.#fd = fd;
  }

  get fd(): number {
    this.assertOpen();
    return this.#fd;
  }

  bind(address: Uint8Array): void {
    check(cBind(this.fd, address, address.length), `bind ${this.name}`);
  }

  setOption(level: number, option: number, value: number): void {
    const buffer = Buffer.alloc(4);
    buffer.writeInt32LE(value);
    this.setOptionBytes(level, option, buffer);
  }

  setOptionBytes(level: number, option: number, value: Uint8Array): void {
    check(cSetsockopt(this.fd, level, option, value, value.length), `setsockopt ${this.name}`, { level, option });
  }

  send(data: Uint8Array): void {
    check(cSend(this.fd, data, data.length, 0), `send ${this.name}`);
  }

  /** Sends to a socket address without waiting: EAGAIN when there is no room. */
  sendTo(data: Uint8Array, address: Uint8Array): void {
    check(cSendto(this.fd, data, data.length, MSG_DONTWAIT, address, address.length), `send ${this.name}`);
  }

  /** Sends on a worker thread; `data` must not be touched until then. */
  async sendAsync(data: Uint8Array): Promise<void> {
    const sent = await callAsync(cSend, this.fd, data, data.length, 0);
    if (sent < 0) throw new SyscallError(`send ${this.name}`, 'EIO');
  }

  /** The bytes received into `buffer`; undefined when there are none and MSG_DONTWAIT was given. */
  receive(buffer: Uint8Array, flags = 0): number | undefined {
    const length = cRecv(this.fd, buffer, buffer.length, flags | MSG_TRUNC);
    if (length >= 0) {
      if (length > buffer.length) throw new SyscallError(`receive ${this.name}`, 'EMSGSIZE', { length });
      return length;
    }
    const errno = koffi.errno();
    if ((flags & MSG_DONTWAIT) !== 0 && errno === koffi.os.errno['EAGAIN']) return undefined;
    throw new SyscallError(`receive ${this.name}`, errno);
  }

  /** As `receive`, but what does not fit into the buffer is lost without a word: for packets of which the head will do. */
  receiveSome(buffer: Uint8Array, flags = 0): number | undefined {
    const length = cRecv(this.fd, buffer, buffer.length, flags);
    if (length >= 0) return length;
    const errno = koffi.errno();
    if (errno === koffi.os.errno['EAGAIN']) return undefined;
    throw new SyscallError(`receive ${this.name}`, errno);
  }

  protected release(): void {
    closeFd(this.#fd);
  }
}

/** Shared memory of a file descriptor. After `close` the views of it must not be used: reading them would crash. */
export class Mapping extends Handle {
  readonly #address: bigint;
  readonly #length: number;

  constructor(name: string, fd: number, offset: number, length: number, writable: boolean) {
    const address = cMmap(null, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
    if (BigInt.asIntN(64, address) === -1n) throw new SyscallError(`mmap ${name}`, koffi.errno(), { offset, length });
    super('mapping', name);
    this.#address = address;
    this.#length = length;
  }

  /** The memory itself, not a copy. */
  view(): ArrayBuffer {
    this.assertOpen();
    return koffi.view(this.#address, this.#length);
  }

  protected release(): void {
    check(cMunmap(this.#address, this.#length), `munmap ${this.name}`);
  }
}

/** Calls `onReadable` on the event loop whenever `fd` has something to read. */
export class ReadWatch extends Handle {
  readonly #poll: Koffi.node.PollHandle;

  constructor(name: string, fd: number, onReadable: () => void) {
    super('watch', name);
    this.#poll = koffi.node.poll(fd, { readable: true }, onReadable);
  }

  /** Lets the process end although the watch is open. */
  unref(): void {
    this.#poll.unref();
  }

  protected release(): void {
    this.#poll.close();
  }
}
