// SPDX-License-Identifier: Apache-2.0

/** The BPF maps where the agent has pinned them: to be read by root, also when there is no agent. */
import { BpfMap } from '../datapath/ffi/bpf-map.ts';
import type { MapName } from '../datapath/loader/map-set.ts';
import { decodeConntrack, type ConntrackEntry } from '../datapath/maps/conntrack-map.ts';
import { EndpointMap, type EndpointInfo } from '../datapath/maps/endpoint-map.ts';
import { IpcacheMap, type IpcacheInfo } from '../datapath/maps/ipcache-map.ts';
import { decodePolicyEntry, type PolicyEntry } from '../datapath/maps/policy-map.ts';
import { decodeSnat, type SnatEntry } from '../datapath/maps/snat-map.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress, IpFamily, Prefix } from '../net/ip.ts';

export const DEFAULT_BPF_ROOT = '/sys/fs/bpf';

export class PinnedMaps {
  readonly #folder: string;

  constructor(bpfRoot = DEFAULT_BPF_ROOT) {
    this.#folder = `${bpfRoot}/tc/globals`;
  }

  path(name: MapName): string {
    return `${this.#folder}/${name}`;
  }

  endpoints(): { address: IpAddress; info: EndpointInfo }[] {
    return this.#read('cilium_lxc', (map) => new EndpointMap(map).entries());
  }

  ipcache(): { prefix: Prefix; info: IpcacheInfo }[] {
    return this.#read('cilium_ipcache', (map) => new IpcacheMap(map).entries());
  }

  connections(name: MapName, family: IpFamily): ConntrackEntry[] {
    return this.#read(name, (map) =>
      Array.from(map.entries(), ({ key, value }) => decodeConntrack(family, key, value)),
    );
  }

  masqueraded(name: MapName, family: IpFamily): SnatEntry[] {
    return this.#read(name, (map) => Array.from(map.entries(), ({ key, value }) => decodeSnat(family, key, value)));
  }

  /** What the trie in a slot of cilium_policy holds. */
  policy(slot: number): PolicyEntry[] {
    return this.#read('cilium_policy', (slots) => {
      const key = Buffer.alloc(4);
      const id = Buffer.alloc(4);
      key.writeUInt32LE(slot);
      const trie = slots.lookup(key, id) ? BpfMap.openId(`cilium_policy slot ${slot}`, id.readUInt32LE()) : undefined;
      if (trie === undefined) return [];
      try {
        return Array.from(trie.entries(), (entry) => decodePolicyEntry(entry.key, entry.value));
      } finally {
        trie.close();
      }
    });
  }

  /** Throws `NotFound` when nothing is pinned there. */
  #read<T>(name: MapName, read: (map: BpfMap) => T): T {
    const map = BpfMap.openPinned(name, this.path(name));
    if (map === undefined) {
      throw new CiliumError('NotFound', `no map at ${this.path(name)}; the agent makes it when it starts`);
    }
    try {
      return read(map);
    } finally {
      map.close();
    }
  }
}
