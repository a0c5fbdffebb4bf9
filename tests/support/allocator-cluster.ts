// SPDX-License-Identifier: Apache-2.0

/** Several nodes' allocators on one embedded store, with a clock of the test. */
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import { CiliumError } from '../../errors/cilium-error.ts';
import { IdentityAllocator } from '../../kvstore/allocator/identity-allocator.ts';
import { IdentityMemory } from '../../kvstore/allocator/identity-memory.ts';
import { IdentityCollector } from '../../kvstore/allocator/identity-collector.ts';
import { EmbeddedKvstore } from '../../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../../kvstore/embedded/engine.ts';
import type { KvList, KvTransaction, KvTransactionResult } from '../../kvstore/kvstore.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { temporaryFolder } from './temporary-folder.ts';

export const RANGE = { min: 256, max: 65_535 };
export const APP1 = 'container:id=app1;';

/** A client that counts requests and can be told to fail or to wait. */
export class WatchedStore extends EmbeddedKvstore {
  requests = 0;
  failures = 0;
  isAway = false;
  lists = 0;
  beforeTransact: (() => Promise<void>) | undefined;

  override get isConnected(): boolean {
    return !this.isAway && super.isConnected;
  }

  override list(prefix: string): Promise<KvList> {
    this.lists++;
    return this.isAway ? Promise.reject(new CiliumError('KvstoreUnavailable', 'away')) : super.list(prefix);
  }

  override async transact(transaction: KvTransaction): Promise<KvTransactionResult> {
    this.requests++;
    await this.beforeTransact?.();
    if (this.failures > 0 || this.isAway) {
      this.failures--;
      throw new CiliumError('KvstoreUnavailable', 'away');
    }
    return super.transact(transaction);
  }
}

export interface Agent {
  readonly store: WatchedStore;
  readonly allocator: IdentityAllocator;
  readonly events: string[];
}

/** As far as tests need it. */
const isLabels = (text: string): boolean => text !== 'bad';

export class Cluster {
  readonly clock = new ManualClock();
  readonly folder: string;
  range = RANGE;
  engine: EmbeddedEngine;

  constructor(folder: string) {
    this.folder = folder;
    this.engine = this.newEngine();
  }

  newEngine(): EmbeddedEngine {
    return new EmbeddedEngine({ folder: this.folder, clock: this.clock, log: silentLogger });
  }

  /** `path`: where it remembers what it knew of the store. */
  async agent(node: string, path?: string, { isAway = false } = {}): Promise<Agent> {
    const store = new WatchedStore(this.engine);
    store.isAway = isAway;
    await store.start();
    const { clock, range } = this;
    const log = silentLogger;
    const memory = path === undefined ? {} : { memory: new IdentityMemory({ path, clock, log }) };
    const allocator = new IdentityAllocator({ store, node, range, isLabels, ...memory, clock, log });
    const events: string[] = [];
    allocator.onChange(({ type, id, labels }) => events.push(`${type} ${id} ${labels}`));
    await allocator.start(new AbortController().signal);
    return { store, allocator, events };
  }

  collector(store: EmbeddedKvstore = new EmbeddedKvstore(this.engine), node = '10.0.0.1'): IdentityCollector {
    const { clock, range } = this;
    return new IdentityCollector({ store, node, range, clock, log: silentLogger });
  }

  /** The process dies and comes again: all clients are gone, the folder stays. */
  async crash(): Promise<void> {
    await this.engine.stop();
    this.engine = this.newEngine();
    await this.engine.start();
  }

  /** Waits for the disk and for what hangs on it. */
  async quiet(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      await this.engine.read(() => undefined);
      await settle();
    }
  }

  keys(): Promise<[string, string][]> {
    return this.engine.read((state) => state.list('').map(({ key, value }) => [key, value]));
  }
}

export function checkCluster(name: string, body: (cluster: Cluster) => Promise<void>, range = RANGE): void {
  test(name, async () => {
    const folder = await temporaryFolder('allocator');
    const cluster = new Cluster(folder);
    cluster.range = range;
    await cluster.engine.start();
    try {
      await body(cluster);
    } finally {
      await cluster.engine.stop();
      await rm(folder, { recursive: true });
    }
  });
}
