// SPDX-License-Identifier: Apache-2.0

/**
 * Requests of Docker's network-driver protocol (libnetwork docs/remote.md; moby/libnetwork/drivers/remote/api/api.go).
 *
 * Fields that we do not use are not listed; ones that newer engines add are let through.
 */
import { z } from 'zod';
import { idField, interfaceAddressField, macField, prefixField } from '../ipam/wire-fields.ts';

const IPPROTO_NAMES: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

const ipamData = z.object({
  AddressSpace: z.string().default(''),
  Pool: prefixField,
  Gateway: interfaceAddressField,
});

const portBinding = z
  .object({ Proto: z.int(), Port: z.int(), HostPort: z.int().default(0) })
  .transform(({ Proto, Port, HostPort }) => {
    const to = HostPort === 0 ? 'a free host port' : `host port ${HostPort}`;
    return `${Port}/${IPPROTO_NAMES[Proto] ?? Proto} to ${to}`;
  });
/** What `-p` and `-P` asked for, each as text for people. */
const portMap = z.array(portBinding).nullish();

const endpointIds = { NetworkID: idField, EndpointID: idField };

export const CreateNetwork = z.object({
  NetworkID: idField,
  Options: z
    .object({
      'com.docker.network.generic': z.record(z.string(), z.string()).nullish(),
      'com.docker.network.internal': z.boolean().default(false),
    })
    .nullish(),
  IPv4Data: z.array(ipamData).nullish(),
  IPv6Data: z.array(ipamData).nullish(),
});
export type CreateNetwork = z.infer<typeof CreateNetwork>;

export const NetworkOnly = z.object({ NetworkID: idField });

export const EndpointOnly = z.object(endpointIds);

export const CreateEndpoint = z.object({
  ...endpointIds,
  Interface: z
    .object({ Address: interfaceAddressField, AddressIPv6: interfaceAddressField, MacAddress: macField })
    .nullish(),
  Options: z.looseObject({ 'com.docker.network.portmap': portMap }).nullish(),
});
export type CreateEndpoint = z.infer<typeof CreateEndpoint>;

export const Join = z.object({ ...endpointIds, SandboxKey: z.string().default('') });
export type Join = z.infer<typeof Join>;

export const ProgramExternalConnectivity = z.object({
  ...endpointIds,
  Options: z.object({ 'com.docker.network.portmap': portMap }).nullish(),
});
export type ProgramExternalConnectivity = z.infer<typeof ProgramExternalConnectivity>;
