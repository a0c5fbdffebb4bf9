// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_metrics: packets and bytes, forwarded and dropped, counted by each CPU on its own.
 *
 * C twin: struct metrics_value in bpf-src/lib/abi.h; the index is reason * 4 + direction.
 */
import { layout } from '../btf/layout.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';

export const METRIC_INGRESS = 1;
export const METRIC_EGRESS = 2;
export const REASON_FORWARDED = 0;
/** The event ring was full: the record was not written, the packet went its way. */
export const REASON_EVENTS_LOST = 1;

const DIRECTIONS = 4;

export const METRICS_VALUE = layout('metrics_value', 16, { count: 0, bytes: 8 });

export interface MetricEntry {
  /** REASON_* below 128, else a drop reason. */
  readonly reason: number;
  /** METRIC_*, or 0 where direction means nothing. */
  readonly direction: number;
  readonly packets: number;
  readonly bytes: number;
}

/** Adds up the values of all CPUs. */
export function sumMetrics(value: Buffer): { packets: number; bytes: number } {
  let packets = 0;
  let bytes = 0;
  for (let at = 0; at + METRICS_VALUE.size <= value.length; at += METRICS_VALUE.size) {
    packets += Number(value.readBigUInt64LE(at + METRICS_VALUE.at.count));
    bytes += Number(value.readBigUInt64LE(at + METRICS_VALUE.at.bytes));
  }
  return { packets, bytes };
}

export class MetricsMap {
  readonly #map: BpfMap;
  readonly #key = Buffer.alloc(4);
  readonly #value: Buffer;

  constructor(map: BpfMap) {
    this.#map = map;
    this.#value = Buffer.alloc(map.valueBytes);
  }

  get(reason: number, direction: number): MetricEntry {
    this.#key.writeUInt32LE(reason * DIRECTIONS + direction);
    this.#map.lookup(this.#key, this.#value);
    return { reason, direction, ...sumMetrics(this.#value) };
  }

  /** How many event records were not written because the ring was full. */
  eventsLost(): number {
    let lost = 0;
    for (let direction = 0; direction < DIRECTIONS; direction++)
      lost += this.get(REASON_EVENTS_LOST, direction).packets;
    return lost;
  }

  /** Those that ever counted something. */
  entries(): MetricEntry[] {
    const entries: MetricEntry[] = [];
    for (const { key, value } of this.#map.entries()) {
      const sum = sumMetrics(value);
      const index = key.readUInt32LE();
      const [reason, direction] = [Math.floor(index / DIRECTIONS), index % DIRECTIONS];
      if (sum.packets > 0) entries.push({ reason, direction, ...sum });
    }
    return entries;
  }
}
