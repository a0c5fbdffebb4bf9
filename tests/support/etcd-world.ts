// SPDX-License-Identifier: Apache-2.0

/** Etcd servers, wires to them and clients, for one test; all of it goes with the test. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdConfig, EtcdTimes } from '../../kvstore/etcd/etcd-config.ts';
import { EtcdKvstore, type EtcdKvstoreOptions } from '../../kvstore/etcd/etcd-kvstore.ts';
import type { Kvstore } from '../../kvstore/kvstore.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { startCluster, type EtcdServer, type EtcdServerOptions } from './etcd-server.ts';
import { Follower, Writer } from './kvstore-follower.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** For tests about the end of sessions and locks; others are not to see it however slow the machine is. */
export const SHORT_LEASES = { sessionTtlMs: 1_000, lockTtlMs: 1_000 };
const TEST_TIMES = { requestTimeoutMs: 2_000, keepAliveMs: 200, pingMs: 600, pingTimeoutMs: 600 };

export class EtcdWorld {
  readonly servers: readonly EtcdServer[];
  readonly #ends: (() => Promise<void>)[] = [];
  #observer: EtcdKvstore | undefined;

  private constructor(servers: readonly EtcdServer[]) {
    this.servers = servers;
  }

  static async open(options: EtcdServerOptions & { readonly size?: number } = {}): Promise<EtcdWorld> {
    const world = new EtcdWorld(await startCluster(options.size ?? 1, options));
    world.#observer = await world.connect();
    return world;
  }

  get server(): EtcdServer {
    return this.servers[0]!;
  }

  get endpoints(): string[] {
    return this.servers.map(({ url }) => url);
  }

  /** A client that is there from the beginning. */
  get observer(): EtcdKvstore {
    return this.#observer!;
  }

  async connect(
    config: Partial<EtcdConfig> = {},
    times: Partial<EtcdTimes> = {},
    options: Partial<EtcdKvstoreOptions> = {},
  ): Promise<EtcdKvstore> {
    const client = new EtcdKvstore({
      config: { endpoints: this.endpoints, ...config },
      log: silentLogger,
      sessionTtlMs: 60_000,
      lockTtlMs: 60_000,
      times: { ...TEST_TIMES, ...times },
      ...options,
    });
    await client.start(new AbortController().signal);
    this.#ends.push(() => client.stop());
    return client;
  }

  async follow(client: Kvstore, prefix: string): Promise<Follower> {
    const follower = new Follower(client, prefix);
    await follower.start();
    this.#ends.push(() => follower.stop());
    return follower;
  }

  /** Begins to write. */
  write(client: Kvstore, prefix: string): Writer {
    const writer = new Writer(client, prefix);
    writer.start();
    this.#ends.push(() => writer.stop());
    return writer;
  }

  /** A wire to a server that can be cut. */
  async wire(server = this.server): Promise<TcpProxy> {
    const proxy = await TcpProxy.start(server.url);
    this.#ends.push(() => proxy.cut());
    return proxy;
  }

  /** Lets a fault last. */
  async pause(ms: number): Promise<void> {
    await sleep(ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.servers) server.resume();
    for (const end of this.#ends.reverse()) await end();
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}
