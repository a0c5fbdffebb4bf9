// SPDX-License-Identifier: Apache-2.0

/**
 * The keys of the key-value store, wherever it is: the agent knows its own, the embedded one included; etcd can be asked
 * without an agent, too. Both guard the agents' keys (kvstore/manual-access.ts).
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { ManualAccess } from '../kvstore/manual-access.ts';
import { silentLogger } from '../runtime/logger.ts';
import type { Context } from './context.ts';

export interface KeyOptions {
  /** Absent: the agent is asked. */
  readonly kvstore?: string;
  readonly kvstoreOpt?: readonly string[];
}

export interface KeyEntry {
  readonly key: string;
  readonly value: string;
  readonly modRevision: number;
  readonly leaseId?: string;
}

export interface Keys {
  get(key: string): Promise<KeyEntry>;
  list(prefix: string): Promise<readonly KeyEntry[]>;
  set(key: string, value: string, options: { readonly force: boolean }): Promise<void>;
  /** Answers how many keys are gone. */
  delete(key: string, options: { readonly recursive: boolean; readonly force: boolean }): Promise<number>;
}

/** The shortest lease that is allowed, in ms: a command is a client that comes and goes. */
const SESSION_TTL_MS = 25_000;

/** The longest time that there is for a timer. */
const FOREVER_MS = 2 ** 31 - 1;

/** A person waits: etcd answers within this time or is away. */
const TIMES = { connectTimeoutMs: 5_000, requestTimeoutMs: 5_000 };

/** Does some work with the keys; a connection of its own ends with it. */
export async function withKeys<T>(context: Context, options: KeyOptions, work: (keys: Keys) => Promise<T>): Promise<T> {
  const { kvstore, kvstoreOpt = [] } = options;
  if (kvstore === undefined) {
    if (kvstoreOpt.length > 0) throw invalid('--kvstore-opt is for --kvstore=etcd');
    return work(agentKeys(context));
  }
  if (kvstore !== 'etcd') throw invalid(`--kvstore: found "${kvstore}", expected etcd`);
  // Loading etcd's client takes longer than all the rest of a command.
  const { EtcdKvstore } = await import('../kvstore/etcd/etcd-kvstore.ts');
  const { etcdConfigOf, parseKvstoreOpt } = await import('../kvstore/etcd/kvstore-opt.ts');
  const { ManualAccess } = await import('../kvstore/manual-access.ts');
  const config = await etcdConfigOf(parseKvstoreOpt(kvstoreOpt));
  const store = new EtcdKvstore({ config, log: silentLogger, sessionTtlMs: SESSION_TTL_MS, times: TIMES });
  const wait = setInterval(() => undefined, FOREVER_MS); // the store itself keeps no process alive, a daemon does
  try {
    await store.start(context.io.interrupted);
    return await work(etcdKeys(new ManualAccess(store)));
  } finally {
    await store.stop();
    clearInterval(wait);
  }
}

function agentKeys(context: Context): Keys {
  const client = context.client();
  const list = async (key: string, recursive: boolean): Promise<KeyEntry[]> => {
    const entries = await client.kvstoreGet(key, { recursive });
    return entries.map((entry) => ({
      key: entry.key,
      value: entry.value,
      modRevision: entry['mod-revision'],
      ...(entry['lease-id'] !== undefined && { leaseId: entry['lease-id'] }),
    }));
  };
  return {
    get: async (key) => (await list(key, false))[0]!,
    list: (prefix) => list(prefix, true),
    set: (key, value, { force }) => client.kvstoreSet({ key, value, force }),
    delete: (key, options) => client.kvstoreDelete(key, options),
  };
}

function etcdKeys(access: ManualAccess): Keys {
  return {
    get: (key) => access.get(key),
    list: (prefix) => access.list(prefix),
    set: (key, value, options) => access.set(key, value, options),
    delete: async (key, { recursive, force }) => {
      if (recursive) return access.deleteAll(key, { force });
      return (await access.delete(key, { force })) ? 1 : 0;
    },
  };
}

function invalid(message: string): CiliumError {
  return new CiliumError('InvalidArgument', message);
}
