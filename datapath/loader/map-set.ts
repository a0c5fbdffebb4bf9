// SPDX-License-Identifier: Apache-2.0

/** The maps of the datapath, by name, opened from their pins. */
import { readFileSync } from 'node:fs';
import { CiliumError } from '../../errors/cilium-error.ts';
import { BpfMap, MAP_TYPE } from '../ffi/bpf-map.ts';

export const MAP_NAMES = [
  'cilium_lxc',
  'cilium_ipcache',
  'cilium_identities',
  'cilium_calls',
  'cilium_tunnel_source',
  'cilium_policy',
  'cilium_ct4_tcp',
  'cilium_ct4_any',
  'cilium_ct6_tcp',
  'cilium_ct6_any',
  'cilium_snat4',
  'cilium_snat6',
  'cilium_devices',
  'cilium_ipv4_frag_datagrams',
  'cilium_ipv6_frag_datagrams',
  'cilium_metrics',
  'cilium_events',
] as const;
export type MapName = (typeof MAP_NAMES)[number];

export interface MapDescription {
  readonly name: string;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Present ones; undefined where the word means nothing (the event ring, arrays). */
  readonly entries: number | undefined;
  /** What the kernel accounts for it, inner maps not included. */
  readonly memoryBytes: number;
}

/** Where entries are always all there, or are no entries. */
const UNCOUNTED_TYPES: ReadonlySet<number> = new Set([
  MAP_TYPE.ringbuf,
  MAP_TYPE.array,
  MAP_TYPE.progArray,
  MAP_TYPE.percpuArray,
]);

const TYPE_NAMES = new Map<number, string>(Object.entries(MAP_TYPE).map(([name, type]) => [type, name]));

/** Throws `NotFound` when one of the maps is not pinned: no object that was loaded has it. */
export function openMaps(mapDir: string): Map<MapName, BpfMap> {
  const maps = new Map<MapName, BpfMap>();
  try {
    for (const name of MAP_NAMES) {
      const map = BpfMap.openPinned(name, `${mapDir}/${name}`);
      if (map === undefined) throw new CiliumError('NotFound', `no map ${name} in ${mapDir}`, { name });
      maps.set(name, map);
    }
    return maps;
  } catch (error) {
    for (const map of maps.values()) map.close();
    throw error;
  }
}

export function describeMap(map: BpfMap): MapDescription {
  const { type, keySize, valueSize, maxEntries } = map.info;
  return {
    name: map.name,
    type: TYPE_NAMES.get(type) ?? String(type),
    keySize,
    valueSize,
    maxEntries,
    entries: UNCOUNTED_TYPES.has(type) ? undefined : countEntries(map),
    memoryBytes: accountedBytes(map),
  };
}

function countEntries(map: BpfMap): number {
  let total = 0;
  for (const { count } of map.batches()) total += count;
  return total;
}

/** The kernel says it in fdinfo; 0 on a kernel that does not. */
function accountedBytes(map: BpfMap): number {
  const info = readFileSync(`/proc/self/fdinfo/${map.fd}`, 'latin1');
  return Number(/^memlock:\s*(\d+)$/m.exec(info)?.[1] ?? 0);
}
