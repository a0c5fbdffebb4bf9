// SPDX-License-Identifier: Apache-2.0

/**
 * Reads policy verdicts in the ring's memory, without an object for each: for code that sees every one of them.
 *
 * One cursor is moved from record to record; what it says is of the last one that `moveTo` accepted.
 */
import { IpAddress } from '../../net/ip.ts';
import { EVENT_F_IPV6, EVENT_HEADER, EVENT_POLICY_VERDICT, POLICY_VERDICT_EVENT, VERDICT_EGRESS } from './records.ts';

const HEADER = EVENT_HEADER.at;
const VERDICT = POLICY_VERDICT_EVENT.at;
const PAYLOAD = POLICY_VERDICT_EVENT.size;
const ETHERNET_BYTES = 14;

export class VerdictCursor {
  #data: Uint8Array = new Uint8Array(PAYLOAD);

  /** False when the record is no policy verdict. */
  moveTo(record: Uint8Array): boolean {
    if (record[HEADER.type] !== EVENT_POLICY_VERDICT || record.length < PAYLOAD) return false;
    this.#data = record;
    return true;
  }

  /** Whose policy was asked. */
  get endpoint(): number {
    return this.#u16(HEADER.source);
  }

  get remoteIdentity(): number {
    return this.#u32(VERDICT.remote_identity);
  }

  get egress(): boolean {
    return this.#data[VERDICT.direction] === VERDICT_EGRESS;
  }

  get protocol(): number {
    return this.#data[VERDICT.protocol]!;
  }

  /** Of the receiver; the type for ICMP. */
  get port(): number {
    return this.#u16(VERDICT.dport);
  }

  /** 0 allowed, above: port of the proxy, below: minus the drop reason. */
  get verdict(): number {
    return this.#u32(VERDICT.verdict) | 0;
  }

  /** Milliseconds of CLOCK_MONOTONIC. */
  get timestampMs(): number {
    return (this.#u32(HEADER.timestamp + 4) * 2 ** 32 + this.#u32(HEADER.timestamp)) / 1e6;
  }

  /** Of the peer, if the packet was captured that far. Meant for peers whose identity is not the subject's own. */
  remoteAddress(): IpAddress | undefined {
    const remoteSends = this.#u32(HEADER.src_identity) === this.remoteIdentity;
    const ipv6 = (this.#u16(HEADER.flags) & EVENT_F_IPV6) !== 0;
    const size = ipv6 ? 16 : 4;
    const source = ETHERNET_BYTES + (ipv6 ? 8 : 12);
    const at = remoteSends ? source : source + size;
    if (this.#u16(HEADER.len_cap) < at + size) return undefined;
    return new IpAddress(this.#data.slice(PAYLOAD + at, PAYLOAD + at + size));
  }

  #u16(at: number): number {
    return this.#data[at]! | (this.#data[at + 1]! << 8);
  }

  #u32(at: number): number {
    return (this.#u16(at) | (this.#u16(at + 2) << 16)) >>> 0;
  }
}
