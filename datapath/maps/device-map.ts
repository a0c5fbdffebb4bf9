// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_devices: ifindex -> a device of the node towards the outside and the addresses it masquerades with.
 *
 * C twin: struct device_info in bpf-src/lib/abi.h.
 */
import type { IpAddress } from '../../net/ip.ts';
import { layout } from '../btf/layout.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';
import { readAddress } from './address.ts';

export const DEVICE_F_MASQUERADE4 = 1;
export const DEVICE_F_MASQUERADE6 = 2;

export const DEVICE_INFO = layout('device_info', 24, { flags: 0, ipv4: 4, ipv6: 8 });

export interface DeviceInfo {
  /** Source of what containers send out; absent: they are not translated in this family. */
  readonly ipv4?: IpAddress | undefined;
  readonly ipv6?: IpAddress | undefined;
}

export function encodeDeviceInfo(info: DeviceInfo, value: Buffer): void {
  const { at } = DEVICE_INFO;
  value.fill(0);
  const flags = (info.ipv4 ? DEVICE_F_MASQUERADE4 : 0) | (info.ipv6 ? DEVICE_F_MASQUERADE6 : 0);
  value.writeUInt32LE(flags, at.flags);
  if (info.ipv4) value.set(info.ipv4.bytes, at.ipv4);
  if (info.ipv6) value.set(info.ipv6.bytes, at.ipv6);
}

export function decodeDeviceInfo(value: Buffer): DeviceInfo {
  const { at } = DEVICE_INFO;
  const flags = value.readUInt32LE(at.flags);
  return {
    ipv4: (flags & DEVICE_F_MASQUERADE4) === 0 ? undefined : readAddress(value, at.ipv4, 4),
    ipv6: (flags & DEVICE_F_MASQUERADE6) === 0 ? undefined : readAddress(value, at.ipv6, 6),
  };
}

export class DeviceMap {
  readonly #map: BpfMap;
  readonly #key = Buffer.alloc(4);
  readonly #value = Buffer.alloc(DEVICE_INFO.size);

  constructor(map: BpfMap) {
    this.#map = map;
  }

  update(ifindex: number, info: DeviceInfo): void {
    this.#key.writeUInt32LE(ifindex);
    encodeDeviceInfo(info, this.#value);
    this.#map.update(this.#key, this.#value);
  }

  /** False when there was no such device. */
  delete(ifindex: number): boolean {
    this.#key.writeUInt32LE(ifindex);
    return this.#map.delete(this.#key);
  }

  entries(): { ifindex: number; info: DeviceInfo }[] {
    const entries: { ifindex: number; info: DeviceInfo }[] = [];
    for (const { key, value } of this.#map.entries()) {
      entries.push({ ifindex: key.readUInt32LE(), info: decodeDeviceInfo(value) });
    }
    return entries;
  }
}
