// SPDX-License-Identifier: Apache-2.0

/** Docker's network-driver methods on a `NetworkDriver`. */
import type { Router } from 'express';
import { CiliumError } from '../errors/cilium-error.ts';
import { PluginRouter } from '../ipam/plugin-router.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/logger.ts';
import type { NetworkDriver } from './network-driver.ts';
import type { NetworkScope } from './types.ts';
import { CreateEndpoint, CreateNetwork, EndpointOnly, Join, NetworkOnly, ProgramExternalConnectivity } from './wire.ts';

export function networkRouter(driver: NetworkDriver, scope: NetworkScope, log: Logger, clock: Clock): Router {
  const methods = new PluginRouter(log, clock);
  // The engine caches it for its life. It has networks of its own in any case: it asks a swarm only for other drivers.
  methods.constant('NetworkDriver.GetCapabilities', { Scope: scope, ConnectivityScope: scope });
  methods.on('NetworkDriver.CreateNetwork', CreateNetwork, (request, signal) => driver.createNetwork(request, signal));
  methods.on('NetworkDriver.DeleteNetwork', NetworkOnly, ({ NetworkID }) => driver.deleteNetwork(NetworkID));
  methods.on('NetworkDriver.CreateEndpoint', CreateEndpoint, (request, signal) =>
    driver.createEndpoint(request, signal),
  );
  methods.on('NetworkDriver.DeleteEndpoint', EndpointOnly, ({ NetworkID, EndpointID }) =>
    driver.deleteEndpoint(NetworkID, EndpointID),
  );
  methods.on('NetworkDriver.Join', Join, (request) => driver.join(request));
  methods.on('NetworkDriver.Leave', EndpointOnly, ({ EndpointID }) => driver.leave(EndpointID));
  methods.on('NetworkDriver.ProgramExternalConnectivity', ProgramExternalConnectivity, (request) =>
    driver.programExternalConnectivity(request),
  );
  methods.on('NetworkDriver.RevokeExternalConnectivity', EndpointOnly, () => ({}));
  // Shown nowhere, but engines before 28 fail the container on an error.
  methods.constant('NetworkDriver.EndpointOperInfo', { Value: {} });
  // Every network has a gateway address of its own, on internal networks as the next hop to the others.
  methods.constant('NetworkDriver.GwAllocCheck', { SkipIPv4: false, SkipIPv6: false });
  methods.constant('NetworkDriver.DiscoverNew', {});
  methods.constant('NetworkDriver.DiscoverDelete', {});
  methods.on('NetworkDriver.AllocateNetwork', NetworkOnly, () => {
    throw new CiliumError(
      'Unsupported',
      'swarm does not allocate networks of this driver: create the network on each node, without --scope swarm',
    );
  });
  methods.constant('NetworkDriver.FreeNetwork', {});
  return methods.router;
}
