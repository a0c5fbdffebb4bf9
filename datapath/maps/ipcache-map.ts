// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_ipcache: prefix -> identity, by longest match. A miss means "not ready", so the agent keeps 0.0.0.0/0 and ::/0 there.
 *
 * C twin: struct ipcache_key, struct ipcache_info in bpf-src/lib/abi.h.
 */
import { Prefix, type IpAddress } from '../../net/ip.ts';
import { layout } from '../btf/layout.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';
import { ADDR_FAMILY, familyOf, readAddress, writeAddress } from './address.ts';

/** Bits of padding and family, which every prefix compares. */
export const IPCACHE_STATIC_PREFIX = 32;

export const IPCACHE_KEY = layout('ipcache_key', 24, { prefixlen: 0, family: 7, addr: 8 });
export const IPCACHE_INFO = layout('ipcache_info', 24, { identity: 0, tunnel_endpoint: 4, flags: 23 });

export const IPCACHE_F_SKIP_TUNNEL = 1;
export const IPCACHE_F_HAS_TUNNEL = 2;
export const IPCACHE_F_IPV6_TUNNEL = 4;

export interface IpcacheInfo {
  readonly identity: number;
  /** The node that the address lives on; absent: none, or this node. */
  readonly tunnelEndpoint?: IpAddress | undefined;
  /** Reached by the node's routes even when there is a tunnel; only with `tunnelEndpoint`. @default false */
  readonly skipTunnel?: boolean | undefined;
}

export function encodeIpcacheKey(prefix: Prefix, key: Buffer): void {
  const { at } = IPCACHE_KEY;
  key.fill(0);
  key.writeUInt32LE(IPCACHE_STATIC_PREFIX + prefix.length, at.prefixlen);
  key[at.family] = ADDR_FAMILY[prefix.family];
  writeAddress(key, at.addr, prefix.address);
}

export function decodeIpcacheKey(key: Buffer): Prefix {
  const { at } = IPCACHE_KEY;
  const address = readAddress(key, at.addr, familyOf(key[at.family]!) ?? 6);
  return new Prefix(address, key.readUInt32LE(at.prefixlen) - IPCACHE_STATIC_PREFIX);
}

export function encodeIpcacheInfo(info: IpcacheInfo, value: Buffer): void {
  const { at } = IPCACHE_INFO;
  value.fill(0);
  value.writeUInt32LE(info.identity, at.identity);
  if (info.tunnelEndpoint === undefined) return;
  writeAddress(value, at.tunnel_endpoint, info.tunnelEndpoint);
  const family = info.tunnelEndpoint.family === 6 ? IPCACHE_F_IPV6_TUNNEL : 0;
  value[at.flags] = IPCACHE_F_HAS_TUNNEL | family | (info.skipTunnel === true ? IPCACHE_F_SKIP_TUNNEL : 0);
}

export function decodeIpcacheInfo(value: Buffer): IpcacheInfo {
  const { at } = IPCACHE_INFO;
  const identity = value.readUInt32LE(at.identity);
  const flags = value[at.flags]!;
  if ((flags & IPCACHE_F_HAS_TUNNEL) === 0) return { identity };
  return {
    identity,
    tunnelEndpoint: readAddress(value, at.tunnel_endpoint, (flags & IPCACHE_F_IPV6_TUNNEL) === 0 ? 4 : 6),
    skipTunnel: (flags & IPCACHE_F_SKIP_TUNNEL) !== 0,
  };
}

export class IpcacheMap {
  readonly #map: BpfMap;
  readonly #key = Buffer.alloc(IPCACHE_KEY.size);
  readonly #value = Buffer.alloc(IPCACHE_INFO.size);

  constructor(map: BpfMap) {
    this.#map = map;
  }

  update(prefix: Prefix, info: IpcacheInfo): void {
    encodeIpcacheKey(prefix, this.#key);
    encodeIpcacheInfo(info, this.#value);
    this.#map.update(this.#key, this.#value);
  }

  /** False when exactly this prefix was not there. */
  delete(prefix: Prefix): boolean {
    encodeIpcacheKey(prefix, this.#key);
    return this.#map.delete(this.#key);
  }

  entries(): { prefix: Prefix; info: IpcacheInfo }[] {
    const entries: { prefix: Prefix; info: IpcacheInfo }[] = [];
    for (const { key, value } of this.#map.entries()) {
      entries.push({ prefix: decodeIpcacheKey(key), info: decodeIpcacheInfo(value) });
    }
    return entries;
  }
}
