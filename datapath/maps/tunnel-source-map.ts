// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_tunnel_source: the IPv4 address by which other nodes know this one. With it ordinary packets of tunnels pass by the
 * device (bpf-src/lib/direct.h); it has to be the very address that others have as tunnel endpoint, or they drop them.
 */
import { CiliumError } from '../../errors/cilium-error.ts';
import type { IpAddress } from '../../net/ip.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';

export class TunnelSourceMap {
  readonly #map: BpfMap;

  constructor(map: BpfMap) {
    this.#map = map;
  }

  /** From the next packet on; undefined: all packets take the device's way. */
  set(address: IpAddress | undefined): void {
    if (address !== undefined && address.family !== 4) {
      throw new CiliumError('Internal', `the source of direct tunnels is an IPv4 address, not ${address.toString()}`);
    }
    this.#map.update(Buffer.alloc(4), address?.bytes ?? Buffer.alloc(4));
  }
}
