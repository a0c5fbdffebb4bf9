// SPDX-License-Identifier: Apache-2.0

/** The contract of `Kvstore` on a real etcd. What etcd does when things go wrong is in the files beside this one. */
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../runtime/logger.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { EtcdServer } from '../../tests/support/etcd-server.ts';
import { testKvstore, type KvstoreBackend } from '../../tests/support/kvstore-contract.ts';
import type { Kvstore } from '../kvstore.ts';
import { EtcdKvstore } from './etcd-kvstore.ts';

/** The shortest that etcd grants with the timing of our test servers. */
const SESSION_TTL_MS = 1_000;

class EtcdBackend implements KvstoreBackend {
  readonly #server: EtcdServer;
  readonly #clients: EtcdKvstore[] = [];

  private constructor(server: EtcdServer) {
    this.#server = server;
  }

  static async open(): Promise<EtcdBackend> {
    return new EtcdBackend(await EtcdServer.start());
  }

  async connect(): Promise<EtcdKvstore> {
    const client = new EtcdKvstore({
      config: { endpoints: [this.#server.url], namespace: 'ns/' },
      log: silentLogger,
      sessionTtlMs: SESSION_TTL_MS,
      times: { keepAliveMs: 100, pingMs: 500, pingTimeoutMs: 500, requestTimeoutMs: 2_000 },
      pageEntries: 2,
    });
    await client.start(new AbortController().signal);
    this.#clients.push(client);
    return client;
  }

  restart(): Promise<void> {
    return this.#server.restart();
  }

  /** etcd looks for leases that have run out twice a second. */
  async passSessionTtl(): Promise<void> {
    await sleep(SESSION_TTL_MS + 600);
  }

  async endSession(client: Kvstore): Promise<void> {
    await client.put('mark', '', { leased: true });
    await this.#server.etcdctl('lease', 'revoke', (await client.get('mark'))!.leaseId!);
  }

  compact(): Promise<void> {
    return this.#server.compact();
  }

  async settle(): Promise<void> {
    await sleep(200);
  }

  async until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
    await eventually(what, check);
  }

  async close(): Promise<void> {
    await this.#server.remove();
    await Promise.all(this.#clients.splice(0).map((client) => client.stop()));
  }
}

testKvstore('etcd', () => EtcdBackend.open());
