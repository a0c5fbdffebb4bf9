// SPDX-License-Identifier: Apache-2.0

/**
 * Traffic between members of a cluster while something goes wrong, and what is asked of it afterwards: between `allowed`
 * pairs numbered datagrams, a checked stream and new connections, from `forbidden` ones SYNs and datagrams that must not
 * arrive. Each in both families; who receives counts, too.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { Load } from '../support/load.ts';
import { FAMILIES, type Family, type Member } from './cluster-world.ts';

export interface Pair {
  readonly from: Member;
  readonly to: Member;
}

const OPEN_PORT = 7000;
/** Nobody who may uses these: whatever arrives was forbidden. */
const FORBIDDEN_TCP_PORT = 7005;
const FORBIDDEN_UDP_PORT = 7006;
const FIRST_UDP_PORT = 7100;
const DATAGRAMS_PER_S = 300;
const RECORDS_PER_S = 50;
const CONNECTIONS_PER_S = 20;
const PROBES_PER_S = 100;

export class Watch {
  readonly #load = new Load();
  readonly #allowed: readonly Pair[];
  readonly #forbidden: readonly Pair[];

  private constructor(allowed: readonly Pair[], forbidden: readonly Pair[]) {
    this.#allowed = allowed;
    this.#forbidden = forbidden;
  }

  static async start(t: TestContext, pairs: { allowed: readonly Pair[]; forbidden: readonly Pair[] }): Promise<Watch> {
    const watch = new Watch(pairs.allowed, pairs.forbidden);
    await watch.#receive(t);
    await Promise.all(watch.#flows().map((flow) => watch.#send(t, flow)));
    return watch;
  }

  stop(): Promise<void> {
    return this.#load.stop();
  }

  /** Nothing that was allowed is lost between these pairs; all of them unless told. */
  assertWhole(pairs: readonly Pair[] = this.#allowed): void {
    for (const { name } of this.#flows(pairs)) {
      const sent = this.#load.result(`udp-send ${name}`);
      const { received, duplicates } = this.#load.result(`udp-recv ${name}`);
      assert.ok(sent.sent > 0, name);
      assert.deepEqual({ lost: sent.sent - received, duplicates }, { lost: 0, duplicates: 0 }, `datagrams ${name}`);
      const stream = this.#load.result(`tcp-stream ${name}`);
      assert.equal(stream.retransmits, stream.needlessRetransmits, `segments lost ${name}`);
      const connections = this.#load.result(`crr ${name}`);
      assert.ok(connections.count > 0, name);
      const lost = connections.retransmits - connections.needlessRetransmits;
      assert.deepEqual({ failed: connections.failed, lost }, { failed: 0, lost: 0 }, `connections ${name}`);
      this.#assertStream(name);
    }
  }

  /** A connection that stood between these pairs is as if nothing had been, and both ends agree on each byte. */
  assertStreamsSurvived(pairs: readonly Pair[]): void {
    for (const { name } of this.#flows(pairs)) this.#assertStream(name);
  }

  /** The pairs were apart for a while: packets of theirs were lost. */
  assertApart(pairs: readonly Pair[]): void {
    for (const { name } of this.#flows(pairs)) {
      assert.ok(this.#load.result(`udp-recv ${name}`).missing > 0, `datagrams lost ${name}`);
    }
  }

  /** Nothing that is forbidden has arrived anywhere. */
  assertClosed(): void {
    for (const { name } of this.#flows(this.#forbidden)) {
      const { syns, datagrams, through } = this.#load.result(`probe ${name}`);
      assert.ok(syns > 0 && datagrams > 0, name);
      assert.equal(through, 0, `probes ${name}`);
    }
    for (const { name } of targets(this.#forbidden)) {
      assert.equal(this.#load.result(`server forbidden ${name}`).accepted, 0, `connections to ${name}`);
      assert.equal(this.#load.result(`udp-recv forbidden ${name}`).received, 0, `datagrams to ${name}`);
    }
  }

  /** How much there was of all this. */
  summary(): string {
    const sum = (pairs: readonly Pair[], count: (name: string) => number): number =>
      this.#flows(pairs).reduce((total, { name }) => total + count(name), 0);
    const facts = {
      datagrams: sum(this.#allowed, (name) => this.#load.result(`udp-send ${name}`).sent),
      lost: sum(this.#allowed, (name) => {
        return this.#load.result(`udp-send ${name}`).sent - this.#load.result(`udp-recv ${name}`).received;
      }),
      connections: sum(this.#allowed, (name) => this.#load.result(`crr ${name}`).count),
      failed: sum(this.#allowed, (name) => this.#load.result(`crr ${name}`).failed),
      probes: sum(this.#forbidden, (name) => {
        const { syns, datagrams } = this.#load.result(`probe ${name}`);
        return syns + datagrams;
      }),
      through: sum(this.#forbidden, (name) => this.#load.result(`probe ${name}`).through),
    };
    return JSON.stringify(facts);
  }

  #assertStream(name: string): void {
    const { bytesSent, bytesBack, bytesWrong, broken } = this.#load.result(`tcp-stream ${name}`);
    assert.deepEqual({ bytesBack, bytesWrong, broken }, { bytesBack: bytesSent, bytesWrong: 0, broken: false }, name);
  }

  async #receive(t: TestContext): Promise<void> {
    const load = this.#load;
    await Promise.all([
      ...[...targets(this.#allowed)].map(({ name, place }) =>
        load.start(t, place, 'server', `open ${name}`, { port: OPEN_PORT }),
      ),
      ...[...targets(this.#forbidden)].flatMap(({ name, place }) => [
        load.start(t, place, 'server', `forbidden ${name}`, { port: FORBIDDEN_TCP_PORT }),
        load.start(t, place, 'udp-recv', `forbidden ${name}`, { port: FORBIDDEN_UDP_PORT }),
      ]),
      ...this.#flows(this.#allowed).map(({ name, to, port }) => load.start(t, to.place, 'udp-recv', name, { port })),
    ]);
  }

  async #send(t: TestContext, { name, from, addr, port, isAllowed }: Flow): Promise<void> {
    const load = this.#load;
    if (!isAllowed) {
      const ports = { port: FORBIDDEN_TCP_PORT, udpPort: FORBIDDEN_UDP_PORT };
      return load.start(t, from.place, 'probe', name, { addr, ...ports, rate: PROBES_PER_S });
    }
    const tcp = { addr, port: OPEN_PORT };
    await load.start(t, from.place, 'udp-send', name, { addr, port, rate: DATAGRAMS_PER_S });
    await load.start(t, from.place, 'tcp-stream', name, { ...tcp, rate: RECORDS_PER_S, size: 200 });
    await load.start(t, from.place, 'crr', name, { ...tcp, rate: CONNECTIONS_PER_S });
  }

  #flows(pairs: readonly Pair[] = [...this.#allowed, ...this.#forbidden]): Flow[] {
    return pairs.flatMap((pair) => {
      const number = this.#allowed.findIndex(({ from, to }) => from === pair.from && to === pair.to);
      return FAMILIES.map((family, index) => ({
        ...pair,
        name: `${pair.from.name} to ${pair.to.name} ${family}`,
        family,
        addr: pair.to[family],
        port: FIRST_UDP_PORT + 2 * number + index,
        isAllowed: number >= 0,
      }));
    });
  }
}

interface Flow extends Pair {
  readonly name: string;
  readonly family: Family;
  readonly addr: string;
  readonly port: number;
  readonly isAllowed: boolean;
}

function targets(pairs: readonly Pair[]): Set<Member> {
  return new Set(pairs.map(({ to }) => to));
}
