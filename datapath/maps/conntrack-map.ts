// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_ct{4,6}_{tcp,any}: one entry per connection, its two ends stored in order so that both directions find it.
 *
 * C twin: struct ct4_key, ct6_key, ct_entry in bpf-src/lib/abi.h.
 */
import type { IpAddress, IpFamily } from '../../net/ip.ts';
import { layout } from '../btf/layout.ts';
import { ADDRESS_BYTES, readAddress } from './address.ts';

export const CT_F_LOWER_STARTED = 1;
export const CT_F_INITIATOR_CLOSED = 2;
export const CT_F_RESPONDER_CLOSED = 4;
export const CT_F_SEEN_NON_SYN = 8;
export const CT_F_INITIATOR_LOCAL = 16;
export const CT_F_RESPONDER_LOCAL = 32;

export const CT4_KEY = layout('ct4_key', 16, {
  lower_addr: 0,
  upper_addr: 4,
  lower_port: 8,
  upper_port: 10,
  protocol: 12,
});
export const CT6_KEY = layout('ct6_key', 40, {
  lower_addr: 0,
  upper_addr: 16,
  lower_port: 32,
  upper_port: 34,
  protocol: 36,
});
export const CT_ENTRY = layout('ct_entry', 24, {
  expires: 0,
  flags: 4,
  proxy_port: 6,
  initiator_identity: 8,
  initiator_report: 12,
  responder_report: 16,
  initiator_tcp_flags: 20,
  responder_tcp_flags: 21,
});

const CT_KEYS = { 4: CT4_KEY, 6: CT6_KEY } as const;

export interface Connection {
  readonly protocol: number;
  /** Who sent the first packet. ICMP echo: the identifier is its port, the other's is 0. */
  readonly initiator: IpAddress;
  readonly initiatorPort: number;
  readonly responder: IpAddress;
  readonly responderPort: number;
}

export interface ConntrackEntry extends Connection {
  /** Seconds of CLOCK_MONOTONIC after which it does not count any more. */
  readonly expires: number;
  /** CT_F_*. */
  readonly flags: number;
  readonly proxyPort: number;
  readonly initiatorIdentity: number;
  readonly initiatorReport: number;
  readonly responderReport: number;
  readonly initiatorTcpFlags: number;
  readonly responderTcpFlags: number;
}

/** True when the initiator is the end that is stored first. */
export function initiatorIsLower(connection: Connection): boolean {
  const order = connection.initiator.compare(connection.responder);
  return order < 0 || (order === 0 && connection.initiatorPort <= connection.responderPort);
}

export function encodeConntrackKey(connection: Connection): Buffer {
  const { size, at } = CT_KEYS[connection.initiator.family];
  const key = Buffer.alloc(size);
  const { initiator, initiatorPort, responder, responderPort } = connection;
  const isLower = initiatorIsLower(connection);
  key.set((isLower ? initiator : responder).bytes, at.lower_addr);
  key.set((isLower ? responder : initiator).bytes, at.upper_addr);
  key.writeUInt16BE(isLower ? initiatorPort : responderPort, at.lower_port);
  key.writeUInt16BE(isLower ? responderPort : initiatorPort, at.upper_port);
  key[at.protocol] = connection.protocol;
  return key;
}

export function encodeConntrackEntry(entry: ConntrackEntry): Buffer {
  const { at, size } = CT_ENTRY;
  const value = Buffer.alloc(size);
  value.writeUInt32LE(entry.expires, at.expires);
  value.writeUInt16LE(entry.flags, at.flags);
  value.writeUInt16BE(entry.proxyPort, at.proxy_port);
  value.writeUInt32LE(entry.initiatorIdentity, at.initiator_identity);
  value.writeUInt32LE(entry.initiatorReport, at.initiator_report);
  value.writeUInt32LE(entry.responderReport, at.responder_report);
  value[at.initiator_tcp_flags] = entry.initiatorTcpFlags;
  value[at.responder_tcp_flags] = entry.responderTcpFlags;
  return value;
}

export function decodeConntrack(family: IpFamily, key: Buffer, value: Buffer): ConntrackEntry {
  const { at } = CT_KEYS[family];
  const entry = CT_ENTRY.at;
  const flags = value.readUInt16LE(entry.flags);
  const lower = readAddress(key, at.lower_addr, family);
  const upper = readAddress(key, at.upper_addr, family);
  const [lowerPort, upperPort] = [key.readUInt16BE(at.lower_port), key.readUInt16BE(at.upper_port)];
  const lowerStarted = (flags & CT_F_LOWER_STARTED) !== 0;
  return {
    protocol: key[at.protocol]!,
    initiator: lowerStarted ? lower : upper,
    initiatorPort: lowerStarted ? lowerPort : upperPort,
    responder: lowerStarted ? upper : lower,
    responderPort: lowerStarted ? upperPort : lowerPort,
    expires: value.readUInt32LE(entry.expires),
    flags,
    proxyPort: value.readUInt16BE(entry.proxy_port),
    initiatorIdentity: value.readUInt32LE(entry.initiator_identity),
    initiatorReport: value.readUInt32LE(entry.initiator_report),
    responderReport: value.readUInt32LE(entry.responder_report),
    initiatorTcpFlags: value[entry.initiator_tcp_flags]!,
    responderTcpFlags: value[entry.responder_tcp_flags]!,
  };
}

/** When the entry of these bytes stops to count, without decoding the rest. */
export function conntrackExpiry(value: Buffer): number {
  return value.readUInt32LE(CT_ENTRY.at.expires);
}

/** True when one of the key's two ends is `address` (of the key's family). */
export function conntrackKeyHas(key: Buffer, address: IpAddress): boolean {
  const { at } = CT_KEYS[address.family];
  const length = ADDRESS_BYTES[address.family];
  return (
    key.compare(address.bytes, 0, length, at.lower_addr, at.lower_addr + length) === 0 ||
    key.compare(address.bytes, 0, length, at.upper_addr, at.upper_addr + length) === 0
  );
}
