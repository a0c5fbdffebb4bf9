// SPDX-License-Identifier: Apache-2.0

/**
 * Reads the event ring (BPF_MAP_TYPE_RINGBUF) in place.
 *
 * The programs never wake a reader up (a wake-up costs more than a record), so the reader looks by itself. While somebody
 * watches: often as long as there is something, ever more seldom when there is not. In the background: a few times a
 * second. At once again after a look that found much. A look at an empty ring costs a microsecond. What the ring cannot
 * hold is counted in cilium_metrics, not here.
 *
 * Ring layout: kernel/bpf/ringbuf.c. A page with the consumer's position (ours to write), a page with the producer's, then
 * the data, mapped twice in a row so that every record is in one piece. A record: u32 length with two flag bits, u32
 * page offset, the bytes, padding to 8.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';
import { Mapping } from '../ffi/libc.ts';

const PAGE_BYTES = 4096;
const RECORD_HEADER_BYTES = 8;
const BUSY_BIT = 0x80000000;
const DISCARD_BIT = 0x40000000;
const LENGTH_MASK = 0x3fffffff;

/** Most records handed over in one call, so that the event loop turns in between. */
const MAX_BATCH_RECORDS = 2048;

/** How long until the next look: after one that found something, growing by half to the last after those that did not. */
const PACES = { watched: { busyMs: 5, idleMs: 100 }, background: { busyMs: 200, idleMs: 200 } } as const;
export type Pace = keyof typeof PACES;

/**
 * Takes records in the order of the ring. They are views of the kernel's memory: valid during the call, to be copied if
 * kept, never to be written to. Must not throw.
 */
export type BatchListener = (records: readonly Uint8Array[]) => void;

interface Ring {
  readonly mappings: readonly Mapping[];
  readonly consumer: BigUint64Array;
  readonly producer: BigUint64Array;
  readonly data: Uint8Array;
  readonly words: Uint32Array;
  readonly mask: number;
}

export class EventReader {
  readonly #map: BpfMap;
  #ring: Ring | undefined;
  #listener: BatchListener | undefined;
  #cancel: () => void = () => undefined;
  #pace: Pace = 'watched';
  #interval: number = PACES.watched.busyMs;

  constructor(map: BpfMap) {
    this.#map = map;
  }

  get running(): boolean {
    return this.#ring !== undefined;
  }

  /**
   * Begins to deliver: what is written from now on, or first what is in the ring (while nobody reads, a full ring keeps the
   * oldest records and refuses new ones). Throws when it is running.
   */
  start(listener: BatchListener, from: 'now' | 'oldest' = 'now'): void {
    if (this.#ring !== undefined) throw new CiliumError('Internal', 'the event reader is running');
    const ring = mapRing(this.#map);
    if (from === 'now') Atomics.store(ring.consumer, 0, Atomics.load(ring.producer, 0));
    this.#ring = ring;
    this.#listener = listener;
    this.#interval = PACES[this.#pace].busyMs;
    this.#schedule(0);
  }

  /** How often it looks from now on, running or not. */
  setPace(pace: Pace): void {
    this.#pace = pace;
    this.#interval = PACES[pace].busyMs;
    if (this.#ring === undefined) return;
    this.#cancel();
    this.#schedule(this.#interval);
  }

  /** Ends delivery; records that come from now on stay in the ring. May be called twice. */
  stop(): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    this.#ring = undefined;
    this.#listener = undefined;
    this.#cancel();
    for (const mapping of ring.mappings) mapping.close();
  }

  /** Delivers what is in the ring now, without waiting for the timer; returns how many records. */
  drain(): number {
    let total = 0;
    for (let count = MAX_BATCH_RECORDS; count === MAX_BATCH_RECORDS; total += count) count = this.#deliver();
    return total;
  }

  #look(): void {
    const { busyMs, idleMs } = PACES[this.#pace];
    const count = this.#deliver();
    if (count === MAX_BATCH_RECORDS) this.#interval = 0;
    else if (count > 0) this.#interval = busyMs;
    else this.#interval = Math.min(idleMs, Math.max(busyMs, this.#interval * 1.5));
    if (this.#ring !== undefined) this.#schedule(this.#interval);
  }

  #schedule(delayMs: number): void {
    if (delayMs === 0) {
      const turn = setImmediate(() => this.#look());
      this.#cancel = () => clearImmediate(turn);
    } else {
      const timer = setTimeout(() => this.#look(), delayMs).unref();
      this.#cancel = () => clearTimeout(timer);
    }
  }

  /** Hands over one batch and frees its room in the ring. */
  #deliver(): number {
    const ring = this.#ring;
    const listener = this.#listener;
    if (ring === undefined || listener === undefined) return 0;
    const { consumer, producer, data, words, mask } = ring;
    const start = Atomics.load(consumer, 0);
    const available = Number(Atomics.load(producer, 0) - start);
    const records: Uint8Array[] = [];
    const base = Number(start & BigInt(mask));
    let used = 0;
    while (used < available && records.length < MAX_BATCH_RECORDS) {
      const at = (base + used) & mask;
      const header = Atomics.load(words, at >>> 2);
      if ((header & BUSY_BIT) !== 0) break; // reserved, not submitted yet: it and what follows come next time
      const length = header & LENGTH_MASK;
      const from = at + RECORD_HEADER_BYTES;
      if ((header & DISCARD_BIT) === 0) records.push(data.subarray(from, from + length));
      used += (RECORD_HEADER_BYTES + length + 7) & ~7;
    }
    if (used === 0) return 0;
    try {
      if (records.length > 0) listener(records);
    } finally {
      if (this.#ring === ring) Atomics.store(consumer, 0, start + BigInt(used));
    }
    return records.length;
  }
}

function mapRing(map: BpfMap): Ring {
  const bytes = map.info.maxEntries;
  const position = new Mapping(`${map.name} position`, map.fd, 0, PAGE_BYTES, true);
  try {
    const contents = new Mapping(`${map.name} data`, map.fd, PAGE_BYTES, PAGE_BYTES + 2 * bytes, false);
    const memory = contents.view();
    return {
      mappings: [position, contents],
      consumer: new BigUint64Array(position.view(), 0, 1),
      producer: new BigUint64Array(memory, 0, 1),
      data: new Uint8Array(memory, PAGE_BYTES, 2 * bytes),
      words: new Uint32Array(memory, PAGE_BYTES, bytes / 2),
      mask: bytes - 1,
    };
  } catch (error) {
    position.close();
    throw error;
  }
}
