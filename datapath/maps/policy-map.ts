// SPDX-License-Identifier: Apache-2.0

/**
 * One slot of cilium_policy: a longest-prefix trie of what a peer may do with the endpoints that use the slot.
 *
 * C twin: struct policy_key, struct policy_entry in bpf-src/lib/abi.h.
 */
import { layout } from '../btf/layout.ts';
import { BPF_F_NO_PREALLOC, BpfMap, MAP_TYPE } from '../ffi/bpf-map.ts';

/** Bits of identity and direction, which every entry compares. */
export const POLICY_STATIC_PREFIX = 40;
export const POLICY_FULL_PREFIX = 64;
export const POLICY_F_DENY = 1;

export const POLICY_KEY = layout('policy_key', 12, { prefixlen: 0, identity: 4, egress: 8, protocol: 9, dport: 10 });
export const POLICY_ENTRY = layout('policy_entry', 12, {
  proxy_port: 0,
  flags: 2,
  match_bits: 3,
  precedence: 4,
  cookie: 8,
});

export interface PolicyKey {
  /** Of the peer; 0: any. */
  readonly identity: number;
  readonly egress: boolean;
  /** IPPROTO_*; 0: any. */
  readonly protocol: number;
  /** Of the receiver; the message's type for ICMP; 0: any. */
  readonly port: number;
  /** How much of protocol and port counts: 0 nothing, 8 the protocol, 8 + k also the k high bits of the port, 24 all. */
  readonly bits: number;
}

export interface PolicyValue {
  readonly deny: boolean;
  /** 0: no redirect. */
  readonly proxyPort: number;
  /** The higher wins between the entry of the peer and the entry of any peer. */
  readonly precedence: number;
  /** Which rules it came from; 0: none known. */
  readonly cookie: number;
}

export type PolicyEntry = PolicyKey & PolicyValue;

/** Writes the key at `offset`. */
export function encodePolicyKey(entry: PolicyKey, target: Buffer, offset: number): void {
  const { at } = POLICY_KEY;
  target.writeUInt32LE(POLICY_STATIC_PREFIX + entry.bits, offset + at.prefixlen);
  target.writeUInt32LE(entry.identity, offset + at.identity);
  target[offset + at.egress] = entry.egress ? 1 : 0;
  target[offset + at.protocol] = entry.protocol;
  target.writeUInt16BE(entry.port, offset + at.dport);
}

/** Writes the value at `offset`. */
export function encodePolicyValue(entry: PolicyEntry, target: Buffer, offset: number): void {
  const { at } = POLICY_ENTRY;
  target.writeUInt16BE(entry.proxyPort, offset + at.proxy_port);
  target[offset + at.flags] = entry.deny ? POLICY_F_DENY : 0;
  target[offset + at.match_bits] = entry.bits;
  target.writeUInt32LE(entry.precedence, offset + at.precedence);
  target.writeUInt32LE(entry.cookie, offset + at.cookie);
}

export function decodePolicyEntry(key: Buffer, value: Buffer): PolicyEntry {
  return {
    identity: key.readUInt32LE(POLICY_KEY.at.identity),
    egress: key[POLICY_KEY.at.egress] === 1,
    protocol: key[POLICY_KEY.at.protocol]!,
    port: key.readUInt16BE(POLICY_KEY.at.dport),
    bits: key.readUInt32LE(POLICY_KEY.at.prefixlen) - POLICY_STATIC_PREFIX,
    deny: (value[POLICY_ENTRY.at.flags]! & POLICY_F_DENY) !== 0,
    proxyPort: value.readUInt16BE(POLICY_ENTRY.at.proxy_port),
    precedence: value.readUInt32LE(POLICY_ENTRY.at.precedence),
    cookie: value.readUInt32LE(POLICY_ENTRY.at.cookie),
  };
}

/** Keys of `entries` laid end to end. */
export function encodePolicyKeys(entries: readonly PolicyKey[]): Buffer {
  const keys = Buffer.alloc(entries.length * POLICY_KEY.size);
  for (let i = 0; i < entries.length; i++) encodePolicyKey(entries[i]!, keys, i * POLICY_KEY.size);
  return keys;
}

/** Values of `entries` laid end to end. */
export function encodePolicyValues(entries: readonly PolicyEntry[]): Buffer {
  const values = Buffer.alloc(entries.length * POLICY_ENTRY.size);
  for (let i = 0; i < entries.length; i++) encodePolicyValue(entries[i]!, values, i * POLICY_ENTRY.size);
  return values;
}

/** A new, empty trie. It takes memory for the entries that it has, not for those that it may have. */
export function createPolicyTrie(maxEntries: number): BpfMap {
  return BpfMap.create('cilium_policy_n', {
    type: MAP_TYPE.lpmTrie,
    keySize: POLICY_KEY.size,
    valueSize: POLICY_ENTRY.size,
    maxEntries,
    flags: BPF_F_NO_PREALLOC,
  });
}
