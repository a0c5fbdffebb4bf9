// SPDX-License-Identifier: Apache-2.0

/** Looks into the policy maps of a node's kernel from outside, without asking its agent. */
import { join } from 'node:path';
import { BpfMap } from '../../datapath/ffi/bpf-map.ts';
import { EndpointMap } from '../../datapath/maps/endpoint-map.ts';
import { decodeIpcacheInfo, encodeIpcacheKey, IPCACHE_INFO, IPCACHE_KEY } from '../../datapath/maps/ipcache-map.ts';
import { encodePolicyKey, POLICY_ENTRY, POLICY_KEY, type PolicyKey } from '../../datapath/maps/policy-map.ts';
import type { LabNode } from '../../lab/node.ts';
import { type IpAddress, Prefix } from '../../net/ip.ts';
import { monotonicMs } from './monotonic.ts';

const MAP_FOLDER = 'sys/fs/bpf/tc/globals';
const PAUSE_MS = 0.2;
const TIMEOUT_MS = 30_000;

/** What has to be in the map, found out anew at each look: some of it is numbered by the agent. */
export type WantedEntry = () => PolicyKey | undefined;

export class KernelWatch {
  readonly #endpoints: EndpointMap;
  readonly #maps: readonly BpfMap[];
  readonly #policy: BpfMap;
  readonly #ipcache: BpfMap;
  /** By their kernel id. */
  readonly #tries = new Map<number, BpfMap>();
  readonly #pause = new Int32Array(new SharedArrayBuffer(4));

  constructor(node: LabNode) {
    const open = (name: string): BpfMap => {
      const map = BpfMap.openPinned(name, join(node.machine.root, MAP_FOLDER, name));
      if (map === undefined) throw new Error(`${node.name} has no map ${name}`);
      return map;
    };
    const lxc = open('cilium_lxc');
    this.#policy = open('cilium_policy');
    this.#ipcache = open('cilium_ipcache');
    this.#maps = [lxc, this.#policy, this.#ipcache];
    this.#endpoints = new EndpointMap(lxc);
  }

  close(): void {
    for (const map of [...this.#maps, ...this.#tries.values()]) map.close();
  }

  identityOf(address: IpAddress): number {
    const key = Buffer.alloc(IPCACHE_KEY.size);
    const value = Buffer.alloc(IPCACHE_INFO.size);
    encodeIpcacheKey(Prefix.of(address), key);
    return this.#ipcache.lookup(key, value) ? decodeIpcacheInfo(value).identity : 0;
  }

  /**
   * Waits until the maps of all these endpoints have the entry, or have it no more; answers when that was. The process
   * does nothing else meanwhile.
   */
  waitFor(addresses: readonly IpAddress[], wanted: WantedEntry, present: boolean): number {
    const limit = monotonicMs() + TIMEOUT_MS;
    // The last endpoint first: it is the likeliest to be late.
    const left = [...addresses];
    while (left.length > 0) {
      const address = left.at(-1)!;
      if (this.has(address, wanted) === present) {
        left.pop();
        continue;
      }
      if (monotonicMs() > limit) throw new Error(`the policy of ${address.toString()} is not in force`);
      Atomics.wait(this.#pause, 0, 0, PAUSE_MS);
    }
    return monotonicMs();
  }

  has(address: IpAddress, wanted: WantedEntry): boolean {
    const entry = wanted();
    const slot = this.#endpoints.get(address)?.policySlot;
    const trie = slot === undefined ? undefined : this.#trie(slot);
    if (entry === undefined || trie === undefined) return false;
    const key = Buffer.alloc(POLICY_KEY.size);
    const value = Buffer.alloc(POLICY_ENTRY.size);
    encodePolicyKey(entry, key, 0);
    return trie.lookup(key, value) && value[POLICY_ENTRY.at.match_bits] === entry.bits;
  }

  /** How many entries an endpoint's policy has. */
  count(address: IpAddress): number {
    const trie = this.#trie(this.#endpoints.get(address)?.policySlot ?? 0);
    let total = 0;
    for (const { count } of trie?.batches() ?? []) total += count;
    return total;
  }

  #trie(slot: number): BpfMap | undefined {
    const key = Buffer.alloc(4);
    const value = Buffer.alloc(4);
    key.writeUInt32LE(slot);
    if (!this.#policy.lookup(key, value)) return undefined;
    const id = value.readUInt32LE();
    const known = this.#tries.get(id);
    if (known !== undefined) return known;
    const trie = BpfMap.openId(`policy map ${id}`, id);
    if (trie !== undefined) this.#tries.set(id, trie);
    return trie;
  }
}
