// SPDX-License-Identifier: Apache-2.0

/** VXLAN devices over rtnetlink (uapi/linux/if_link.h): only those whose packets carry their tunnel with them ("external"). */
import type { MacAddress } from '../../net/mac.ts';
import {
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MTU,
  ifinfo,
  RTM_NEWLINK,
} from './link-message.ts';
import { MessageWriter, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, readAttributes } from './message.ts';
import type { RouteSocket } from './route-socket.ts';

const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_COLLECT_METADATA = 25;

export const VXLAN_KIND = 'vxlan';

/** What a VXLAN device was made with. */
export interface VxlanSettings {
  /** UDP port of both ends. */
  readonly port: number;
  /** Each packet says where it goes and where it came from; the device itself belongs to no network. */
  readonly external: boolean;
  /** Remembers which MAC address is where; nothing for us. */
  readonly learning: boolean;
}

export interface VxlanRequest {
  readonly name: string;
  readonly port: number;
  readonly mac: MacAddress;
  readonly mtu: number;
}

/** Makes an external device without learning, down; throws EEXIST when the name is taken. It serves both address families. */
export function addVxlan(socket: RouteSocket, { name, port, mac, mtu }: VxlanRequest): void {
  const message = new MessageWriter(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).raw(ifinfo(0));
  message.string(IFLA_IFNAME, name).attribute(IFLA_ADDRESS, mac.bytes).uint32(IFLA_MTU, mtu);
  message.nested(IFLA_LINKINFO, () => {
    message.string(IFLA_INFO_KIND, VXLAN_KIND).nested(IFLA_INFO_DATA, () => {
      message.uint8(IFLA_VXLAN_COLLECT_METADATA, 1).uint8(IFLA_VXLAN_LEARNING, 0);
      message.attribute(IFLA_VXLAN_PORT, Uint8Array.of(port >> 8, port & 0xff));
    });
  });
  socket.request(`create device ${name}`, message);
}

export function decodeVxlan(data: Buffer): VxlanSettings {
  const attributes = readAttributes(data, 0);
  return {
    port: attributes.get(IFLA_VXLAN_PORT)?.readUInt16BE() ?? 0,
    external: attributes.get(IFLA_VXLAN_COLLECT_METADATA)?.[0] === 1,
    learning: attributes.get(IFLA_VXLAN_LEARNING)?.[0] === 1,
  };
}
