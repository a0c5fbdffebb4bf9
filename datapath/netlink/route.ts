// SPDX-License-Identifier: Apache-2.0

/** Routes of the main table over rtnetlink (uapi/linux/rtnetlink.h). */
import { IpAddress, type IpFamily, Prefix } from '../../net/ip.ts';
import { isErrno } from '../ffi/errno.ts';
import { ADDRESS_FAMILY } from './address.ts';
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

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTMSG_BYTES = 12;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
/** Marks a route as ours: `ip route` shows "proto 133" (free in iproute2's rt_protos). */
export const ROUTE_PROTOCOL = 133;

export interface Route {
  readonly prefix: Prefix;
  readonly ifindex: number;
  readonly gateway?: IpAddress | undefined;
  /** Source address of what the node itself sends this way. */
  readonly source?: IpAddress | undefined;
}

export interface ListedRoute extends Route {
  /** Who made it: ROUTE_PROTOCOL for ours, 2 the kernel, 3 boot … */
  readonly protocol: number;
}

function rtmsg(family: IpFamily, prefixLength: number, protocol: number): Buffer {
  const header = Buffer.alloc(RTMSG_BYTES);
  header[0] = ADDRESS_FAMILY[family];
  header[1] = prefixLength;
  header[4] = RT_TABLE_MAIN;
  header[5] = protocol;
  // header[6], the scope, stays 0, global: with Docker's IPAM a link-scope route would be taken for an address pool.
  header[7] = RTN_UNICAST;
  return header;
}

function encodeRoute(message: MessageWriter, route: Route): MessageWriter {
  message.raw(rtmsg(route.prefix.family, route.prefix.length, ROUTE_PROTOCOL));
  if (route.prefix.length > 0) message.attribute(RTA_DST, route.prefix.address.bytes);
  message.uint32(RTA_OIF, route.ifindex);
  if (route.gateway !== undefined) message.attribute(RTA_GATEWAY, route.gateway.bytes);
  if (route.source !== undefined) message.attribute(RTA_PREFSRC, route.source.bytes);
  return message;
}

function decodeRoute(family: IpFamily, message: Message): ListedRoute | undefined {
  const { payload } = message;
  if (payload[4] !== RT_TABLE_MAIN || payload[7] !== RTN_UNICAST) return undefined;
  const attributes = readAttributes(payload, RTMSG_BYTES);
  const address = (type: number): IpAddress | undefined => {
    const bytes = attributes.get(type);
    return bytes === undefined ? undefined : new IpAddress(Uint8Array.from(bytes));
  };
  const destination = address(RTA_DST) ?? new IpAddress(new Uint8Array(family === 4 ? 4 : 16));
  return {
    prefix: new Prefix(destination, payload[1]!),
    ifindex: attributes.get(RTA_OIF)?.readUInt32LE() ?? 0,
    gateway: address(RTA_GATEWAY),
    source: address(RTA_PREFSRC),
    protocol: payload[5]!,
  };
}

/** False when a route to the same prefix was there. */
export function addRoute(socket: RouteSocket, route: Route): boolean {
  const message = encodeRoute(new MessageWriter(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL), route);
  try {
    socket.request(`add route ${route.prefix.toString()} to device ${route.ifindex}`, message);
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

/** False when there was no such route of ours. */
export function deleteRoute(socket: RouteSocket, route: Route): boolean {
  const message = encodeRoute(new MessageWriter(RTM_DELROUTE, NLM_F_ACK), route);
  try {
    socket.request(`delete route ${route.prefix.toString()} to device ${route.ifindex}`, message);
    return true;
  } catch (error) {
    if (isErrno(error, 'ESRCH', 'ENODEV')) return false;
    throw error;
  }
}

/** Unicast routes of the main table, both families. */
export function listRoutes(socket: RouteSocket): ListedRoute[] {
  const families: readonly IpFamily[] = [4, 6];
  return families.flatMap((family) => {
    const header = rtmsg(family, 0, 0);
    header[7] = 0;
    const answer = socket.request('list routes', new MessageWriter(RTM_GETROUTE, NLM_F_DUMP).raw(header));
    return answer.map((message) => decodeRoute(family, message)).filter((route) => route !== undefined);
  });
}
