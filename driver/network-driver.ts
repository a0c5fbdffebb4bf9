// SPDX-License-Identifier: Apache-2.0

/**
 * What Docker's network-driver methods mean here, on parsed requests.
 *
 * Calls of one endpoint run one after the other, so that a repeated call, or the removal that Docker sends after one that
 * took too long, meets finished work. Setting up refuses what it does not know; taking down succeeds on it.
 */
import { CiliumError, isCiliumError } from '../errors/cilium-error.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { InterfaceAddress } from '../ipam/wire-fields.ts';
import type { IpAddress } from '../net/ip.ts';
import type { Logger } from '../runtime/logger.ts';
import { KeyedQueue } from '../runtime/serial-queue.ts';
import type { Networks } from './networks.ts';
import { parseEndpointOptions, parseNetworkOptions, PUBLISHED_PORTS_OPTION } from './options.ts';
import { networkPools, type EndpointHooks, type NetworkPool, type NetworkRecord } from './types.ts';
import type { CreateEndpoint, CreateNetwork, Join, ProgramExternalConnectivity } from './wire.ts';

/** What Docker calls the interface inside, with a number behind it. */
const INTERFACE_PREFIX = 'eth';
/** A route's next hop is given (0), or the destination is on the link (1). */
const ROUTE_VIA = 0;
const ROUTE_ON_LINK = 1;

interface StaticRoute {
  readonly Destination: string;
  readonly RouteType: typeof ROUTE_VIA | typeof ROUTE_ON_LINK;
  readonly NextHop?: string;
}

export interface NetworkDriverOptions {
  readonly networks: Networks;
  readonly ipam: Ipam;
  readonly endpoints: EndpointHooks;
  /** Throws for an address that no container of this node may have. @default all that are in a pool of the network */
  readonly checkAddress?: (address: IpAddress) => void;
  readonly log: Logger;
}

export class NetworkDriver {
  readonly #networks: Networks;
  readonly #ipam: Ipam;
  readonly #endpoints: EndpointHooks;
  readonly #checkAddress: (address: IpAddress) => void;
  readonly #log: Logger;
  readonly #calls = new KeyedQueue<string>('endpoint calls');

  constructor(options: NetworkDriverOptions) {
    this.#networks = options.networks;
    this.#ipam = options.ipam;
    this.#endpoints = options.endpoints;
    this.#checkAddress = options.checkAddress ?? (() => undefined);
    this.#log = options.log;
  }

  async createNetwork(request: CreateNetwork, signal: AbortSignal): Promise<object> {
    const pools = (data: CreateNetwork['IPv4Data']): { space: string; pool: CreatePool; gateway: CreateGateway }[] =>
      (data ?? []).map(({ AddressSpace, Pool, Gateway }) => ({
        space: AddressSpace,
        pool: Pool ?? undefined,
        gateway: Gateway ?? undefined,
      }));
    const id = request.NetworkID;
    const options = request.Options?.['com.docker.network.generic'] ?? {};
    const internal = request.Options?.['com.docker.network.internal'] ?? false;
    const [ipv4, ipv6] = [pools(request.IPv4Data), pools(request.IPv6Data)];
    await this.#networks.create({ id, ipv4, ipv6, internal, options }, signal);
    return {};
  }

  async deleteNetwork(id: string): Promise<object> {
    await this.#networks.delete(id);
    return {};
  }

  /** When the signal has aborted by the end, Docker has been told of a failure and nothing may stay. */
  async createEndpoint(request: CreateEndpoint, signal: AbortSignal): Promise<object> {
    const { NetworkID: networkId, EndpointID: dockerEndpointId } = request;
    return await this.#calls.run(dockerEndpointId, async () => {
      const network = await this.#networks.find(networkId);
      const { 'com.docker.network.portmap': ports, ...rest } = request.Options ?? {};
      refusePublishedPorts(network, ports);
      const driverOptions = parseEndpointOptions(rest);
      const ipv4 = request.Interface?.Address ?? undefined;
      const given6 = request.Interface?.AddressIPv6 ?? undefined;
      const mac = request.Interface?.MacAddress ?? undefined;
      checkAddresses(network, ipv4, given6);
      for (const given of [ipv4, given6]) if (given) this.#checkAddress(given.address);
      const own6 = given6 ? undefined : this.#allocateIpv6(network, dockerEndpointId);
      const ipv6 = given6?.address ?? own6;
      try {
        const created = await this.#endpoints.create({
          networkId,
          network,
          dockerEndpointId,
          ...(ipv4 ? { ipv4: ipv4.address, ipv4PrefixLength: ipv4.length } : {}),
          ...(ipv6 ? { ipv6 } : {}),
          ...(mac ? { mac } : {}),
          driverOptions,
        });
        signal.throwIfAborted();
        // Docker refuses an answer that repeats what it gave.
        return {
          Interface: {
            ...(mac ? {} : { MacAddress: created.mac.toString() }),
            ...(own6 ? { AddressIPv6: `${own6.toString()}/${own6.bits}` } : {}),
          },
        };
      } catch (error) {
        // Docker sends no DeleteEndpoint after this. An endpoint that was there before stays.
        if (!isCiliumError(error, 'AlreadyExists')) await this.#undo(networkId, dockerEndpointId);
        throw error;
      }
    });
  }

  async deleteEndpoint(networkId: string, dockerEndpointId: string): Promise<object> {
    await this.#calls.run(dockerEndpointId, () => this.#remove(networkId, dockerEndpointId));
    return {};
  }

  async join({ NetworkID: networkId, EndpointID: dockerEndpointId, SandboxKey: sandboxKey }: Join): Promise<object> {
    return await this.#calls.run(dockerEndpointId, async () => {
      const network = await this.#networks.find(networkId);
      const { srcName, ipv4, ipv6 } = await this.#endpoints.join({ network, dockerEndpointId, sandboxKey });
      return {
        InterfaceName: { SrcName: srcName, DstPrefix: INTERFACE_PREFIX },
        ...(network.internal ? internalRoutes(network, ipv4, ipv6) : defaultRoutes(network, ipv4, ipv6)),
      };
    });
  }

  async leave(dockerEndpointId: string): Promise<object> {
    await this.#calls.run(dockerEndpointId, () => this.#endpoints.leave(dockerEndpointId));
    return {};
  }

  /** Called for the network that becomes a container's way out: the one that would have to publish its ports. */
  async programExternalConnectivity(request: ProgramExternalConnectivity): Promise<object> {
    refusePublishedPorts(await this.#networks.find(request.NetworkID), request.Options?.['com.docker.network.portmap']);
    return {};
  }

  /** Resolves when no call is at work any more. */
  async drain(): Promise<void> {
    await this.#calls.drain();
  }

  #allocateIpv6(network: NetworkRecord, dockerEndpointId: string): IpAddress | undefined {
    const own = network.ipv6Allocation;
    return own && this.#ipam.requestAddress(own.poolId, { owner: dockerEndpointId });
  }

  async #undo(networkId: string, dockerEndpointId: string): Promise<void> {
    try {
      await this.#remove(networkId, dockerEndpointId);
    } catch (error) {
      this.#log.error('Endpoint not cleared away', { dockerEndpointID: dockerEndpointId, error });
    }
  }

  /** The address goes last: nobody else may get it while the endpoint still has it. */
  async #remove(networkId: string, dockerEndpointId: string): Promise<void> {
    await this.#endpoints.delete(dockerEndpointId);
    const own = this.#networks.get(networkId)?.ipv6Allocation;
    if (own) this.#ipam.releaseOwner(own.poolId, dockerEndpointId);
  }
}

type CreatePool = NetworkPool['pool'] | undefined;
type CreateGateway = InterfaceAddress | undefined;

function refusePublishedPorts(network: NetworkRecord, ports: readonly string[] | null | undefined): void {
  if (!ports || ports.length === 0 || parseNetworkOptions(network.options).ignorePublishedPorts) return;
  throw new CiliumError(
    'Unsupported',
    `publishing ports is not supported on this network (${ports.slice(0, 3).join(', ')}${ports.length > 3 ? ', …' : ''}): ` +
      `run the container without -p and -P, or create the network with --opt ${PUBLISHED_PORTS_OPTION}=ignore`,
  );
}

function checkAddresses(network: NetworkRecord, ...given: (InterfaceAddress | undefined)[]): void {
  const addresses = given.filter((one) => one !== undefined);
  if (addresses.length === 0) {
    throw new CiliumError(
      'InvalidArgument',
      'Interface: expected an address: the network needs an IPAM driver that gives one',
    );
  }
  for (const { address } of addresses) {
    if (poolOf(network, address)) continue;
    const pools = networkPools(network).map(({ pool }) => pool.toString());
    throw new CiliumError(
      'InvalidArgument',
      `Interface: ${address.toString()} is in no pool of the network (${pools.join(', ')})`,
    );
  }
}

function poolOf(network: NetworkRecord, address: IpAddress | undefined): NetworkPool | undefined {
  return address && networkPools(network).find(({ pool }) => pool.contains(address));
}

/** Everything through the gateway, which the kernel must be told is on the link. */
function defaultRoutes(network: NetworkRecord, ipv4: IpAddress | undefined, ipv6: IpAddress | undefined): object {
  const [via4, via6] = [poolOf(network, ipv4), poolOf(network, ipv6)];
  return {
    ...(via4 ? { Gateway: via4.gateway.toString() } : {}),
    ...(via6 ? { GatewayIPv6: via6.gateway.toString() } : {}),
    StaticRoutes: [via4, via6].flatMap((pool) => (pool ? [onLink(pool)] : [])),
  };
}

/** The pools of the network only. Docker would install a default route if it were given a gateway. */
function internalRoutes(network: NetworkRecord, ipv4: IpAddress | undefined, ipv6: IpAddress | undefined): object {
  const routes = [poolOf(network, ipv4), poolOf(network, ipv6)].flatMap((via) => {
    if (!via) return [];
    const others = networkPools(network).filter(
      ({ pool, addressLength }) =>
        // The pool that the interface's own address covers has its route already.
        pool.family === via.pool.family && !(pool.equals(via.pool) && addressLength === pool.length),
    );
    return [onLink(via), ...others.map(({ pool }) => routeVia(pool.toString(), via.gateway))];
  });
  return { StaticRoutes: routes, DisableGatewayService: true };
}

function onLink({ gateway }: NetworkPool): StaticRoute {
  return { Destination: `${gateway.toString()}/${gateway.bits}`, RouteType: ROUTE_ON_LINK };
}

function routeVia(destination: string, gateway: IpAddress): StaticRoute {
  return { Destination: destination, RouteType: ROUTE_VIA, NextHop: gateway.toString() };
}
