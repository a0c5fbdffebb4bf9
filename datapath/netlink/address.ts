// SPDX-License-Identifier: Apache-2.0

/** Addresses of devices over rtnetlink (uapi/linux/if_addr.h). */
import { IpAddress } from '../../net/ip.ts';
import { isErrno } from '../ffi/errno.ts';
import { ADDRESS_BYTES } from '../maps/address.ts';
import {
  type Message,
  MessageWriter,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  readAttributes,
} from './message.ts';
import type { RouteSocket } from './route-socket.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFADDR_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 0x2;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_NOPREFIXROUTE = 0x200;

export const AF_UNSPEC = 0;
export const ADDRESS_FAMILY = { 4: 2, 6: 10 } as const;

export const SCOPE_GLOBAL = 0;

export interface InterfaceAddress {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** RT_SCOPE_*; 0 is global. */
  readonly scope: number;
  /** Not to be used as a source for something new: deprecated, or not yet known to be unique. */
  readonly unsettled: boolean;
}

function ifaddr(ifindex: number, address: IpAddress | undefined, prefixLength: number): Buffer {
  const header = Buffer.alloc(IFADDR_BYTES);
  header[0] = address === undefined ? AF_UNSPEC : ADDRESS_FAMILY[address.family];
  header[1] = prefixLength;
  header[3] = SCOPE_GLOBAL;
  header.writeUInt32LE(ifindex, 4);
  return header;
}

function decodeAddress(message: Message): InterfaceAddress | undefined {
  const { payload } = message;
  const family = payload[0] === ADDRESS_FAMILY[4] ? 4 : 6;
  const attributes = readAttributes(payload, IFADDR_BYTES);
  const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (bytes?.length !== ADDRESS_BYTES[family]) return undefined;
  const flags = attributes.get(IFA_FLAGS)?.readUInt32LE() ?? payload[2]!;
  return {
    ifindex: payload.readUInt32LE(4),
    address: new IpAddress(Uint8Array.from(bytes)),
    prefixLength: payload[1]!,
    scope: payload[3]!,
    unsettled: (flags & (IFA_F_DEPRECATED | IFA_F_TENTATIVE)) !== 0,
  };
}

/** Adds a global address without duplicate detection and without a route for its prefix; false when it was there. */
export function addAddress(socket: RouteSocket, ifindex: number, address: IpAddress, prefixLength: number): boolean {
  const message = new MessageWriter(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    .raw(ifaddr(ifindex, address, prefixLength))
    .attribute(IFA_LOCAL, address.bytes)
    .attribute(IFA_ADDRESS, address.bytes)
    .uint32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
  try {
    socket.request(`add address ${address.toString()}/${prefixLength} to device ${ifindex}`, message);
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

/** False when the device did not have it. */
export function deleteAddress(socket: RouteSocket, ifindex: number, address: IpAddress, prefixLength: number): boolean {
  const message = new MessageWriter(RTM_DELADDR, NLM_F_ACK)
    .raw(ifaddr(ifindex, address, prefixLength))
    .attribute(IFA_LOCAL, address.bytes)
    .attribute(IFA_ADDRESS, address.bytes);
  try {
    socket.request(`delete address ${address.toString()}/${prefixLength} from device ${ifindex}`, message);
    return true;
  } catch (error) {
    if (isErrno(error, 'EADDRNOTAVAIL', 'ENODEV')) return false;
    throw error;
  }
}

/** Addresses of both families; of one device, or of all. */
export function listAddresses(socket: RouteSocket, ifindex = 0): InterfaceAddress[] {
  const message = new MessageWriter(RTM_GETADDR, NLM_F_DUMP).raw(ifaddr(ifindex, undefined, 0));
  const answer = socket.request('list addresses', message);
  return answer.map(decodeAddress).filter((address) => address !== undefined);
}
