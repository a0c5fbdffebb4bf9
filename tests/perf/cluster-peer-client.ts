// SPDX-License-Identifier: Apache-2.0

/** Talks to cluster-peer.ts, which plays the rest of the cluster beside etcd. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { EtcdMember } from '../../lab/etcd-member.ts';
import type { SimulatedSize } from './cluster-simulation.ts';

export type Requests = Readonly<Record<string, number>>;

export interface Storm {
  /** Milliseconds until etcd had everything, and until the last container had its identity. */
  readonly whole: number;
  readonly slowestIdentity: number;
  readonly requests: Requests;
}

export class ClusterPeer {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  static start(member: EtcdMember): ClusterPeer {
    const program = join(import.meta.dirname, 'cluster-peer.ts');
    const stdio = ['pipe', 'pipe', 'inherit'] as const;
    return new ClusterPeer(member.spawn([process.execPath, program, member.urls.ipv4], { stdio: [...stdio] }));
  }

  stop(): void {
    this.#child.kill();
  }

  /** Writes all keys of so many nodes; answers how many. */
  async fill({ nodes }: SimulatedSize): Promise<number> {
    return (await this.#ask<{ keys: number }>(`fill ${nodes}`)).keys;
  }

  /** One endpoint more; answers when etcd had it, on the monotonic clock. */
  async add({ nodes }: SimulatedSize, node: number, endpoint: number): Promise<number> {
    return (await this.#ask<{ at: number }>(`add ${nodes} ${node} ${endpoint}`)).at;
  }

  storm(endpoints: number, identities: number): Promise<Storm> {
    return this.#ask<Storm>(`storm ${endpoints} ${identities}`);
  }

  /** How many requests etcd has served since it started, by method. */
  requests(): Promise<Requests> {
    return this.#ask<Requests>('requests');
  }

  async #ask<T>(command: string): Promise<T> {
    this.#child.stdin!.write(`${command}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`cluster-peer.ts has ended during "${command}"`);
    return JSON.parse(value) as T;
  }
}
