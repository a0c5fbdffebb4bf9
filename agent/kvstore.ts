// SPDX-License-Identifier: Apache-2.0

/** Which key-value store the options ask for. etcd's client takes a while to load, so only who uses it loads it. */
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
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
}

type KvstoreOptions = Pick<AgentOptions, 'kvstore' | 'kvstoreOpt' | 'nodeName' | 'stateDir'>;

/** Throws `InvalidArgument` for options that do not fit together. */
export async function openKvstore(options: KvstoreOptions, log: Logger): Promise<AgentKvstore> {
  const etcd = parseKvstoreOpt(options.kvstoreOpt);
  if (options.kvstore === 'embedded') {
    if (options.kvstoreOpt.length > 0) throw invalid('--kvstore-opt is for --kvstore=etcd');
    const folder = join(options.stateDir, 'kvstore');
    const engine = new EmbeddedEngine({ folder, log, clock: systemClock });
    return { store: new EmbeddedKvstore(engine), foundation: [engine], nodeKey: options.nodeName };
  }
  const { EtcdKvstore } = await import('../kvstore/etcd/etcd-kvstore.ts');
  const config = await etcdConfigOf(etcd);
  const store = new EtcdKvstore({ config, log, clock: systemClock });
  return { store, foundation: [], nodeKey: nodeAddress(4) ?? nodeAddress(6) ?? options.nodeName };
}

function invalid(message: string): CiliumError {
  return new CiliumError('InvalidArgument', message);
}
