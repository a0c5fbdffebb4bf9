// SPDX-License-Identifier: Apache-2.0

/** Docker's IPAM-driver methods (libnetwork docs/ipam.md) on an `Ipam`. */
import type { Router } from 'express';
import { z } from 'zod';
import type { IpAddress } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/logger.ts';
import { GLOBAL_SPACE, LOCAL_SPACE, type Ipam } from './ipam.ts';
import { PluginRouter } from './plugin-router.ts';
import { addressField, idField, prefixField } from './wire-fields.ts';

const ADDRESS_TYPE = 'RequestAddressType';
const GATEWAY_TYPE = 'com.docker.network.gateway';

const RequestPool = z.object({
  AddressSpace: z.enum([LOCAL_SPACE, GLOBAL_SPACE]),
  Pool: prefixField,
  SubPool: prefixField,
  V6: z.boolean().default(false),
});
const ReleasePool = z.object({ PoolID: idField });
const RequestAddress = z.object({
  PoolID: idField,
  Address: addressField,
  Options: z.record(z.string(), z.unknown()).nullish(),
});
/** The IPv6 address that our network driver gave itself is released, too, as one of the pool "": DeleteEndpoint frees it. */
const ReleaseAddress = z.object({ PoolID: z.string(), Address: addressField });

export function ipamRouter(ipam: Ipam, log: Logger, clock: Clock): Router {
  const methods = new PluginRouter(log, clock);
  methods.constant('IpamDriver.GetCapabilities', { RequiresMACAddress: false, RequiresRequestReplay: true });
  methods.constant('IpamDriver.GetDefaultAddressSpaces', {
    LocalDefaultAddressSpace: LOCAL_SPACE,
    GlobalDefaultAddressSpace: GLOBAL_SPACE,
  });
  methods.on('IpamDriver.RequestPool', RequestPool, ({ AddressSpace, Pool, SubPool, V6 }) => {
    const pool = ipam.requestPool({
      space: AddressSpace,
      family: V6 ? 6 : 4,
      prefix: Pool ?? undefined,
      range: SubPool ?? undefined,
    });
    return { PoolID: pool.id, Pool: pool.prefix.toString(), Data: {} };
  });
  methods.on('IpamDriver.ReleasePool', ReleasePool, ({ PoolID }) => {
    ipam.releasePool(PoolID);
    return {};
  });
  methods.on('IpamDriver.RequestAddress', RequestAddress, ({ PoolID, Address, Options }) => {
    const gateway = Options?.[ADDRESS_TYPE] === GATEWAY_TYPE;
    const address = ipam.requestAddress(PoolID, { address: Address ?? undefined, gateway });
    return { Address: hostRoute(address), Data: {} };
  });
  methods.on('IpamDriver.ReleaseAddress', ReleaseAddress, ({ PoolID, Address }) => {
    if (Address) ipam.releaseAddress(PoolID, Address);
    return {};
  });
  return methods.router;
}

/** Addresses go out with their full length: a container has no neighbours, everything goes through its gateway. */
function hostRoute(address: IpAddress): string {
  return `${address.toString()}/${address.bits}`;
}
