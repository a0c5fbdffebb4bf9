// SPDX-License-Identifier: Apache-2.0

/**
 * What the node remembers about flows (conntrack, masquerade, fragments), taken together: listed, collected when it is
 * over, and forgotten when an address changes hands.
 *
 * Walks are cut into pieces of 1,024 entries between which the event loop turns; a full set of maps (300,000 entries)
 * takes some tenths of a second of CPU.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { IpAddress, IpFamily } from '../../net/ip.ts';
import type { BpfMap, MapEntry } from '../ffi/bpf-map.ts';
import {
  conntrackExpiry,
  conntrackKeyHas,
  decodeConntrack,
  encodeConntrackKey,
  type ConntrackEntry,
} from './conntrack-map.ts';
import { fragmentKeyHas } from './fragment-map.ts';
import { decodeSnat, encodeSnatKey, oppositeSnatKey, SNAT_FORWARD, snatBelongsTo, type SnatEntry } from './snat-map.ts';

const IPPROTO_TCP = 6;

/** A masquerade entry is left alone for so long, as its connection's entry is written after it. */
const SNAT_GRACE_S = 10;

/** The maps of one address family. */
export interface FlowMaps {
  readonly tcp: BpfMap;
  readonly any: BpfMap;
  readonly snat: BpfMap;
  readonly fragments: BpfMap;
}

export interface CollectResult {
  /** Entries that were over and are gone. */
  readonly conntrack: number;
  readonly snat: number;
  /** Entries that stay. */
  readonly alive: number;
}

export class ConntrackMaps {
  readonly #maps: Readonly<Record<IpFamily, FlowMaps>>;

  constructor(maps: Readonly<Record<IpFamily, FlowMaps>>) {
    this.#maps = maps;
  }

  entries(): ConntrackEntry[] {
    const entries: ConntrackEntry[] = [];
    for (const family of FAMILIES) {
      for (const map of [this.#maps[family].tcp, this.#maps[family].any]) {
        for (const { key, value } of map.entries()) entries.push(decodeConntrack(family, key, value));
      }
    }
    return entries;
  }

  snatEntries(): SnatEntry[] {
    const entries: SnatEntry[] = [];
    for (const family of FAMILIES) {
      for (const { key, value } of this.#maps[family].snat.entries()) entries.push(decodeSnat(family, key, value));
    }
    return entries;
  }

  /**
   * Forgets every flow of containers' addresses, before they are given out again; returns how many entries went. One walk
   * serves them all.
   */
  async purgeAddresses(all: readonly IpAddress[]): Promise<number> {
    let deleted = 0;
    for (const family of FAMILIES) {
      const addresses = all.filter((address) => address.family === family);
      if (addresses.length === 0) continue;
      const { tcp, any, snat, fragments } = this.#maps[family];
      const has = (test: (address: IpAddress) => boolean): boolean => addresses.some(test);
      for (const map of [tcp, any]) {
        deleted += await deleteWhere(map, ({ key }) => has((address) => conntrackKeyHas(key, address)));
      }
      deleted += await deleteWhere(snat, ({ key, value }) => has((address) => snatBelongsTo(key, value, address)));
      deleted += await deleteWhere(fragments, ({ key }) => has((address) => fragmentKeyHas(key, address)));
    }
    return deleted;
  }

  /** Takes away what is over at `nowS`, in seconds of CLOCK_MONOTONIC, and the masquerading of connections that are gone. */
  async collect(nowS: number): Promise<CollectResult> {
    let [conntrack, snat, alive] = [0, 0, 0];
    for (const family of FAMILIES) {
      const maps = this.#maps[family];
      for (const map of [maps.tcp, maps.any]) {
        conntrack += await deleteWhere(map, ({ value }) => {
          const isOver = conntrackExpiry(value) < nowS;
          if (!isOver) alive++;
          return isOver;
        });
      }
      snat += await deleteWhere(maps.snat, ({ key, value }) => {
        const entry = decodeSnat(family, key, value);
        return entry.created + SNAT_GRACE_S < nowS && !connectionExists(maps, entry);
      });
    }
    return { conntrack, snat, alive };
  }

  /** Forgets all flows; returns how many entries went. */
  async flush(): Promise<number> {
    let deleted = 0;
    for (const family of FAMILIES) {
      for (const map of Object.values(this.#maps[family]) as BpfMap[]) deleted += await deleteWhere(map, () => true);
    }
    return deleted;
  }
}

const FAMILIES: readonly IpFamily[] = [4, 6];

/** Whether the flow that a masquerade entry was made for is still known. */
function connectionExists(maps: FlowMaps, entry: SnatEntry): boolean {
  const forward = entry.direction === SNAT_FORWARD ? entry : oppositeSnatKey(entry);
  const map = forward.protocol === IPPROTO_TCP ? maps.tcp : maps.any;
  const key = encodeConntrackKey({
    protocol: forward.protocol,
    initiator: forward.source,
    initiatorPort: forward.sourcePort,
    responder: forward.destination,
    responderPort: forward.destinationPort,
  });
  if (!hasKey(map, key)) return false;
  return entry.direction === SNAT_FORWARD || hasKey(maps.snat, encodeSnatKey(forward));
}

function hasKey(map: BpfMap, key: Buffer): boolean {
  return map.lookup(key, Buffer.alloc(map.valueBytes));
}

/**
 * Deletes the entries that `matches`, a piece at a time; returns how many.
 *
 * Keys are deleted after their piece was read, so an entry that is written again in between goes as well; the datapath
 * makes it anew with the next packet.
 */
async function deleteWhere(map: BpfMap, matches: (entry: MapEntry) => boolean): Promise<number> {
  const { keySize } = map.info;
  let deleted = 0;
  for (const { keys, values, count } of map.batches()) {
    let found = 0;
    for (let i = 0; i < count; i++) {
      const key = keys.subarray(i * keySize, (i + 1) * keySize);
      const value = values.subarray(i * map.valueBytes, (i + 1) * map.valueBytes);
      // Keys to delete move to the front of the buffer: what stood there was looked at already.
      if (matches({ key, value })) keys.copyWithin(found++ * keySize, i * keySize, (i + 1) * keySize);
    }
    map.deleteBatch(keys.subarray(0, found * keySize), found);
    deleted += found;
    if (count > 0) await nextTurn();
  }
  return deleted;
}
