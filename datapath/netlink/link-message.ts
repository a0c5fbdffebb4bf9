// SPDX-License-Identifier: Apache-2.0

/** What requests about devices of every kind are made of (uapi/linux/if_link.h). */

export const RTM_NEWLINK = 16;

export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINKINFO = 18;
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;

/** struct ifinfomsg */
export const IFINFO_BYTES = 16;

export function ifinfo(ifindex: number, flags = 0, change = 0): Buffer {
  const header = Buffer.alloc(IFINFO_BYTES);
  header.writeInt32LE(ifindex, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}
