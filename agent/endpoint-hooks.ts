// SPDX-License-Identifier: Apache-2.0

/** What the driver asks about endpoints, answered by the endpoint manager. */
import type { EndpointHooks, EndpointRequest, NetworkRecord } from '../driver/types.ts';
import type { EndpointManager } from '../endpoint/endpoint-manager.ts';
import type { IpAddress } from '../net/ip.ts';
import type { MacAddress } from '../net/mac.ts';

export class DockerEndpoints implements EndpointHooks {
  readonly #endpoints: EndpointManager;

  constructor(endpoints: EndpointManager) {
    this.#endpoints = endpoints;
  }

  async create({
    network,
    networkId,
    dockerEndpointId,
    ipv4,
    ipv6,
    mac,
  }: EndpointRequest): Promise<{ mac: MacAddress }> {
    const { internal, mtu } = network;
    const { facts } = await this.#endpoints.create({ networkId, dockerEndpointId, internal, mtu, ipv4, ipv6, mac });
    return { mac: facts.mac };
  }

  async join({ dockerEndpointId }: { network: NetworkRecord; dockerEndpointId: string }): Promise<{
    srcName: string;
    ipv4: IpAddress | undefined;
    ipv6: IpAddress | undefined;
  }> {
    const { endpoint, peerName } = await this.#endpoints.join(dockerEndpointId);
    return { srcName: peerName, ipv4: endpoint.facts.ipv4, ipv6: endpoint.facts.ipv6 };
  }

  /** Nothing: the interface is still the container's, and its policy stays in force until it is deleted. */
  leave(): Promise<void> {
    return Promise.resolve();
  }

  delete(dockerEndpointId: string): Promise<void> {
    return this.#endpoints.delete(dockerEndpointId);
  }
}
