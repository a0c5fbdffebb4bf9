// SPDX-License-Identifier: Apache-2.0

/**
 * Takes away what nobody wants any more: Docker tells about the end of things once, and not at all when it was killed.
 *
 * A thing goes when it was not wanted at two looks in a row, so that what is just being made is left alone.
 */
import type { EndpointManager } from '../endpoint/endpoint-manager.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Networks } from '../driver/networks.ts';
import type { Links } from '../datapath/netlink/links.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import type { DockerEngine, NetworkInfo } from './docker.ts';

/** How Docker knows us: the name of the plugin socket. */
export const DRIVER_NAME = 'cilium';
/** Names of our interfaces: host sides, and container sides that Docker has not fetched. */
const INTERFACE_NAME = /^(lxc|tmp)[0-9a-f]{12}$/;

export interface CollectorDeps {
  readonly docker: Pick<DockerEngine, 'networksOf'>;
  readonly networks: Pick<Networks, 'collect'>;
  readonly endpoints: Pick<EndpointManager, 'list' | 'delete'>;
  readonly ipam: Pick<Ipam, 'collect'>;
  readonly links: Pick<Links, 'list' | 'deleteLink'>;
  /** Removes expired connections from the kernel's tables. */
  readonly collectConnections: () => Promise<unknown>;
  readonly intervalS: number;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Collector implements Component {
  readonly name = 'collector';
  readonly #deps: CollectorDeps;
  readonly #rounds: Controller;
  #unknownEndpoints = new Set<string>();
  #unusedLinks = new Set<string>();

  constructor(deps: CollectorDeps) {
    this.#deps = deps;
    this.#rounds = new Controller({
      name: this.name,
      run: () => this.collect(),
      intervalMs: deps.intervalS * 1_000,
      clock: deps.clock,
      log: deps.log,
    });
  }

  start(): Promise<void> {
    this.#rounds.start();
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  get status(): ControllerStatus {
    return this.#rounds.status;
  }

  /** One look. Throws when Docker does not answer; what needs no Docker has been done then. */
  async collect(): Promise<void> {
    const { docker, networks, ipam, log } = this.#deps;
    await this.#collectLinks();
    await this.#deps.collectConnections();
    const known = await docker.networksOf(DRIVER_NAME);
    await this.#collectEndpoints(known);
    const ours = known.filter(({ Driver }) => Driver === DRIVER_NAME);
    for (const id of await networks.collect(ours.map(({ Id }) => Id)))
      log.info('Network collected', { dockerNetworkID: id });
    const dropped = ipam.collect({ pools: known.flatMap(poolsOf), addresses: this.#addressesInUse(known) });
    if (dropped.pools.length + dropped.addresses.length > 0) log.info('Leases collected', dropped);
  }

  async #collectEndpoints(known: readonly NetworkInfo[]): Promise<void> {
    const { endpoints, log } = this.#deps;
    const alive = new Set(
      known.flatMap(({ Containers }) => Object.values(Containers ?? {}).map(({ EndpointID }) => EndpointID)),
    );
    const unknown = endpoints.list().filter(({ facts }) => !alive.has(facts.dockerEndpointId));
    for (const { id, facts } of unknown) {
      if (!this.#unknownEndpoints.has(facts.dockerEndpointId)) continue;
      log.info('Endpoint collected', { endpointID: id, dockerEndpointID: facts.dockerEndpointId });
      await endpoints.delete(facts.dockerEndpointId, 'Docker does not know it any more');
    }
    this.#unknownEndpoints = new Set(unknown.map(({ facts }) => facts.dockerEndpointId));
  }

  async #collectLinks(): Promise<void> {
    const { links, endpoints, log } = this.#deps;
    const used = new Set(endpoints.list().map(({ facts }) => facts.ifName.slice(-12)));
    const unused = links.list().filter(({ name }) => INTERFACE_NAME.test(name) && !used.has(name.slice(-12)));
    for (const { name } of unused) {
      if (this.#unusedLinks.has(name) && (await links.deleteLink(name)))
        log.info('Interface collected', { interface: name });
    }
    this.#unusedLinks = new Set(unused.map(({ name }) => name));
  }

  #addressesInUse(known: readonly NetworkInfo[]): IpAddress[] {
    const docker = known.flatMap(({ Containers, IPAM }) => [
      ...Object.values(Containers ?? {}).flatMap(({ IPv4Address, IPv6Address }) => [IPv4Address, IPv6Address]),
      ...(IPAM.Config ?? []).flatMap(({ AuxiliaryAddresses }) => Object.values(AuxiliaryAddresses ?? {})),
    ]);
    const ours = this.#deps.endpoints.list().flatMap(({ addresses }) => addresses);
    return [...ours, ...docker.filter((text) => text !== '').map((text) => IpAddress.parse(text.replace(/\/.*/, '')))];
  }
}

function poolsOf({ IPAM }: NetworkInfo): Prefix[] {
  return (IPAM.Config ?? []).map(({ Subnet }) => Prefix.parse(Subnet));
}
