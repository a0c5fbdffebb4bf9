// SPDX-License-Identifier: Apache-2.0

/** The ports that containers are masqueraded with: around those that the host's own sockets are given by the kernel. */
import { readSysctl } from './sysctl.ts';

export interface PortRange {
  readonly first: number;
  /** Below `first`: the range is empty. */
  readonly last: number;
}

const FIRST_UNPRIVILEGED = 1024;
const LAST = 65535;
/** What the kernel starts with. */
const DEFAULT_LOCAL_RANGE = '32768 60999';

/** @param localRange net.ipv4.ip_local_port_range, which counts for IPv6 as well */
export function masqueradePorts(
  localRange: string = readSysctl('net/ipv4/ip_local_port_range') ?? DEFAULT_LOCAL_RANGE,
): { lower: PortRange; upper: PortRange } {
  const [first = 32768, last = 60999] = localRange.trim().split(/\s+/).map(Number);
  return {
    lower: { first: FIRST_UNPRIVILEGED, last: first - 1 },
    upper: { first: Math.min(last + 1, LAST), last: last >= LAST ? LAST - 1 : LAST },
  };
}
