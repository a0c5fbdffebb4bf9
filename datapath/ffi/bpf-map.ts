// SPDX-License-Identifier: Apache-2.0

/**
 * A BPF map by its file descriptor: keys and values are bytes, sized exactly as the map says.
 *
 * Cost here: update 0.6 µs, batch 0.3 µs an element. "No such key" and "no more room" are answers, not surprises:
 * look-up and delete return false, a full map throws `MapFull`.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import { SyscallError } from './errno.ts';
import { Handle } from './handle.ts';
import * as libbpf from './libbpf.ts';
import { closeFd } from './libc.ts';
import { callAsync } from './native.ts';

export const MAP_TYPE = {
  hash: 1,
  array: 2,
  progArray: 3,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  lpmTrie: 11,
  arrayOfMaps: 12,
  hashOfMaps: 13,
  ringbuf: 27,
} as const;

/** The types whose entries the kernel hands out many at a time and with values of one CPU. */
const BATCHED_TYPES: ReadonlySet<number> = new Set([MAP_TYPE.hash, MAP_TYPE.lruHash, MAP_TYPE.lpmTrie]);

export const BPF_F_NO_PREALLOC = 1;

const ENOENT = -2;
const ENOSPC = -28;
const E2BIG = -7;
const ENOMEM = -12;

/** Entries asked for in one BPF_MAP_LOOKUP_BATCH. */
const BATCH_ENTRIES = 1024;
/** Size of struct bpf_map_batch_opts, bpf_map_create_opts and bpf_map_info as used here. */
const BATCH_OPTS_BYTES = 24;
const CREATE_OPTS_BYTES = 48;
const INFO_BYTES = 128;

export interface MapInfo {
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  /** As declared; what user space sees of a per-CPU map is `BpfMap.valueBytes` long. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
}

export interface MapSpec {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export interface MapEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** `count` entries laid end to end, at the front of buffers that the next step overwrites. */
export interface MapBatch {
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly count: number;
}

const batchOptions = Buffer.alloc(BATCH_OPTS_BYTES);
batchOptions.writeUInt32LE(BATCH_OPTS_BYTES);

function readInfo(fd: number, operation: string): MapInfo {
  const info = Buffer.alloc(INFO_BYTES);
  libbpf.check(libbpf.objectInfo(fd, info, [INFO_BYTES]), operation);
  return {
    type: info.readUInt32LE(0),
    id: info.readUInt32LE(4),
    keySize: info.readUInt32LE(8),
    valueSize: info.readUInt32LE(12),
    maxEntries: info.readUInt32LE(16),
    flags: info.readUInt32LE(20),
    name: info.toString('latin1', 24, info.indexOf(0, 24)),
  };
}

function isPerCpu(type: number): boolean {
  return type === MAP_TYPE.percpuArray || type === MAP_TYPE.percpuHash;
}

export class BpfMap extends Handle {
  readonly info: MapInfo;
  /** Bytes of one value as user space reads and writes it. */
  readonly valueBytes: number;
  readonly #fd: number;

  /** Takes over `fd`. */
  constructor(name: string, fd: number) {
    super('map', name);
    this.#fd = fd;
    try {
      this.info = readInfo(fd, `read info of map ${name}`);
    } catch (error) {
      this.close();
      throw error;
    }
    const { type, valueSize } = this.info;
    this.valueBytes = isPerCpu(type) ? Math.ceil(valueSize / 8) * 8 * libbpf.possibleCpus() : valueSize;
  }

  /** @param inner for a map of maps: one like those that it will hold */
  static create(name: string, spec: MapSpec, inner?: BpfMap): BpfMap {
    const options = Buffer.alloc(CREATE_OPTS_BYTES);
    options.writeUInt32LE(CREATE_OPTS_BYTES);
    if (inner !== undefined) options.writeInt32LE(inner.fd, 24);
    options.writeUInt32LE(spec.flags, 28);
    const { type, keySize, valueSize, maxEntries } = spec;
    const fd = libbpf.mapCreate(type, name.slice(0, 15), keySize, valueSize, maxEntries, options);
    return new BpfMap(name, libbpf.check(fd, `create map ${name}`, { ...spec }));
  }

  /** The map pinned at `path`; undefined when nothing is. */
  static openPinned(name: string, path: string): BpfMap | undefined {
    const fd = libbpf.objectGet(path);
    if (fd === ENOENT) return undefined;
    return new BpfMap(name, libbpf.check(fd, `open pinned map ${path}`, { path }));
  }

  /** The map with this kernel id; undefined when it is gone. */
  static openId(name: string, id: number): BpfMap | undefined {
    const fd = libbpf.mapFdById(id);
    if (fd === ENOENT) return undefined;
    return new BpfMap(name, libbpf.check(fd, `open map ${id}`, { id }));
  }

  get fd(): number {
    this.assertOpen();
    return this.#fd;
  }

  update(key: Uint8Array, value: Uint8Array): void {
    this.#checkSizes(key, value, 1);
    this.#checkWrite(libbpf.mapUpdate(this.fd, key, value, 0), 'update');
  }

  /** Fills `value` and returns true, or returns false when there is no such key. */
  lookup(key: Uint8Array, value: Uint8Array): boolean {
    this.#checkSizes(key, value, 1);
    const result = libbpf.mapLookup(this.fd, key, value);
    if (result === ENOENT) return false;
    libbpf.check(result, `look up in ${this.name}`);
    return true;
  }

  /** False when there was no such key. */
  delete(key: Uint8Array): boolean {
    this.#checkSizes(key, undefined, 1);
    const result = libbpf.mapDelete(this.fd, key);
    if (result === ENOENT) return false;
    libbpf.check(result, `delete from ${this.name}`);
    return true;
  }

  /** Writes `count` entries laid end to end. When it throws, those before the offending one are written. */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void {
    this.#checkSizes(keys, values, count);
    if (count === 0) return;
    this.#checkWrite(libbpf.mapUpdateBatch(this.fd, keys, values, uint32(count), batchOptions), 'update', { count });
  }

  /** `updateBatch` on a worker thread: for maps whose writes wait for a grace period. */
  async updateBatchAsync(keys: Uint8Array, values: Uint8Array, count: number): Promise<void> {
    this.#checkSizes(keys, values, count);
    if (count === 0) return;
    const result = await callAsync(libbpf.mapUpdateBatch, this.fd, keys, values, uint32(count), batchOptions);
    this.#checkWrite(result, 'update', { count });
  }

  /** Deletes `count` keys laid end to end; those that are not there are passed over. */
  deleteBatch(keys: Uint8Array, count: number): void {
    this.#checkSizes(keys, undefined, count);
    const keySize = this.info.keySize;
    for (let done = 0; done < count;) {
      const progress = uint32(count - done);
      const result = libbpf.mapDeleteBatch(this.fd, keys.subarray(done * keySize), progress, batchOptions);
      if (result !== ENOENT) {
        libbpf.check(result, `delete from ${this.name}`, { count });
        return;
      }
      done += progress.readUInt32LE() + 1;
    }
  }

  /** `delete` on a worker thread: for maps whose writes wait for a grace period. */
  async deleteAsync(key: Uint8Array): Promise<void> {
    this.#checkSizes(key, undefined, 1);
    const result = await callAsync(libbpf.mapDelete, this.fd, key);
    if (result !== ENOENT) libbpf.check(result, `delete from ${this.name}`);
  }

  /**
   * The entries, as views that the next step overwrites. A map that changes meanwhile may show an entry twice or not at
   * all; the walk always ends. Look-ups go in batches of 1,024 where the kernel has them, else key by key.
   */
  *entries(): Generator<MapEntry, void> {
    const { keySize } = this.info;
    const { valueBytes } = this;
    for (const { keys, values, count } of this.batches()) {
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * keySize, (i + 1) * keySize);
        yield { key, value: values.subarray(i * valueBytes, (i + 1) * valueBytes) };
      }
    }
  }

  /** The entries in pieces: a place to pause the walk of a large map. */
  *batches(): Generator<MapBatch, void> {
    const { keySize, valueSize, type, maxEntries } = this.info;
    if (!BATCHED_TYPES.has(type)) {
      yield* this.#singles();
      return;
    }
    let size = Math.min(BATCH_ENTRIES, maxEntries);
    // Hash maps resume at a bucket's number, tries at a key.
    const position = Buffer.alloc(type === MAP_TYPE.lpmTrie ? keySize : 4);
    let keys = Buffer.alloc(size * keySize);
    let values = Buffer.alloc(size * valueSize);
    for (let first = true, result = 0; result === 0;) {
      const count = uint32(size);
      const resume = first ? null : position;
      result = libbpf.mapLookupBatch(this.fd, resume, position, keys, values, count, batchOptions);
      if (result === ENOSPC) {
        // One bucket of the hash holds more than the whole buffer.
        size *= 2;
        keys = Buffer.alloc(size * keySize);
        values = Buffer.alloc(size * valueSize);
        result = 0;
        continue;
      }
      if (result !== ENOENT) libbpf.check(result, `read ${this.name}`);
      yield { keys, values, count: count.readUInt32LE() };
      first = false;
    }
  }

  protected release(): void {
    closeFd(this.#fd);
  }

  *#singles(): Generator<MapBatch, void> {
    let keys = Buffer.alloc(this.info.keySize);
    let next = Buffer.alloc(this.info.keySize);
    const values = Buffer.alloc(this.valueBytes);
    let result = libbpf.mapNextKey(this.fd, null, keys);
    for (let seen = 0; result === 0 && seen <= this.info.maxEntries; seen++) {
      result = libbpf.mapNextKey(this.fd, keys, next);
      if (this.lookup(keys, values)) yield { keys, values, count: 1 };
      [keys, next] = [next, keys];
    }
    if (result !== ENOENT) libbpf.check(result, `read ${this.name}`);
  }

  #checkWrite(result: number, operation: string, details: Record<string, unknown> = {}): void {
    if (result >= 0) return;
    const facts = { map: this.name, maxEntries: this.info.maxEntries, ...details };
    const full = result === E2BIG || result === ENOSPC || result === ENOMEM;
    throw new SyscallError(`${operation} ${this.name}`, -result, facts, full ? 'MapFull' : undefined);
  }

  #checkSizes(keys: Uint8Array, values: Uint8Array | undefined, count: number): void {
    const { keySize } = this.info;
    const wrongValue = values !== undefined && values.length !== count * this.valueBytes;
    if (keys.length === count * keySize && !wrongValue) return;
    throw new CiliumError(
      'Internal',
      `map ${this.name} has keys of ${keySize} and values of ${this.valueBytes} bytes, not ${keys.length / count} and ${(values?.length ?? 0) / count}`,
    );
  }
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}
