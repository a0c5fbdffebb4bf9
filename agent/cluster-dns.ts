// SPDX-License-Identifier: Apache-2.0

/** Names of containers across nodes, put together: what Docker calls ours, what other nodes say, and the server. */
import { DnsServer } from '../dns/dns-server.ts';
import { Forwarder } from '../dns/forwarder.ts';
import { NameTable } from '../dns/name-table.ts';
import { RateLimit } from '../dns/rate-limit.ts';
import { ResolvConf } from '../dns/resolv-conf.ts';
import { Responder } from '../dns/responder.ts';
import { namesOn, type Endpoint } from '../endpoint/endpoint.ts';
import type { EndpointManager } from '../endpoint/endpoint-manager.ts';
import type { RemoteAddress, RemoteAddresses } from '../ipcache/shared/remote-addresses.ts';
import type { IpAddress } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { ContainerNames } from './container-names.ts';
import { DnsClients, type DnsClientsDeps } from './dns-clients.ts';
import { DockerNames } from './docker-names.ts';

const RESOLV_CONF = '/etc/resolv.conf';

export interface ClusterDnsDeps {
  /** Where to serve; known when this starts. */
  readonly routers: () => readonly IpAddress[];
  readonly nodeAddresses: DnsClientsDeps['nodeAddresses'];
  readonly links: () => DnsClientsDeps['links'];
  readonly endpoints: Pick<EndpointManager, 'list' | 'rename' | 'onChange'>;
  readonly remote: Pick<RemoteAddresses, 'entries' | 'onChange' | 'isSynced'>;
  readonly dockerSocket: string;
  readonly log: Logger;
  readonly clock: Clock;
}

export class ClusterDns implements Component {
  readonly name = 'cluster-dns';
  readonly #deps: ClusterDnsDeps;
  readonly #names = new NameTable();
  /** Addresses of containers of this node. */
  readonly #own = new Set<string>();
  readonly #containers: ContainerNames;
  #server: DnsServer | undefined;

  constructor(deps: ClusterDnsDeps) {
    this.#deps = deps;
    const { endpoints, remote, dockerSocket, log, clock } = deps;
    this.#containers = new ContainerNames({ docker: new DockerNames(dockerSocket), endpoints, log, clock });
    endpoints.onChange((event, endpoint) => (event === 'deleted' ? this.#forget(endpoint) : this.#learn(endpoint)));
    remote.onChange(({ old, now }) => {
      if (now) this.#hear(now);
      else if (old && !this.#own.has(old.address.toString())) this.#names.delete(old.address);
    });
  }

  /** Needs the endpoints of an earlier agent; does not wait for Docker, the store or the addresses. */
  async start(): Promise<void> {
    const { endpoints, remote, log, clock } = this.#deps;
    for (const endpoint of endpoints.list()) this.#learn(endpoint);
    for (const entry of remote.entries()) this.#hear(entry);
    await this.#containers.start();
    const addresses = this.#deps.routers().map(String);
    const conf = new ResolvConf(
      RESOLV_CONF,
      (address) => addresses.includes(address),
      () => clock.monotonic(),
    );
    const forwarder = new Forwarder({ servers: () => conf.servers(), clock });
    const clients = new DnsClients({
      links: this.#deps.links(),
      nodeAddresses: this.#deps.nodeAddresses,
      clock,
    });
    const responder = new Responder({
      names: this.#names,
      forwarder,
      mayAsk: (address) => this.#own.has(address) || clients.has(address),
      isComplete: () => remote.isSynced,
      rate: new RateLimit(clock),
    });
    this.#server = new DnsServer({ addresses, responder, forwarder, log, clock });
    await this.#server.start();
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
    await this.#containers.stop();
  }

  /** What `cilium status` shows of it. */
  get parts(): readonly { readonly status: ControllerStatus }[] {
    return [this.#containers, ...(this.#server ? [this.#server] : [])];
  }

  #learn({ addresses, identity }: Endpoint): void {
    if (!identity) return;
    const called = namesOn(identity.container);
    for (const address of addresses) {
      this.#own.add(address.toString());
      if (called) this.#names.set({ ...called, address, containerId: identity.container.id });
    }
  }

  #forget({ addresses }: Endpoint): void {
    for (const address of addresses) {
      this.#own.delete(address.toString());
      this.#names.delete(address);
    }
  }

  /** An address of ours is what we say it is. */
  #hear({ address, docker }: RemoteAddress): void {
    if (this.#own.has(address.toString())) return;
    if (docker) this.#names.set({ ...docker, address });
    else this.#names.delete(address);
  }
}
