// SPDX-License-Identifier: Apache-2.0

/** Event records as the kernel writes them, made by hand. */
import {
  DROP_EVENT,
  EVENT_DROP,
  EVENT_F_IPV6,
  EVENT_HEADER,
  EVENT_POLICY_VERDICT,
  EVENT_TRACE,
  POLICY_VERDICT_EVENT,
  TRACE_EVENT,
} from '../../datapath/events/records.ts';

/** A TCP SYN of 10.11.0.23:51034 to 10.11.0.40:80, from its Ethernet header to the flags. */
export const SYN = Buffer.from(
  '020000000001' +
    '020000000002' +
    '0800' + // Ethernet
    '4500003c' +
    '00004000' +
    '3f060000' +
    '0a0b0017' +
    '0a0b0028' + // IPv4, TTL 63
    'c75a0050' +
    '00000001' +
    '00000000' +
    'a002faf0' +
    '00000000', // TCP
  'hex',
);

/** An ICMPv6 echo request of fd00::1 to fd00::2. */
export const ECHO6 = Buffer.from(
  '020000000001' +
    '020000000002' +
    '86dd' + // Ethernet
    '60000000' +
    '00083a40' +
    'fd000000000000000000000000000001' +
    'fd000000000000000000000000000002' +
    '80000000' +
    '00010001',
  'hex',
);

export interface HeaderFacts {
  readonly source?: number;
  readonly destination?: number;
  readonly sourceIdentity?: number;
  readonly destinationIdentity?: number;
  readonly hash?: number;
  readonly ifindex?: number;
  readonly payload?: Buffer;
}

export function dropRecord(facts: HeaderFacts & { reason: number; line?: number; extendedError?: number }): Buffer {
  const record = header(DROP_EVENT.size, EVENT_DROP, facts.reason, facts);
  record.writeUInt16LE(facts.line ?? 0, DROP_EVENT.at.line);
  record[DROP_EVENT.at.file] = 1;
  record.writeInt8(facts.extendedError ?? 0, DROP_EVENT.at.ext_error);
  return record;
}

export function traceRecord(facts: HeaderFacts & { point: number; reason: number }): Buffer {
  const record = header(TRACE_EVENT.size, EVENT_TRACE, facts.point, facts);
  record[TRACE_EVENT.at.reason] = facts.reason;
  return record;
}

export function verdictRecord(
  facts: HeaderFacts & { remoteIdentity: number; verdict: number; match: number; egress?: boolean },
): Buffer {
  const { at, size } = POLICY_VERDICT_EVENT;
  const record = header(size, EVENT_POLICY_VERDICT, 0, facts);
  record.writeUInt32LE(facts.remoteIdentity, at.remote_identity);
  record.writeInt32LE(facts.verdict, at.verdict);
  record.writeUInt16LE(80, at.dport);
  record[at.protocol] = 6;
  record[at.direction] = facts.egress === true ? 2 : 1;
  record[at.match] = facts.match;
  return record;
}

function header(size: number, type: number, subtype: number, facts: HeaderFacts): Buffer {
  const { at } = EVENT_HEADER;
  const payload = facts.payload ?? SYN;
  const record = Buffer.concat([Buffer.alloc(size), payload]);
  record[at.type] = type;
  record[at.subtype] = subtype;
  record.writeUInt16LE(facts.source ?? 0, at.source);
  record.writeUInt32LE(facts.hash ?? 0, at.hash);
  record.writeUInt32LE(payload.length + 20, at.len_orig);
  record.writeUInt16LE(payload.length, at.len_cap);
  record.writeUInt16LE(payload.readUInt16BE(12) === 0x86dd ? EVENT_F_IPV6 : 0, at.flags);
  record.writeUInt32LE(facts.sourceIdentity ?? 0, at.src_identity);
  record.writeUInt32LE(facts.destinationIdentity ?? 0, at.dst_identity);
  record.writeUInt32LE(facts.ifindex ?? 0, at.ifindex);
  record.writeUInt16LE(facts.destination ?? 0, at.dst_id);
  return record;
}
