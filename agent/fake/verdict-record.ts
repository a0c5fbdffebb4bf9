// SPDX-License-Identifier: Apache-2.0

/** Records of the event ring as the kernel writes them, for tests. */
import {
  EVENT_F_IPV6,
  EVENT_HEADER,
  EVENT_POLICY_VERDICT,
  POLICY_VERDICT_EVENT,
  VERDICT_EGRESS,
  VERDICT_INGRESS,
} from '../../datapath/events/records.ts';
import { IpAddress } from '../../net/ip.ts';

export interface FakeVerdict {
  readonly endpoint: number;
  readonly peer: number;
  readonly egress?: boolean;
  readonly protocol?: number;
  readonly port?: number;
  /** @default 0, allowed */
  readonly verdict?: number;
  /** Of the peer, who is the receiver at egress and the sender at ingress. */
  readonly address?: string;
  readonly timestampMs?: number;
}

const SUBJECT_IDENTITY = 1;
const PAYLOAD_BYTES = 128;

export function verdictRecord(facts: FakeVerdict): Buffer {
  const { egress = false, address } = facts;
  const data = Buffer.alloc(POLICY_VERDICT_EVENT.size + PAYLOAD_BYTES);
  const header = EVENT_HEADER.at;
  const verdict = POLICY_VERDICT_EVENT.at;
  data[header.type] = EVENT_POLICY_VERDICT;
  data.writeUInt16LE(facts.endpoint, header.source);
  data.writeBigUInt64LE(BigInt(Math.round((facts.timestampMs ?? 0) * 1e6)), header.timestamp);
  data.writeUInt32LE(egress ? SUBJECT_IDENTITY : facts.peer, header.src_identity);
  data.writeUInt32LE(facts.peer, verdict.remote_identity);
  data.writeInt32LE(facts.verdict ?? 0, verdict.verdict);
  data.writeUInt16LE(facts.port ?? 80, verdict.dport);
  data[verdict.protocol] = facts.protocol ?? 6;
  data[verdict.direction] = egress ? VERDICT_EGRESS : VERDICT_INGRESS;
  if (address !== undefined) {
    const { bytes, family } = IpAddress.parse(address);
    data.writeUInt16LE(family === 6 ? EVENT_F_IPV6 : 0, header.flags);
    data.writeUInt16LE(PAYLOAD_BYTES, header.len_cap);
    const source = POLICY_VERDICT_EVENT.size + (family === 6 ? 22 : 26);
    data.set(bytes, egress ? source + bytes.length : source);
  }
  return data;
}
