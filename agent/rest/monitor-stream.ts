// SPDX-License-Identifier: Apache-2.0

/**
 * One listener of GET /v1/monitor: frames its events and never holds more than a bound for a listener that is slow.
 *
 * Frames are gathered in a chunk that leaves once a turn of the event loop, so that a burst costs one write. What does not
 * fit is counted, and the count is sent as soon as there is room again.
 */
import type { Writable } from 'node:stream';
import { FRAME_HEADER_BYTES, FRAME_KINDS, writeFrameHeader, type FrameKind } from '../../api/monitor-frames.ts';
import type { AgentEvent, MonitorListener } from './services.ts';

/** Bytes that may wait for one listener; at the bound events are counted as lost. About 25,000 records. */
export const LISTENER_BOUND_BYTES = 4 * 1024 * 1024;

const CHUNK_BYTES = 32 * 1024;

export class MonitorStream implements MonitorListener {
  readonly #out: Writable;
  #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #used = 0;
  #lost = 0;
  #flushPending = false;

  constructor(out: Writable) {
    this.#out = out;
  }

  record(record: Uint8Array): void {
    this.#add(FRAME_KINDS.record, record);
  }

  agent(event: AgentEvent): void {
    this.#add(FRAME_KINDS.agent, Buffer.from(JSON.stringify(event)));
  }

  lost(count: number): void {
    this.#lost += count;
    this.#flushSoon();
  }

  #add(kind: FrameKind, payload: Uint8Array): void {
    if (this.#isFull()) {
      this.#lost += 1;
      this.#flushSoon();
      return;
    }
    if (this.#lost > 0) this.#addLost();
    this.#append(kind, payload);
  }

  #isFull(): boolean {
    return this.#out.writableLength + this.#used >= LISTENER_BOUND_BYTES;
  }

  #sendLost(): void {
    this.#flushPending = false;
    if (this.#lost > 0) this.#addLost();
    this.#flush();
  }

  #addLost(): void {
    const count = Buffer.alloc(8);
    count.writeBigUInt64LE(BigInt(this.#lost));
    this.#lost = 0;
    this.#append(FRAME_KINDS.lost, count);
  }

  #append(kind: FrameKind, payload: Uint8Array): void {
    const bytes = FRAME_HEADER_BYTES + payload.length;
    if (this.#used + bytes > this.#chunk.length) {
      this.#flush();
      this.#chunk = Buffer.allocUnsafe(Math.max(CHUNK_BYTES, bytes));
    }
    writeFrameHeader(this.#chunk, this.#used, payload.length, kind);
    this.#chunk.set(payload, this.#used + FRAME_HEADER_BYTES);
    this.#used += bytes;
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushPending) return;
    this.#flushPending = true;
    setImmediate(() => {
      this.#flush();
      if (this.#lost > 0 && this.#isFull()) {
        this.#out.once('drain', () => this.#sendLost());
      } else {
        this.#sendLost();
      }
    });
  }

  #flush(): void {
    if (this.#used === 0) return;
    if (!this.#out.destroyed) this.#out.write(this.#chunk.subarray(0, this.#used));
    this.#chunk = this.#chunk.subarray(this.#used);
    this.#used = 0;
  }
}
