// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_ipv{4,6}_frag_datagrams: the ports of a datagram's first fragment, for those that follow it.
 *
 * C twin: struct frag4_key, frag6_key, frag_ports in bpf-src/lib/abi.h. The agent only takes entries away.
 */
import type { IpAddress } from '../../net/ip.ts';
import { layout } from '../btf/layout.ts';
import { ADDRESS_BYTES } from './address.ts';

export const FRAG4_KEY = layout('frag4_key', 12, { saddr: 0, daddr: 4, id: 8, protocol: 10 });
export const FRAG6_KEY = layout('frag6_key', 40, { saddr: 0, daddr: 16, id: 32, protocol: 36 });
export const FRAG_PORTS = layout('frag_ports', 4, { sport: 0, dport: 2 });

/** True when the datagram goes to or comes from `address` (of the map's family). */
export function fragmentKeyHas(key: Buffer, address: IpAddress): boolean {
  const length = ADDRESS_BYTES[address.family];
  const { saddr, daddr } = (address.family === 4 ? FRAG4_KEY : FRAG6_KEY).at;
  return (
    key.compare(address.bytes, 0, length, saddr, saddr + length) === 0 ||
    key.compare(address.bytes, 0, length, daddr, daddr + length) === 0
  );
}
