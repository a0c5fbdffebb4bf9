// SPDX-License-Identifier: Apache-2.0

/** Requests as Docker's engines send them, recorded on 20.10 and 28 (libnetwork's wire format). */
import assert from 'node:assert/strict';
import type { PluginFixture } from './plugin-fixture.ts';

export interface NetworkShape {
  /** Who gives addresses: our IPAM (pools are requested first, as Docker does) or Docker's. */
  readonly ipam?: 'cilium' | 'default';
  readonly ipv6?: boolean;
  readonly internal?: boolean;
  readonly subnet?: string;
  readonly gateway?: string;
  readonly ipRange?: string;
  readonly subnet6?: string;
  readonly options?: Readonly<Record<string, string>>;
}

export interface IpamData {
  readonly AddressSpace: string;
  readonly Pool: string;
  readonly Gateway: string;
}

export function networkRequest(id: string, shape: NetworkShape, ipv4: IpamData[], ipv6: IpamData[]): object {
  return {
    NetworkID: id,
    Options: {
      'com.docker.network.enable_ipv6': shape.ipv6 ?? false,
      'com.docker.network.generic': shape.options ?? {},
      ...(shape.internal === true ? { 'com.docker.network.internal': true } : {}),
    },
    IPv4Data: ipv4,
    IPv6Data: ipv6,
  };
}

/** What Docker's own IPAM gives. */
export function defaultIpamData(subnet: string, gateway: string): IpamData {
  return { AddressSpace: 'LocalDefault', Pool: subnet, Gateway: `${gateway}/${subnet.split('/')[1] ?? ''}` };
}

/** The pool and the gateway of one family, asked for as `docker network create` does. */
export async function requestPool(
  plugin: PluginFixture,
  v6: boolean,
  shape: NetworkShape,
): Promise<IpamData & { PoolID: string }> {
  const pool = await plugin.call('IpamDriver.RequestPool', {
    AddressSpace: 'CiliumLocal',
    Pool: (v6 ? shape.subnet6 : shape.subnet) ?? '',
    SubPool: (v6 ? undefined : shape.ipRange) ?? '',
    Options: {},
    V6: v6,
  });
  assert.equal(pool['Error'], undefined);
  const PoolID = String(pool['PoolID']);
  const gateway = await plugin.call('IpamDriver.RequestAddress', {
    PoolID,
    Address: (v6 ? undefined : shape.gateway) ?? '',
    Options: { RequestAddressType: 'com.docker.network.gateway' },
  });
  assert.equal(gateway['Error'], undefined);
  return { PoolID, AddressSpace: 'CiliumLocal', Pool: String(pool['Pool']), Gateway: String(gateway['Address']) };
}

/** `docker network create -d cilium --ipam-driver cilium`; answers the pools' IDs. */
export async function createNetwork(plugin: PluginFixture, id: string, shape: NetworkShape = {}): Promise<string[]> {
  const ipv4 = await requestPool(plugin, false, shape);
  const ipv6 = shape.ipv6 === true ? [await requestPool(plugin, true, shape)] : [];
  const strip = ({ AddressSpace, Pool, Gateway }: IpamData): IpamData => ({ AddressSpace, Pool, Gateway });
  const request = networkRequest(id, shape, [strip(ipv4)], ipv6.map(strip));
  assert.equal(await plugin.error('NetworkDriver.CreateNetwork', request), undefined);
  return [ipv4, ...ipv6].map(({ PoolID }) => PoolID);
}

/** `docker network rm`. */
export async function removeNetwork(plugin: PluginFixture, id: string, poolIds: readonly string[]): Promise<void> {
  for (const PoolID of poolIds) assert.equal(await plugin.error('IpamDriver.ReleasePool', { PoolID }), undefined);
  assert.equal(await plugin.error('NetworkDriver.DeleteNetwork', { NetworkID: id }), undefined);
}

export interface EndpointShape {
  readonly address?: string;
  readonly address6?: string;
  readonly mac?: string;
  readonly ports?: readonly object[];
  readonly driverOptions?: Readonly<Record<string, string>>;
}

export function endpointRequest(networkId: string, endpointId: string, shape: EndpointShape): object {
  return {
    NetworkID: networkId,
    EndpointID: endpointId,
    Interface: { Address: shape.address ?? '', AddressIPv6: shape.address6 ?? '', MacAddress: shape.mac ?? '' },
    Options: {
      'com.docker.network.endpoint.exposedports': [],
      'com.docker.network.portmap': shape.ports ?? [],
      ...shape.driverOptions,
    },
  };
}
