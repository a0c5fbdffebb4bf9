// SPDX-License-Identifier: Apache-2.0

/**
 * The records of the event ring: drops, traces, policy verdicts.
 *
 * C twin: struct event_header, drop_event, trace_event, policy_verdict_event in bpf-src/lib/abi.h. The payload (the first
 * bytes of the packet, from its Ethernet header on) is a view into the record, so it lives as long as that does.
 */
import { layout } from '../btf/layout.ts';

export const EVENT_DROP = 1;
export const EVENT_TRACE = 4;
export const EVENT_POLICY_VERDICT = 5;
export const EVENT_F_IPV6 = 1;

export const EVENT_HEADER = layout('event_header', 40, {
  type: 0,
  subtype: 1,
  source: 2,
  hash: 4,
  timestamp: 8,
  len_orig: 16,
  len_cap: 20,
  flags: 22,
  src_identity: 24,
  dst_identity: 28,
  ifindex: 32,
  dst_id: 36,
});
export const DROP_EVENT = layout('drop_event', 48, { h: 0, line: 40, file: 42, ext_error: 43 });
export const TRACE_EVENT = layout('trace_event', 48, { h: 0, reason: 40 });
export const POLICY_VERDICT_EVENT = layout('policy_verdict_event', 64, {
  h: 0,
  remote_identity: 40,
  verdict: 44,
  cookie: 48,
  dport: 52,
  protocol: 54,
  direction: 55,
  match: 56,
});

export const VERDICT_INGRESS = 1;
export const VERDICT_EGRESS = 2;

interface EventBase {
  /** Endpoint whose program speaks; 0: none. */
  readonly source: number;
  /** Of the flow, as the kernel counts it; 0 for some. */
  readonly hash: number;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly timestamp: bigint;
  /** Bytes of the packet; the payload may hold fewer. */
  readonly packetBytes: number;
  readonly ipv6: boolean;
  readonly sourceIdentity: number;
  /** 0: not known at this point. */
  readonly destinationIdentity: number;
  /** Drop: where it came in. Trace: where it goes. 0: none. */
  readonly ifindex: number;
  /** Endpoint of the receiver; 0: none. */
  readonly destination: number;
  readonly payload: Uint8Array;
}

export interface DropEvent extends EventBase {
  readonly type: 'drop';
  /** Number of texts.ts. */
  readonly reason: number;
  readonly line: number;
  /** SOURCE_FILES of texts.ts. */
  readonly file: number;
  /** More about some reasons: the result of the helper that failed. */
  readonly extendedError: number;
}

export interface TraceEvent extends EventBase {
  readonly type: 'trace';
  /** TRACE_POINTS of texts.ts. */
  readonly point: number;
  /** TRACE_REASONS of texts.ts. */
  readonly reason: number;
}

export interface PolicyVerdictEvent extends EventBase {
  readonly type: 'policy-verdict';
  readonly remoteIdentity: number;
  /** 0 allowed, above: port of the proxy, below: minus the drop reason. */
  readonly verdict: number;
  /** Of the entry that matched. */
  readonly cookie: number;
  readonly port: number;
  readonly protocol: number;
  readonly egress: boolean;
  /** POLICY_MATCHES of texts.ts. */
  readonly match: number;
}

export type DatapathEvent = DropEvent | TraceEvent | PolicyVerdictEvent;

/** Undefined for a record of a type or length that is not known here. */
export function decodeEvent(record: Uint8Array): DatapathEvent | undefined {
  if (record.length < EVENT_HEADER.size) return undefined;
  const data = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  switch (data[EVENT_HEADER.at.type]) {
    case EVENT_DROP:
      return data.length < DROP_EVENT.size ? undefined : decodeDrop(data);
    case EVENT_TRACE:
      return data.length < TRACE_EVENT.size ? undefined : decodeTrace(data);
    case EVENT_POLICY_VERDICT:
      return data.length < POLICY_VERDICT_EVENT.size ? undefined : decodeVerdict(data);
    default:
      return undefined;
  }
}

function decodeBase(data: Buffer, payloadOffset: number): EventBase {
  const { at } = EVENT_HEADER;
  return {
    source: data.readUInt16LE(at.source),
    hash: data.readUInt32LE(at.hash),
    timestamp: data.readBigUInt64LE(at.timestamp),
    packetBytes: data.readUInt32LE(at.len_orig),
    ipv6: (data.readUInt16LE(at.flags) & EVENT_F_IPV6) !== 0,
    sourceIdentity: data.readUInt32LE(at.src_identity),
    destinationIdentity: data.readUInt32LE(at.dst_identity),
    ifindex: data.readUInt32LE(at.ifindex),
    destination: data.readUInt16LE(at.dst_id),
    payload: data.subarray(payloadOffset, payloadOffset + data.readUInt16LE(at.len_cap)),
  };
}

function decodeDrop(data: Buffer): DropEvent {
  return {
    type: 'drop',
    ...decodeBase(data, DROP_EVENT.size),
    reason: data[EVENT_HEADER.at.subtype]!,
    line: data.readUInt16LE(DROP_EVENT.at.line),
    file: data[DROP_EVENT.at.file]!,
    extendedError: data.readInt8(DROP_EVENT.at.ext_error),
  };
}

function decodeTrace(data: Buffer): TraceEvent {
  return {
    type: 'trace',
    ...decodeBase(data, TRACE_EVENT.size),
    point: data[EVENT_HEADER.at.subtype]!,
    reason: data[TRACE_EVENT.at.reason]!,
  };
}

function decodeVerdict(data: Buffer): PolicyVerdictEvent {
  const { at } = POLICY_VERDICT_EVENT;
  return {
    type: 'policy-verdict',
    ...decodeBase(data, POLICY_VERDICT_EVENT.size),
    remoteIdentity: data.readUInt32LE(at.remote_identity),
    verdict: data.readInt32LE(at.verdict),
    cookie: data.readUInt32LE(at.cookie),
    port: data.readUInt16LE(at.dport),
    protocol: data[at.protocol]!,
    egress: data[at.direction] === VERDICT_EGRESS,
    match: data[at.match]!,
  };
}
