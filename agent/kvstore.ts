// SPDX-License-Identifier: Apache-2.0

/** Which key-value store the options ask for. etcd's client takes a while to load, so only who uses it loads it. */
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
import { IdentityMemory } from '../kvstore/allocator/identity-memory.ts';
import { EmbeddedKvstore } from '../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../kvstore/embedded/engine.ts';
import { etcdConfigOf, parseKvstoreOpt } from '../kvstore/etcd/kvstore-opt.ts';
import type { Kvstore } from '../kvstore/kvstore.ts';
import { systemClock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { nodeAddress } from './node-facts.ts';
import type { AgentOptions } from './options.ts';

export interface AgentKvstore {
  readonly store: Kvstore;
  /** What the store stands on; started before it. */
  readonly foundation: readonly Component[];
  /** How this node is called in keys. */
  readonly nodeKey: string;
  /** What is known of a store that may be away. */
  readonly identityMemory?: IdentityMemory;
}

type KvstoreOptions = Pick<
  AgentOptions,
  | 'ipv4Node'
  | 'ipv6Node'
  | 'kvstore'
  | 'kvstoreOpt'
  | 'kvstoreLeaseTtl'
  | 'kvstoreConnectivityTimeout'
  | 'nodeName'
  | 'stateDir'
>;

/** Throws `InvalidArgument` for options that do not fit together. */
export async function openKvstore(options: KvstoreOptions, log: Logger): Promise<AgentKvstore> {
  const etcd = parseKvstoreOpt(options.kvstoreOpt);
  const sessionTtlMs = options.kvstoreLeaseTtl * 1_000;
  if (options.kvstore === 'embedded') {
    if (options.kvstoreOpt.length > 0) throw invalid('--kvstore-opt is for --kvstore=etcd');
    const folder = join(options.stateDir, 'kvstore');
    const engine = new EmbeddedEngine({ folder, log, clock: systemClock });
    return { store: new EmbeddedKvstore(engine, sessionTtlMs), foundation: [engine], nodeKey: options.nodeName };
  }
  const { EtcdKvstore } = await import('../kvstore/etcd/etcd-kvstore.ts');
  const config = await etcdConfigOf(etcd);
  const path = join(options.stateDir, 'known-identities.json');
  const identityMemory = new IdentityMemory({ path, log, clock: systemClock });
  const store = new EtcdKvstore({
    config,
    sessionTtlMs,
    times: { connectTimeoutMs: options.kvstoreConnectivityTimeout * 1_000 },
    mayStartWithout: identityMemory.exists,
    log,
    clock: systemClock,
  });
  return { store, foundation: [], nodeKey: nodeKey(options), identityMemory };
}

function invalid(message: string): CiliumError {
  return new CiliumError('InvalidArgument', message);
}

/** An address of the node that no other has. */
function nodeKey({ ipv4Node, ipv6Node, nodeName }: KvstoreOptions): string {
  const ipv4 = ipv4Node === 'auto' ? nodeAddress(4) : ipv4Node;
  return ipv4 ?? (ipv6Node === 'auto' ? nodeAddress(6) : ipv6Node) ?? nodeName;
}
