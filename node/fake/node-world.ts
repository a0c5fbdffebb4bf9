// SPDX-License-Identifier: Apache-2.0

/** Nodes that know of each other through one embedded store, with a clock by hand; sessions end when a test says so. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CiliumError } from '../../errors/cilium-error.ts';
import { EmbeddedKvstore } from '../../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../../kvstore/embedded/engine.ts';
import type { KvList, KvLock } from '../../kvstore/kvstore.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import type { RangeSource } from '../claim.ts';
import { LocalNode } from '../local-node.ts';
import { NodeRegistry } from '../node-registry.ts';
import { nodeKey, nodeRanges, type ByFamily, type ClusterNode, type NodeRouting } from '../node.ts';

export const fixed = (four: string, six: string): ByFamily<RangeSource> => ({
  4: { fixed: Prefix.parse(four), option: '--ipv4-range' },
  6: { fixed: Prefix.parse(six), option: '--ipv6-range' },
});

export const pooled = (four: string, length4: number, six: string, length6: number): ByFamily<RangeSource> => ({
  4: { pool: Prefix.parse(four), length: length4, option: '--cluster-pool-ipv4-cidr' },
  6: { pool: Prefix.parse(six), length: length6, option: '--cluster-pool-ipv6-cidr' },
});

/** A store that can be told to be away. */
class LeavingStore extends EmbeddedKvstore {
  isAway = false;

  override get isConnected(): boolean {
    return !this.isAway;
  }

  /** Somebody has the lock and does not give it back. */
  isLocked = false;

  override lock(path: string, signal?: AbortSignal): Promise<KvLock> {
    if (this.isLocked) {
      return new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    }
    return this.isAway ? Promise.reject(away()) : super.lock(path, signal);
  }

  override list(prefix: string): Promise<KvList> {
    return this.isAway ? Promise.reject(away()) : super.list(prefix);
  }
}

function away(): CiliumError {
  return new CiliumError('KvstoreUnavailable', 'away');
}

export interface TestNode {
  readonly store: LeavingStore;
  readonly local: LocalNode;
  readonly nodes: NodeRegistry;
  /** "upsert b 10.2.0.0/16 fd02::/64", in the order told. */
  readonly events: string[];
  /** Its addresses from now on. */
  addresses: string[];
  start(): Promise<void>;
}

export interface TestNodeOptions {
  readonly addresses?: readonly string[];
  readonly cluster?: string;
  /** @default tunnels over IPv4 */
  readonly routing?: NodeRouting;
  /** Of an agent that was here before; @default one of its own. */
  readonly stateDir?: string;
}

export class NodeWorld {
  readonly clock = new ManualClock();
  readonly engine: EmbeddedEngine;
  readonly folder: string;
  readonly #started: NodeRegistry[] = [];

  private constructor(folder: string) {
    this.folder = folder;
    this.engine = new EmbeddedEngine({ folder: join(folder, 'store'), clock: this.clock, log: silentLogger });
  }

  static async create(t: TestContext): Promise<NodeWorld> {
    const world = new NodeWorld(await temporaryFolder('nodes'));
    await world.engine.start();
    t.after(async () => {
      for (const nodes of world.#started) await nodes.stop();
      await world.engine.stop();
      await rm(world.folder, { recursive: true });
    });
    return world;
  }

  /** Not started yet. */
  async node(name: string, ranges: ByFamily<RangeSource>, options: TestNodeOptions = {}): Promise<TestNode> {
    const store = new LeavingStore(this.engine);
    await store.start();
    const { cluster = 'default', stateDir = join(this.folder, name) } = options;
    const addresses = [...(options.addresses ?? [`192.0.2.${name.charCodeAt(0)}`])];
    const local = new LocalNode({
      ...{ name, cluster, ranges, stateDir, bootId: 'boot' },
      routing: options.routing ?? { mode: 'tunnel', tunnelPort: 8472, underlay: 4 },
      addresses: () => node.addresses.map((text) => IpAddress.parse(text)),
    });
    const nodes = new NodeRegistry({ store, local, stateDir, log: silentLogger, clock: this.clock, patienceMs: 20 });
    const events: string[] = [];
    nodes.onChange(({ type, node: other }) => events.push([type, other.name, ...nodeRanges(other)].join(' ')));
    const node: TestNode = {
      ...{ store, local, nodes, events, addresses },
      start: async () => {
        await local.load();
        this.#started.push(nodes);
        await nodes.start(new AbortController().signal);
        await this.quiet();
      },
    };
    return node;
  }

  /** Lets the store and all who follow it come to rest. */
  async quiet(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      await this.engine.read(() => undefined);
      await settle();
    }
  }

  /** Lets time pass until it is so; what is asked of the store takes real time, too. */
  async until(isSo: () => boolean | Promise<boolean>): Promise<void> {
    for (let seconds = 0; !(await isSo()); seconds++) {
      if (seconds === 1_000) throw new Error('it did not come to that');
      await this.clock.advance(1_000);
      await this.quiet();
    }
  }

  /** The node is gone: its lease runs out. */
  async vanish(node: TestNode): Promise<void> {
    await new EmbeddedKvstore(this.engine).delete(nodeKey(node.local.cluster, node.local.name));
    await this.quiet();
  }

  key(name: string): Promise<string | undefined> {
    return this.engine.read((state) => state.get(nodeKey('default', name))?.value);
  }
}

export function rangesOf(node: ClusterNode): string {
  return nodeRanges(node).join(' ');
}
