// SPDX-License-Identifier: Apache-2.0

/** The cluster of a fake agent: two nodes, what they have, and a store in memory. */
import type { IpListEntry } from '../../../api/cluster-models.ts';
import type { NodeElement } from '../../../api/node-models.ts';
import type { KvEntry, KvList, Kvstore, KvTransaction, KvTransactionResult } from '../../../kvstore/kvstore.ts';

export function fakeNodes(): NodeElement[] {
  return [
    {
      name: 'node1',
      'primary-address': {
        ipv4: { enabled: true, ip: '192.168.60.11', 'alloc-range': '10.11.0.0/16' },
        ipv6: { enabled: true, ip: 'fd00::11', 'alloc-range': 'f00d:b::/96' },
      },
      'secondary-addresses': [{ ip: '10.11.255.254', 'address-type': 'CiliumInternalIP' }],
      source: 'local',
    },
    {
      name: 'node2',
      'primary-address': {
        ipv4: { enabled: true, ip: '192.168.60.12', 'alloc-range': '10.12.0.0/16' },
        ipv6: { enabled: false },
      },
      'secondary-addresses': [{ ip: '10.12.255.254', 'address-type': 'CiliumInternalIP' }],
      source: 'kvstore',
    },
  ];
}

export function fakeAddresses(): IpListEntry[] {
  const entry = (cidr: string, identity: number, source: string, more: { hostIP?: string; name?: string } = {}) => ({
    cidr,
    identity,
    ...(more.hostIP !== undefined && { hostIP: more.hostIP }),
    encryptKey: 0,
    metadata: { source, ...(more.name !== undefined && { name: more.name }) },
  });
  return [
    entry('0.0.0.0/0', 2, 'agent-local'),
    entry('10.11.0.40/32', 41_173, 'agent-local', { name: 'box173' }),
    entry('10.12.0.7/32', 41_029, 'kvstore', { hostIP: '192.168.60.12', name: 'web' }),
    entry('192.0.2.0/24', 16_777_217, 'generated'),
  ];
}

/** Keys without leases and watches. */
export class FakeKeys implements Pick<Kvstore, 'get' | 'list' | 'put' | 'delete' | 'transact'> {
  readonly #keys: Map<string, KvEntry>;
  #revision = 1;

  constructor(keys: Map<string, KvEntry>) {
    this.#keys = keys;
  }

  get(key: string): Promise<KvEntry | undefined> {
    return Promise.resolve(this.#keys.get(key));
  }

  list(prefix: string): Promise<KvList> {
    const entries = [...this.#keys.values()].filter(({ key }) => key.startsWith(prefix));
    return Promise.resolve({ entries: entries.sort((a, b) => (a.key < b.key ? -1 : 1)), revision: this.#revision });
  }

  put(key: string, value: string): Promise<number> {
    const modRevision = ++this.#revision;
    const createRevision = this.#keys.get(key)?.createRevision ?? modRevision;
    this.#keys.set(key, { key, value, createRevision, modRevision });
    return Promise.resolve(modRevision);
  }

  delete(key: string): Promise<boolean> {
    return Promise.resolve(this.#keys.delete(key));
  }

  async transact({ then }: KvTransaction): Promise<KvTransactionResult> {
    const prefixes = then.flatMap((operation) => ('deletePrefix' in operation ? [operation.deletePrefix] : []));
    let deleted = 0;
    for (const prefix of prefixes) {
      for (const { key } of (await this.list(prefix)).entries) if (this.#keys.delete(key)) deleted += 1;
    }
    return { succeeded: true, revision: ++this.#revision, deleted };
  }
}
