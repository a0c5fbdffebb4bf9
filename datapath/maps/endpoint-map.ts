// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_lxc: the address of a container of this node -> its endpoint. Anti-spoofing and delivery look here.
 *
 * C twin: struct endpoint_key, struct endpoint_info in bpf-src/lib/abi.h.
 */
import type { IpAddress } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import { layout } from '../btf/layout.ts';
import type { BpfMap } from '../ffi/bpf-map.ts';
import { ADDR_FAMILY, familyOf, readAddress, writeAddress } from './address.ts';

export const ENDPOINT_F_HOST = 1;
export const ENDPOINT_F_INTERNAL = 2;

export const ENDPOINT_KEY = layout('endpoint_key', 20, { addr: 0, family: 16 });
export const ENDPOINT_INFO = layout('endpoint_info', 36, {
  ifindex: 0,
  identity: 4,
  policy_slot: 8,
  flags: 12,
  id: 16,
  mtu: 18,
  mac: 20,
  host_mac: 26,
});

export interface EndpointInfo {
  /** Of the host side of the veth pair. */
  readonly ifindex: number;
  readonly identity: number;
  /** Slot of its policy (policy-slots.ts); 0 is closed. */
  readonly policySlot: number;
  readonly id: number;
  readonly mtu: number;
  /** Of the container's interface. */
  readonly mac: MacAddress;
  /** Of the host side: what ARP and ND answers carry. */
  readonly hostMac: MacAddress;
  /** On a Docker network made with --internal: neither host nor world. */
  readonly internal: boolean;
  /** An address of the node itself; nothing else in the record counts then. */
  readonly host: boolean;
}

const NO_MAC = new MacAddress(new Uint8Array(6));

/** The record of the node's own addresses. */
export const HOST_ENDPOINT: EndpointInfo = {
  ifindex: 0,
  identity: 0,
  policySlot: 0,
  id: 0,
  mtu: 0,
  mac: NO_MAC,
  hostMac: NO_MAC,
  internal: false,
  host: true,
};

export function encodeEndpointKey(address: IpAddress, key: Buffer): void {
  key.fill(0);
  writeAddress(key, ENDPOINT_KEY.at.addr, address);
  key[ENDPOINT_KEY.at.family] = ADDR_FAMILY[address.family];
}

export function decodeEndpointKey(key: Buffer): IpAddress {
  return readAddress(key, ENDPOINT_KEY.at.addr, familyOf(key[ENDPOINT_KEY.at.family]!) ?? 6);
}

export function encodeEndpointInfo(info: EndpointInfo, value: Buffer): void {
  const { at } = ENDPOINT_INFO;
  value.fill(0);
  value.writeUInt32LE(info.ifindex, at.ifindex);
  value.writeUInt32LE(info.identity, at.identity);
  value.writeUInt32LE(info.policySlot, at.policy_slot);
  value.writeUInt32LE((info.host ? ENDPOINT_F_HOST : 0) | (info.internal ? ENDPOINT_F_INTERNAL : 0), at.flags);
  value.writeUInt16LE(info.id, at.id);
  value.writeUInt16LE(info.mtu, at.mtu);
  value.set(info.mac.bytes, at.mac);
  value.set(info.hostMac.bytes, at.host_mac);
}

export function decodeEndpointInfo(value: Buffer): EndpointInfo {
  const { at } = ENDPOINT_INFO;
  const flags = value.readUInt32LE(at.flags);
  return {
    ifindex: value.readUInt32LE(at.ifindex),
    identity: value.readUInt32LE(at.identity),
    policySlot: value.readUInt32LE(at.policy_slot),
    id: value.readUInt16LE(at.id),
    mtu: value.readUInt16LE(at.mtu),
    mac: new MacAddress(Uint8Array.from(value.subarray(at.mac, at.mac + 6))),
    hostMac: new MacAddress(Uint8Array.from(value.subarray(at.host_mac, at.host_mac + 6))),
    internal: (flags & ENDPOINT_F_INTERNAL) !== 0,
    host: (flags & ENDPOINT_F_HOST) !== 0,
  };
}

export class EndpointMap {
  readonly #map: BpfMap;
  readonly #key = Buffer.alloc(ENDPOINT_KEY.size);
  readonly #value = Buffer.alloc(ENDPOINT_INFO.size);

  constructor(map: BpfMap) {
    this.#map = map;
  }

  /** Writes the record in one step: a packet sees the old one or the new one. */
  update(address: IpAddress, info: EndpointInfo): void {
    encodeEndpointKey(address, this.#key);
    encodeEndpointInfo(info, this.#value);
    this.#map.update(this.#key, this.#value);
  }

  /** False when there was no such address. */
  delete(address: IpAddress): boolean {
    encodeEndpointKey(address, this.#key);
    return this.#map.delete(this.#key);
  }

  get(address: IpAddress): EndpointInfo | undefined {
    encodeEndpointKey(address, this.#key);
    return this.#map.lookup(this.#key, this.#value) ? decodeEndpointInfo(this.#value) : undefined;
  }

  entries(): { address: IpAddress; info: EndpointInfo }[] {
    const entries: { address: IpAddress; info: EndpointInfo }[] = [];
    for (const { key, value } of this.#map.entries()) {
      entries.push({ address: decodeEndpointKey(key), info: decodeEndpointInfo(value) });
    }
    return entries;
  }
}
