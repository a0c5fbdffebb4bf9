// SPDX-License-Identifier: Apache-2.0

/** Network devices over rtnetlink (uapi/linux/if_link.h): what is asked and what the answer says. */
import { MacAddress } from '../../net/mac.ts';
import { isErrno } from '../ffi/errno.ts';
import {
  type Message,
  MessageWriter,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  readAttributes,
  readString,
} from './message.ts';
import {
  IFINFO_BYTES,
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MTU,
  ifinfo,
  RTM_NEWLINK,
} from './link-message.ts';
import type { RouteSocket } from './route-socket.ts';
import { decodeVxlan, VXLAN_KIND, type VxlanSettings } from './vxlan.ts';

const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;

const IFLA_IFALIAS = 20;
const IFLA_AF_SPEC = 26;
const IFLA_EXT_MASK = 29;
const VETH_INFO_PEER = 1;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
const RTEXT_FILTER_SKIP_STATS = 8;
const AF_INET6 = 10;

const IFF_UP = 0x1;
const IFF_NOARP = 0x80;

/** Longest name of a device. */
export const MAX_LINK_NAME = 15;

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Absent on devices that have none. */
  readonly mac: MacAddress | undefined;
  readonly alias: string;
  /** "veth", "vxlan" …; empty for hardware and lo. */
  readonly kind: string;
  /** Of a VXLAN device. */
  readonly vxlan?: VxlanSettings;
}

export interface VethEnd {
  readonly name: string;
  readonly mac: MacAddress;
  readonly mtu: number;
}

export interface LinkChange {
  readonly up?: boolean;
  readonly noArp?: boolean;
  readonly mtu?: number;
  readonly alias?: string;
  /** False: the kernel makes no link-local address for the device. */
  readonly generateAddresses?: boolean;
}

function decodeLink(message: Message): Link {
  const { payload } = message;
  const attributes = readAttributes(payload, IFINFO_BYTES);
  const mac = attributes.get(IFLA_ADDRESS);
  const info = attributes.get(IFLA_LINKINFO);
  const details = info === undefined ? undefined : readAttributes(info, 0);
  const kind = readString(details?.get(IFLA_INFO_KIND) ?? Buffer.alloc(0));
  const data = details?.get(IFLA_INFO_DATA);
  const alias = attributes.get(IFLA_IFALIAS);
  return {
    ifindex: payload.readInt32LE(4),
    name: readString(attributes.get(IFLA_IFNAME) ?? Buffer.alloc(0)),
    mtu: attributes.get(IFLA_MTU)?.readUInt32LE() ?? 0,
    up: (payload.readUInt32LE(8) & IFF_UP) !== 0,
    mac: mac?.length === 6 ? new MacAddress(Uint8Array.from(mac)) : undefined,
    alias: alias === undefined ? '' : readString(alias),
    kind,
    ...(kind === VXLAN_KIND && data !== undefined && { vxlan: decodeVxlan(data) }),
  };
}

/** Makes a veth pair, both ends down; throws EEXIST when one of the names is taken. */
export function addVeth(socket: RouteSocket, host: VethEnd, peer: VethEnd): void {
  const message = new MessageWriter(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  const end = ({ name, mac, mtu }: VethEnd): MessageWriter =>
    message.string(IFLA_IFNAME, name).attribute(IFLA_ADDRESS, mac.bytes).uint32(IFLA_MTU, mtu);
  message.raw(ifinfo(0));
  end(host).nested(IFLA_LINKINFO, () => {
    message.string(IFLA_INFO_KIND, 'veth').nested(IFLA_INFO_DATA, () => {
      message.nested(VETH_INFO_PEER, () => {
        message.raw(ifinfo(0));
        end(peer);
      });
    });
  });
  socket.request(`create veth ${host.name}/${peer.name}`, message);
}

export function changeLink(socket: RouteSocket, ifindex: number, change: LinkChange): void {
  const flags = (change.up === true ? IFF_UP : 0) | (change.noArp === true ? IFF_NOARP : 0);
  const mask = (change.up === undefined ? 0 : IFF_UP) | (change.noArp === undefined ? 0 : IFF_NOARP);
  const message = new MessageWriter(RTM_SETLINK, NLM_F_ACK).raw(ifinfo(ifindex, flags, mask));
  if (change.mtu !== undefined) message.uint32(IFLA_MTU, change.mtu);
  if (change.alias !== undefined) message.attribute(IFLA_IFALIAS, Buffer.from(change.alias));
  if (change.generateAddresses === false) {
    message.nested(IFLA_AF_SPEC, () => {
      message.nested(AF_INET6, () => message.uint8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
    });
  }
  socket.request(`change device ${ifindex}`, message);
}

/** The request that deletes a device; of a veth both ends. Served in 10-30 ms, so it is for `requestAsync`. */
export function deleteLinkMessage(name: string): MessageWriter {
  return new MessageWriter(RTM_DELLINK, NLM_F_ACK).raw(ifinfo(0)).string(IFLA_IFNAME, name);
}

/** Undefined when there is no such device. */
export function getLink(socket: RouteSocket, name: string): Link | undefined {
  if (name === '' || name.length > MAX_LINK_NAME) return undefined;
  const message = new MessageWriter(RTM_GETLINK, NLM_F_ACK)
    .raw(ifinfo(0))
    .uint32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    .string(IFLA_IFNAME, name);
  try {
    const answer = socket.request(`read device ${name}`, message)[0];
    return answer === undefined ? undefined : decodeLink(answer);
  } catch (error) {
    if (isErrno(error, 'ENODEV')) return undefined;
    throw error;
  }
}

export function listLinks(socket: RouteSocket): Link[] {
  const message = new MessageWriter(RTM_GETLINK, NLM_F_DUMP)
    .raw(ifinfo(0))
    .uint32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return socket.request('list devices', message).map(decodeLink);
}
