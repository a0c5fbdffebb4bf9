// SPDX-License-Identifier: Apache-2.0

/** What a new endpoint's interface is called, and what a request says that comes again. */
import { randomBytes } from 'node:crypto';
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress } from '../net/ip.ts';
import { MacAddress } from '../net/mac.ts';
import type { CreateRequest } from './endpoint-manager-deps.ts';
import type { Endpoint } from './endpoint.ts';

/** Name of the container side while it is still in the node's namespace; Docker renames it to eth0 or so. */
export function peerNameOf(dockerEndpointId: string): string {
  return `tmp${dockerEndpointId.slice(0, 12)}`;
}

export function randomMac(): MacAddress {
  return MacAddress.fromRandom(randomBytes(6));
}

/** Docker may repeat itself; `AlreadyExists` when it says something else than before. */
export function repeated(known: Endpoint, request: CreateRequest): Endpoint {
  const same = (a: IpAddress | undefined, b: IpAddress | undefined): boolean =>
    b === undefined || a?.equals(b) === true;
  if (same(known.facts.ipv4, request.ipv4) && same(known.facts.ipv6, request.ipv6)) return known;
  throw new CiliumError(
    'AlreadyExists',
    `endpoint ${request.dockerEndpointId.slice(0, 12)} exists with other addresses (${known.addresses.join(', ')})`,
  );
}
