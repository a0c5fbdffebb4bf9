// SPDX-License-Identifier: Apache-2.0

/**
 * The flows that policy was asked about lately, for "what would this import change?".
 *
 * Fed with every record of the event ring, of which it takes the policy verdicts: the kernel writes one for each new
 * flow and for each packet that policy refuses, whatever the monitor's aggregation. Flows are told apart by endpoint,
 * direction, identity of the peer (outside: its address), protocol and port of the receiver.
 *
 * Bounded in memory and in time: an endpoint keeps so many flows in each direction and forgets those not seen for
 * longest, so what one container does displaces only what it and its peers did; and so many verdicts are taken in a
 * tick, what comes beyond them is only counted. Budget: 0.3 µs a verdict.
 */
import { VerdictCursor } from '../../datapath/events/verdict-cursor.ts';
import { LOCAL_IDENTITY_MIN, RESERVED_IDENTITIES } from '../../identity/numeric-identity.ts';
import type { Direction } from '../../policy/rule.ts';

/** One endpoint, one direction. */
export const MAX_FLOWS_OF_ENDPOINT = 256;
/** Of all endpoints, about 6 MB. */
export const MAX_FLOWS = 32_768;
export const TICK_MS = 200;
/** 20,000 a second take about a hundredth of a CPU. */
export const MAX_VERDICTS_IN_TICK = 4_000;

/** How old a flow's place in the order of its endpoint may be. */
const ORDER_MS = 1_000;
const IDENTITY_FACTOR = 2 ** 24;
const PROTOCOL_FACTOR = 2 ** 16;

export interface SeenFlow {
  /** Whose policy was asked. */
  readonly endpoint: number;
  readonly direction: Direction;
  /** Identity of the peer when it was seen last. */
  readonly peer: number;
  /** Of a peer outside. */
  readonly address: string | undefined;
  /** IPPROTO number. */
  readonly protocol: number;
  /** Of the receiver; the type for ICMP. */
  readonly port: number;
  readonly allowed: number;
  readonly denied: number;
  /** Of the last packet that was refused; 0: none was. */
  readonly dropReason: number;
  readonly lastDenied: boolean;
  /** Milliseconds since the epoch. */
  readonly firstSeen: number;
  readonly lastSeen: number;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
type Flows = Map<number | string, Mutable<SeenFlow>>;

export interface SeenFlowsDeps {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds of the kernel's clock, CLOCK_MONOTONIC. */
  readonly monotonic: () => number;
}

export class SeenFlows {
  readonly #deps: SeenFlowsDeps;
  readonly #since: number;
  readonly #cursor = new VerdictCursor();
  readonly #endpoints = new Map<number, Record<Direction, Flows>>();
  #size = 0;
  #skipped = 0;
  #tick = 0;
  #left = MAX_VERDICTS_IN_TICK;

  constructor(deps: SeenFlowsDeps) {
    this.#deps = deps;
    this.#since = deps.now();
  }

  /** When it began, in milliseconds since the epoch. */
  get since(): number {
    return this.#since;
  }

  /** How many flows there are. */
  get size(): number {
    return this.#size;
  }

  /** Verdicts that came faster than they are taken, or for whose flow there was no room. */
  get skipped(): number {
    return this.#skipped;
  }

  /** Takes records of the event ring, in their order. They are not kept. */
  take(records: readonly Uint8Array[]): void {
    const monotonic = this.#deps.monotonic();
    const offset = this.#deps.now() - monotonic;
    const tick = Math.floor(monotonic / TICK_MS);
    if (tick !== this.#tick) {
      this.#tick = tick;
      this.#left = MAX_VERDICTS_IN_TICK;
    }
    for (const record of records) {
      if (!this.#cursor.moveTo(record)) continue;
      if (this.#left > 0) {
        this.#left--;
        this.#note(this.#cursor, offset);
      } else {
        this.#skipped++;
      }
    }
  }

  /** Of all endpoints, in no particular order. */
  *list(): Generator<SeenFlow> {
    for (const { ingress, egress } of this.#endpoints.values()) {
      yield* ingress.values();
      yield* egress.values();
    }
  }

  /** The endpoint is gone; its number may be given out again. */
  forget(endpoint: number): void {
    const flows = this.#endpoints.get(endpoint);
    if (flows === undefined) return;
    this.#size -= flows.ingress.size + flows.egress.size;
    this.#endpoints.delete(endpoint);
  }

  #note(cursor: VerdictCursor, offset: number): void {
    const flows = this.#flowsOf(cursor.endpoint)[cursor.egress ? 'egress' : 'ingress'];
    const seen = offset + cursor.timestampMs;
    const { key, address } = keyOf(cursor);
    let flow = flows.get(key);
    if (flow === undefined) {
      if (!this.#makeRoom(flows)) {
        this.#skipped++;
        return;
      }
      flow = newFlow(cursor, address, seen);
      flows.set(key, flow);
      this.#size++;
    } else if (seen - flow.lastSeen > ORDER_MS) {
      flows.delete(key);
      flows.set(key, flow);
    }
    const { verdict } = cursor;
    flow.lastSeen = seen;
    flow.lastDenied = verdict < 0;
    if (verdict < 0) {
      flow.denied++;
      flow.dropReason = -verdict;
    } else {
      flow.allowed++;
    }
  }

  #flowsOf(endpoint: number): Record<Direction, Flows> {
    let flows = this.#endpoints.get(endpoint);
    if (flows === undefined) {
      flows = { ingress: new Map(), egress: new Map() };
      this.#endpoints.set(endpoint, flows);
    }
    return flows;
  }

  #makeRoom(flows: Flows): boolean {
    if (flows.size < MAX_FLOWS_OF_ENDPOINT && this.#size < MAX_FLOWS) return true;
    const oldest = flows.keys().next();
    if (oldest.done === true) return false;
    flows.delete(oldest.value);
    this.#size--;
    return true;
  }
}

/** Peers inside are told apart by a number, peers outside by a text with their address. */
function keyOf(cursor: VerdictCursor): { key: number | string; address: string | undefined } {
  const { remoteIdentity } = cursor;
  const number = remoteIdentity * IDENTITY_FACTOR + cursor.protocol * PROTOCOL_FACTOR + cursor.port;
  if (!isOutside(remoteIdentity)) return { key: number, address: undefined };
  const address = cursor.remoteAddress()?.toString();
  return { key: `${cursor.protocol} ${cursor.port} ${address ?? remoteIdentity}`, address };
}

function isOutside(identity: number): boolean {
  const { world, 'world-ipv4': ipv4, 'world-ipv6': ipv6 } = RESERVED_IDENTITIES;
  return identity >= LOCAL_IDENTITY_MIN || identity === world || identity === ipv4 || identity === ipv6;
}

function newFlow(cursor: VerdictCursor, address: string | undefined, seen: number): Mutable<SeenFlow> {
  return {
    endpoint: cursor.endpoint,
    direction: cursor.egress ? 'egress' : 'ingress',
    peer: cursor.remoteIdentity,
    address,
    protocol: cursor.protocol,
    port: cursor.port,
    allowed: 0,
    denied: 0,
    dropReason: 0,
    lastDenied: false,
    firstSeen: seen,
    lastSeen: seen,
  };
}
