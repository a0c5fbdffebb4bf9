// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_snat{4,6}: masquerade. Each translated connection has two entries: forward (what a container sent -> what the
 * wire sees as source) and reply (what comes back -> the container).
 *
 * C twin: struct snat{4,6}_key, snat{4,6}_entry in bpf-src/lib/abi.h.
 */
import type { IpAddress, IpFamily } from '../../net/ip.ts';
import { layout } from '../btf/layout.ts';
import { ADDRESS_BYTES, readAddress } from './address.ts';

export const SNAT_FORWARD = 0;
export const SNAT_REPLY = 1;

export const SNAT4_KEY = layout('snat4_key', 16, {
  src_addr: 0,
  dst_addr: 4,
  src_port: 8,
  dst_port: 10,
  protocol: 12,
  direction: 13,
});
export const SNAT6_KEY = layout('snat6_key', 40, {
  src_addr: 0,
  dst_addr: 16,
  src_port: 32,
  dst_port: 34,
  protocol: 36,
  direction: 37,
});
export const SNAT4_ENTRY = layout('snat4_entry', 12, { to_addr: 0, to_port: 4, created: 8 });
export const SNAT6_ENTRY = layout('snat6_entry', 24, { to_addr: 0, to_port: 16, created: 20 });

const SNAT_KEYS = { 4: SNAT4_KEY, 6: SNAT6_KEY } as const;
const SNAT_ENTRIES = { 4: SNAT4_ENTRY, 6: SNAT6_ENTRY } as const;

export interface SnatKey {
  /** SNAT_FORWARD or SNAT_REPLY. */
  readonly direction: number;
  readonly protocol: number;
  readonly source: IpAddress;
  readonly sourcePort: number;
  readonly destination: IpAddress;
  readonly destinationPort: number;
}

export interface SnatEntry extends SnatKey {
  /** Forward: the new source. Reply: the container. */
  readonly to: IpAddress;
  readonly toPort: number;
  /** Seconds of CLOCK_MONOTONIC. */
  readonly created: number;
}

export function encodeSnatKey(key: SnatKey): Buffer {
  const { size, at } = SNAT_KEYS[key.source.family];
  const buffer = Buffer.alloc(size);
  buffer.set(key.source.bytes, at.src_addr);
  buffer.set(key.destination.bytes, at.dst_addr);
  buffer.writeUInt16BE(key.sourcePort, at.src_port);
  buffer.writeUInt16BE(key.destinationPort, at.dst_port);
  buffer[at.protocol] = key.protocol;
  buffer[at.direction] = key.direction;
  return buffer;
}

export function encodeSnatEntry(entry: SnatEntry): Buffer {
  const { size, at } = SNAT_ENTRIES[entry.source.family];
  const buffer = Buffer.alloc(size);
  buffer.set(entry.to.bytes, at.to_addr);
  buffer.writeUInt16BE(entry.toPort, at.to_port);
  buffer.writeUInt32LE(entry.created, at.created);
  return buffer;
}

export function decodeSnat(family: IpFamily, key: Buffer, value: Buffer): SnatEntry {
  const { at } = SNAT_KEYS[family];
  const entry = SNAT_ENTRIES[family].at;
  return {
    direction: key[at.direction]!,
    protocol: key[at.protocol]!,
    source: readAddress(key, at.src_addr, family),
    sourcePort: key.readUInt16BE(at.src_port),
    destination: readAddress(key, at.dst_addr, family),
    destinationPort: key.readUInt16BE(at.dst_port),
    to: readAddress(value, entry.to_addr, family),
    toPort: value.readUInt16BE(entry.to_port),
    created: value.readUInt32LE(entry.created),
  };
}

/** The key of the entry that belongs to this one: the reply of a forward entry, the forward of a reply entry. */
export function oppositeSnatKey(entry: SnatEntry): SnatKey {
  const { protocol, source, sourcePort, destination, destinationPort, to, toPort } = entry;
  if (entry.direction === SNAT_FORWARD) {
    return {
      direction: SNAT_REPLY,
      protocol,
      source: destination,
      sourcePort: destinationPort,
      destination: to,
      destinationPort: toPort,
    };
  }
  return {
    direction: SNAT_FORWARD,
    protocol,
    source: to,
    sourcePort: toPort,
    destination: source,
    destinationPort: sourcePort,
  };
}

/** True when the container of the entry is `address` (of the map's family). */
export function snatBelongsTo(key: Buffer, value: Buffer, address: IpAddress): boolean {
  const length = ADDRESS_BYTES[address.family];
  const { at } = SNAT_KEYS[address.family];
  if (key[at.direction] === SNAT_FORWARD) {
    return key.compare(address.bytes, 0, length, at.src_addr, at.src_addr + length) === 0;
  }
  const { to_addr } = SNAT_ENTRIES[address.family].at;
  return value.compare(address.bytes, 0, length, to_addr, to_addr + length) === 0;
}
