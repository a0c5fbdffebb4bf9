// SPDX-License-Identifier: Apache-2.0

/**
 * Starts the traffic tool in network namespaces and reads what it counted.
 *
 * Only the network namespace is entered: the program and its privileges are those of the caller, so a receiver may have
 * a socket buffer that a container could not ask for.
 */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { buildTraffic } from './build.ts';

/** A network namespace: one made with `ip netns add`, or that of a process (of a container, by its pid). */
export type Place = { readonly netns: string } | { readonly pid: number };

export function namespaceFile(place: Place): string {
  return 'pid' in place ? `/proc/${place.pid}/ns/net` : `/run/netns/${place.netns}`;
}

/** Everything has a default; see `traffic --help`. Rates are per second; `duration` in seconds, until `stop` when left out. */
export interface TrafficOptions {
  readonly addr?: string;
  readonly port?: number;
  readonly udpPort?: number;
  readonly cpu?: number;
  readonly duration?: number;
  readonly rate?: number;
  readonly size?: number;
  readonly stallMs?: number;
}

/** What each sub-command prints at its end; times are in nanoseconds where the name says so. */
export interface TrafficResults {
  server: { accepted: number; broken: number; retransmits: number; needlessRetransmits: number };
  rr: {
    count: number;
    seconds: number;
    rate: number;
    p50Ns: number;
    p99Ns: number;
    /** Time on CPU of both ends for one transaction. */
    cpuNs: number;
    retransmits: number;
  };
  crr: {
    count: number;
    failed: number;
    lastError: string;
    slow: number;
    slowestNs: number;
    seconds: number;
    rate: number;
    p50Ns: number;
    p99Ns: number;
    /** Time on CPU of both ends for one connection. */
    cpuNs: number;
    /** Of all connections, of SYNs too. */
    retransmits: number;
    needlessRetransmits: number;
  };
  stream: {
    bytes: number;
    seconds: number;
    bitsPerSecond: number;
    cpuNsPerByte: number;
    senderNsPerByte: number;
    receiverNsPerByte: number;
    machineNsPerByte: number;
    retransmits: number;
  };
  'tcp-stream': {
    records: number;
    bytesSent: number;
    bytesBack: number;
    bytesWrong: number;
    stalls: number;
    longestNs: number;
    retransmits: number;
    /** Of these, the ones that the peer had already: a late answer, nothing lost. */
    needlessRetransmits: number;
    broken: boolean;
  };
  'udp-send': { sent: number; errors: number; seconds: number; rate: number };
  'udp-recv': {
    received: number;
    highest: number;
    missing: number;
    duplicates: number;
    reordered: number;
    gaps: number;
    longestGap: number;
    socketDrops: number;
  };
  probe: {
    syns: number;
    datagrams: number;
    through: number;
    connected: number;
    refused: number;
    unreachable: number;
    errors: number;
    rate: number;
  };
}

export type TrafficCommand = keyof TrafficResults;

/** Sub-commands that say when they can be reached. */
export const RECEIVERS: readonly TrafficCommand[] = ['server', 'udp-recv'];

const FLAGS = {
  addr: '--addr',
  port: '--port',
  udpPort: '--udp-port',
  cpu: '--cpu',
  duration: '--duration',
  rate: '--rate',
  size: '--size',
  stallMs: '--stall-ms',
} satisfies Record<keyof TrafficOptions, string>;

/** One running sub-command. */
export class Traffic<C extends TrafficCommand> {
  readonly command: C;
  /** Settles when the program ends; rejects with what it wrote to stderr when it failed. */
  readonly result: Promise<TrafficResults[C]>;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #ready = Promise.withResolvers<undefined>();

  private constructor(command: C, child: ChildProcessByStdio<null, Readable, Readable>) {
    this.command = command;
    this.#child = child;
    this.result = this.#collect();
    // A failure is seen by whoever awaits `ready` or `result`; it must not end the process before they do.
    this.result.catch(() => undefined);
    this.#ready.promise.catch(() => undefined);
  }

  /** Starts a sub-command; resolves once a receiver can be reached, at once for a sender. */
  static async start<C extends TrafficCommand>(
    place: Place,
    command: C,
    options: TrafficOptions = {},
  ): Promise<Traffic<C>> {
    const flags = (Object.keys(FLAGS) as (keyof TrafficOptions)[]).flatMap((name) => {
      const value = options[name];
      return value === undefined ? [] : [FLAGS[name], String(value)];
    });
    const child = spawn('nsenter', [`--net=${namespaceFile(place)}`, '--', await buildTraffic(), command, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const traffic = new Traffic(command, child);
    if (RECEIVERS.includes(command)) await traffic.#ready.promise;
    return traffic;
  }

  /** Runs a sub-command for `options.duration` and gives its result. */
  static async run<C extends TrafficCommand>(
    place: Place,
    command: C,
    options: TrafficOptions & { readonly duration: number },
  ): Promise<TrafficResults[C]> {
    return (await Traffic.start(place, command, options)).result;
  }

  /** Ends the program and gives its result; may be called twice. */
  stop(): Promise<TrafficResults[C]> {
    this.#child.kill('SIGTERM');
    return this.result;
  }

  async #collect(): Promise<TrafficResults[C]> {
    let last = '';
    let complaint = '';
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    createInterface(this.#child.stdout).on('line', (line) => {
      last = line;
      this.#ready.resolve(undefined);
    });
    const [code, signal] = (await once(this.#child, 'close')) as [number | null, string | null];
    try {
      assert.equal(code, 0, `traffic ${this.command}: ${complaint.trim() || `ended by ${signal ?? 'itself'}`}`);
    } catch (error) {
      this.#ready.reject(error);
      throw error;
    }
    return JSON.parse(last) as TrafficResults[C];
  }
}
