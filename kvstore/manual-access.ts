// SPDX-License-Identifier: Apache-2.0

/**
 * What people do to keys by hand (`cilium kvstore`). What the agents live from is theirs: to change it by hand takes
 * addresses, identities or nodes from the whole cluster, so that has to be asked for expressly.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { KvEntry, Kvstore } from './kvstore.ts';

/** Below it all keys are the agents'. */
const AGENTS_PREFIX = 'cilium/';

export interface ChangeOptions {
  /** The agents' keys may be changed, too. */
  readonly force: boolean;
}

export class ManualAccess {
  readonly #store: Pick<Kvstore, 'get' | 'list' | 'put' | 'delete' | 'transact'>;

  constructor(store: Pick<Kvstore, 'get' | 'list' | 'put' | 'delete' | 'transact'>) {
    this.#store = store;
  }

  /** Throws `NotFound`. */
  async get(key: string): Promise<KvEntry> {
    checkKey(key);
    const entry = await this.#store.get(key);
    if (entry === undefined) throw new CiliumError('NotFound', `key ${key} is not found`, { key });
    return entry;
  }

  /** All keys that begin with `prefix`, in their order; an empty one: all there are. */
  async list(prefix: string): Promise<readonly KvEntry[]> {
    return (await this.#store.list(prefix)).entries;
  }

  /** Writes a key that stays until it is deleted. Throws `InUse` for a key of the agents. */
  async set(key: string, value: string, { force }: ChangeOptions): Promise<void> {
    checkKey(key);
    if (!force && key.startsWith(AGENTS_PREFIX)) throw agentsOwn(`key ${key} belongs to the agents`);
    await this.#store.put(key, value);
  }

  /** Whether there was such a key. Throws `InUse` for a key of the agents. */
  async delete(key: string, { force }: ChangeOptions): Promise<boolean> {
    checkKey(key);
    if (!force && key.startsWith(AGENTS_PREFIX)) throw agentsOwn(`key ${key} belongs to the agents`);
    return this.#store.delete(key);
  }

  /** Deletes all keys that begin with `prefix`; answers how many. Throws `InUse` where keys of the agents may do so. */
  async deleteAll(prefix: string, { force }: ChangeOptions): Promise<number> {
    if (!force && (prefix.startsWith(AGENTS_PREFIX) || AGENTS_PREFIX.startsWith(prefix))) {
      throw agentsOwn(`keys that begin with "${prefix}" belong to the agents`);
    }
    return (await this.#store.transact({ then: [{ deletePrefix: prefix }] })).deleted;
  }
}

function checkKey(key: string): void {
  if (key === '') throw new CiliumError('InvalidArgument', 'key: found nothing, expected a key such as app/greeting');
}

function agentsOwn(what: string): CiliumError {
  const effect = 'to change them takes identities, addresses or nodes from the whole cluster';
  return new CiliumError('InUse', `${what}: ${effect}; --force (force=true) does it nevertheless`);
}
