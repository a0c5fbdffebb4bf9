// SPDX-License-Identifier: Apache-2.0

/** Containers that come and go, in the calls that dockerd makes, on networks of every kind. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { createNetwork, defaultIpamData, endpointRequest, networkRequest } from './fake/docker-calls.ts';
import type { EndpointShape, NetworkShape } from './fake/docker-calls.ts';
import { PluginFixture } from './fake/plugin-fixture.ts';
import { FAKE_MAC } from './fake/recording-hooks.ts';

async function startPlugin(t: TestContext, ipv6Range?: string): Promise<PluginFixture> {
  const plugin = await PluginFixture.start(ipv6Range);
  t.after(() => plugin.stop());
  return plugin;
}

async function createDefaultIpamNetwork(plugin: PluginFixture, id: string, shape: NetworkShape = {}): Promise<void> {
  const ipv6 = shape.ipv6 === true ? [defaultIpamData('fd99::/64', 'fd99::1')] : [];
  const request = networkRequest(id, shape, [defaultIpamData('10.203.0.0/24', '10.203.0.1')], ipv6);
  assert.equal(await plugin.error('NetworkDriver.CreateNetwork', request), undefined);
}

/** CreateEndpoint and Join; answers both replies. */
async function run(
  plugin: PluginFixture,
  shape: EndpointShape,
  network = 'net1',
  endpoint = 'ep1',
): Promise<Record<string, unknown>[]> {
  const created = await plugin.call('NetworkDriver.CreateEndpoint', endpointRequest(network, endpoint, shape));
  assert.equal(created['Err'], undefined);
  const ids = { NetworkID: network, EndpointID: endpoint };
  const joined = await plugin.call('NetworkDriver.Join', {
    ...ids,
    SandboxKey: '/var/run/docker/netns/f273b51d9173',
    Options: { 'com.docker.network.portmap': [], 'com.docker.network.endpoint.exposedports': [] },
  });
  assert.equal(joined['Err'], undefined);
  assert.equal(await plugin.error('NetworkDriver.ProgramExternalConnectivity', { ...ids, Options: {} }), undefined);
  return [created, joined];
}

test('our IPAM, both families: Docker hands in the addresses, we answer MAC, gateways and on-link routes to them', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { ipv6: true });
  const [created, joined] = await run(plugin, { address: '10.15.0.2/32', address6: 'fd15::2/128' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC } });
  assert.deepEqual(joined, {
    InterfaceName: { SrcName: 'tmpep1', DstPrefix: 'eth' },
    Gateway: '10.15.0.1',
    GatewayIPv6: 'fd15::1',
    StaticRoutes: [
      { Destination: '10.15.0.1/32', RouteType: 1 },
      { Destination: 'fd15::1/128', RouteType: 1 },
    ],
  });
  const request = plugin.hooks.endpointsById.get('ep1')!;
  assert.equal(request.ipv4PrefixLength, 32);
  assert.equal(request.network.ipv6Allocation, undefined);
});

test('a network without IPv6: the driver gives an address of its own pool and takes it back', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const [created, joined] = await run(plugin, { address: '10.15.0.2/32' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC, AddressIPv6: 'fd15::2/128' } });
  assert.equal(joined!['GatewayIPv6'], 'fd15::1');
  assert.equal(String(plugin.hooks.endpointsById.get('ep1')?.ipv6), 'fd15::2');
  const { poolId } = plugin.networks.get('net1')!.ipv6Allocation!;
  assert.equal(plugin.ipam.get(poolId)?.leasedCount, 2);
  assert.equal(await plugin.error('NetworkDriver.DeleteEndpoint', { NetworkID: 'net1', EndpointID: 'ep1' }), undefined);
  assert.equal(plugin.ipam.get(poolId)?.leasedCount, 1);
});

test("Docker's IPAM: the mask is the pool's, and the driver adds IPv6", async (t) => {
  const plugin = await startPlugin(t);
  await createDefaultIpamNetwork(plugin, 'net1');
  const [created, joined] = await run(plugin, { address: '10.203.0.2/24' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC, AddressIPv6: 'fd15::2/128' } });
  assert.equal(joined!['Gateway'], '10.203.0.1');
  assert.equal(plugin.hooks.endpointsById.get('ep1')?.ipv4PrefixLength, 24);
});

test("Docker's IPAM with --ipv6: both gateways are Docker's", async (t) => {
  const plugin = await startPlugin(t);
  await createDefaultIpamNetwork(plugin, 'net1', { ipv6: true });
  const [created, joined] = await run(plugin, { address: '10.203.0.2/24', address6: 'fd99::2/64' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC } });
  assert.deepEqual([joined!['Gateway'], joined!['GatewayIPv6']], ['10.203.0.1', 'fd99::1']);
});

test('a container that declines IPv6 on a network that has it gets none', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { ipv6: true });
  const [created, joined] = await run(plugin, { address: '10.15.0.2/32' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC } });
  assert.ok(!('GatewayIPv6' in joined!));
});

test('a node without an IPv6 range gives no IPv6', async (t) => {
  const plugin = await startPlugin(t, 'none');
  await createNetwork(plugin, 'net1');
  const [created, joined] = await run(plugin, { address: '10.15.0.2/32' });
  assert.deepEqual(created, { Interface: { MacAddress: FAKE_MAC } });
  assert.deepEqual(joined!['StaticRoutes'], [{ Destination: '10.15.0.1/32', RouteType: 1 }]);
});

test('a network with IPv6 only (--ipv4=false) works', async (t) => {
  const plugin = await startPlugin(t);
  const request = networkRequest('net1', {}, [], [defaultIpamData('fd99::/64', 'fd99::1')]);
  assert.equal(await plugin.error('NetworkDriver.CreateNetwork', request), undefined);
  const [, joined] = await run(plugin, { address6: 'fd99::2/64' });
  assert.ok(!('Gateway' in joined!));
  assert.equal(joined!['GatewayIPv6'], 'fd99::1');
});

test('an internal network with our IPAM: no gateway, routes to its own pools only', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { internal: true, ipv6: true });
  const [, joined] = await run(plugin, { address: '10.15.0.2/32', address6: 'fd15::2/128' });
  assert.deepEqual(joined, {
    InterfaceName: { SrcName: 'tmpep1', DstPrefix: 'eth' },
    StaticRoutes: [
      { Destination: '10.15.0.1/32', RouteType: 1 },
      { Destination: '10.15.0.0/24', RouteType: 0, NextHop: '10.15.0.1' },
      { Destination: 'fd15::1/128', RouteType: 1 },
      { Destination: 'fd15::/112', RouteType: 0, NextHop: 'fd15::1' },
    ],
    DisableGatewayService: true,
  });
});

test("an internal network with Docker's IPAM: the interface's own mask is route enough for IPv4", async (t) => {
  const plugin = await startPlugin(t);
  await createDefaultIpamNetwork(plugin, 'net1', { internal: true });
  const [, joined] = await run(plugin, { address: '10.203.0.2/24' });
  assert.ok(!('Gateway' in joined!) && !('GatewayIPv6' in joined!));
  assert.deepEqual(joined!['StaticRoutes'], [
    { Destination: '10.203.0.1/32', RouteType: 1 },
    { Destination: 'fd15::1/128', RouteType: 1 },
    { Destination: 'fd15::/112', RouteType: 0, NextHop: 'fd15::1' },
  ]);
});

test('two networks of one container have gateways of their own', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await createNetwork(plugin, 'net2');
  const [, first] = await run(plugin, { address: '10.15.0.2/32' }, 'net1', 'ep1');
  const [, second] = await run(plugin, { address: '10.15.1.2/32' }, 'net2', 'ep2');
  assert.deepEqual([first!['Gateway'], second!['Gateway']], ['10.15.0.1', '10.15.1.1']);
  assert.deepEqual([first!['GatewayIPv6'], second!['GatewayIPv6']], ['fd15::1', 'fd15::1:1']);
});

test('with several subnets the gateway is that of the one the address is in', async (t) => {
  const plugin = await startPlugin(t);
  const pools = [defaultIpamData('10.203.0.0/24', '10.203.0.1'), defaultIpamData('10.204.0.0/24', '10.204.0.1')];
  assert.equal(await plugin.error('NetworkDriver.CreateNetwork', networkRequest('net1', {}, pools, [])), undefined);
  const [, joined] = await run(plugin, { address: '10.204.0.9/24' });
  assert.equal(joined!['Gateway'], '10.204.0.1');
});

test('a MAC that the user chose is used and not repeated in the answer', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { ipv6: true });
  const driverOptions = { 'com.docker.network.endpoint.macaddress': 'AkKsEWVD' };
  const shape = { address: '10.15.0.2/32', address6: 'fd15::2/128', mac: '02:42:ac:11:65:43', driverOptions };
  const [created] = await run(plugin, shape);
  assert.deepEqual(created, { Interface: {} });
  assert.equal(String(plugin.hooks.endpointsById.get('ep1')?.mac), '02:42:ac:11:65:43');
  assert.deepEqual(plugin.hooks.endpointsById.get('ep1')?.driverOptions, driverOptions);
});

test('a driver-opt that is not known is refused by name', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.2/32', driverOptions: { 'cil.policy': 'x' } });
  assert.match(String(await plugin.error('NetworkDriver.CreateEndpoint', request)), /unknown driver-opt "cil.policy"/);
  assert.deepEqual(plugin.hooks.calls, ['created net1']);
});

for (const [what, shape, problem] of [
  [
    'outside every pool',
    { address: '10.99.0.2/32' },
    /10.99.0.2 is in no pool of the network \(10.15.0.0\/24, fd15::\/112\)/,
  ],
  ['missing', {}, /expected an address/],
] as const) {
  test(`an endpoint whose address is ${what} is refused`, async (t) => {
    const plugin = await startPlugin(t);
    await createNetwork(plugin, 'net1');
    const error = await plugin.error('NetworkDriver.CreateEndpoint', endpointRequest('net1', 'ep1', shape));
    assert.match(String(error), problem);
    assert.deepEqual(plugin.hooks.calls, ['created net1']);
  });
}

const PORTS = [
  { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 },
  { Proto: 17, IP: '', Port: 53, HostIP: '', HostPort: 0, HostPortEnd: 0 },
];

test('published ports are refused with what to do, before anything is made', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.2/32', ports: PORTS });
  const error = await plugin.error('NetworkDriver.CreateEndpoint', request);
  assert.match(String(error), /80\/tcp to host port 8080, 53\/udp to a free host port/);
  assert.match(String(error), /without -p and -P, or create the network with --opt cilium.published-ports=ignore/);
  assert.deepEqual(plugin.hooks.calls, ['created net1']);
});

test('ports that another network of the container publishes are no matter, until we become its way out', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await run(plugin, { address: '10.15.0.2/32' });
  const program = { NetworkID: 'net1', EndpointID: 'ep1', Options: { 'com.docker.network.portmap': PORTS } };
  assert.equal(await plugin.error('NetworkDriver.Join', program), undefined);
  assert.match(String(await plugin.error('NetworkDriver.ProgramExternalConnectivity', program)), /publishing ports/);
  assert.equal(await plugin.error('NetworkDriver.RevokeExternalConnectivity', program), undefined);
});

test('a network may say that published ports are ignored', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { options: { 'cilium.published-ports': 'ignore' } });
  const options = { 'com.docker.network.portmap': PORTS };
  assert.equal(
    await plugin.error(
      'NetworkDriver.CreateEndpoint',
      endpointRequest('net1', 'ep1', { address: '10.15.0.2/32', ports: PORTS }),
    ),
    undefined,
  );
  const program = { NetworkID: 'net1', EndpointID: 'ep1', Options: options };
  assert.equal(await plugin.error('NetworkDriver.ProgramExternalConnectivity', program), undefined);
});

test('CreateEndpoint again gives the same answer', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.2/32' });
  const first = await plugin.call('NetworkDriver.CreateEndpoint', request);
  await plugin.restart();
  assert.deepEqual(await plugin.call('NetworkDriver.CreateEndpoint', request), first);
});

test('an endpoint that fails leaves nothing: Docker sends no DeleteEndpoint then', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  plugin.hooks.during.set('create', () => {
    throw new CiliumError('MapFull', 'no room in cilium_lxc');
  });
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.2/32' });
  assert.equal(await plugin.error('NetworkDriver.CreateEndpoint', request), 'no room in cilium_lxc');
  assert.deepEqual(plugin.hooks.calls, ['created net1', 'create ep1', 'delete ep1']);
  assert.equal(plugin.ipam.get(plugin.networks.get('net1')!.ipv6Allocation!.poolId)?.leasedCount, 1);
});

test('an endpoint that is refused because another of its ID runs does not harm that one', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await run(plugin, { address: '10.15.0.2/32' });
  plugin.hooks.during.set('create', () => {
    throw new CiliumError('AlreadyExists', 'endpoint ep1 has another address');
  });
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.3/32' });
  assert.match(String(await plugin.error('NetworkDriver.CreateEndpoint', request)), /another address/);
  assert.ok(plugin.hooks.endpointsById.has('ep1'));
  assert.ok(plugin.ipam.get(plugin.networks.get('net1')!.ipv6Allocation!.poolId)?.ownedBy('ep1'));
});

test('the address of an endpoint that could not be removed is kept', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await run(plugin, { address: '10.15.0.2/32' });
  plugin.hooks.during.set('delete', () => {
    throw new CiliumError('System', 'delete link');
  });
  assert.equal(
    await plugin.error('NetworkDriver.DeleteEndpoint', { NetworkID: 'net1', EndpointID: 'ep1' }),
    'delete link',
  );
  assert.ok(plugin.ipam.get(plugin.networks.get('net1')!.ipv6Allocation!.poolId)?.ownedBy('ep1'));
});

test('taking down what nobody knows succeeds, in any order and again', async (t) => {
  const plugin = await startPlugin(t);
  const ids = { NetworkID: 'gone', EndpointID: 'gone' };
  for (const method of ['DeleteEndpoint', 'Leave', 'RevokeExternalConnectivity', 'DeleteEndpoint', 'DeleteNetwork']) {
    assert.equal(await plugin.error(`NetworkDriver.${method}`, ids), undefined, method);
  }
});

for (const method of ['CreateEndpoint', 'Join', 'ProgramExternalConnectivity']) {
  test(`${method} on a network that nobody knows is refused with what to do`, async (t) => {
    const plugin = await startPlugin(t);
    const request = endpointRequest('gone', 'ep1', { address: '10.15.0.2/32' });
    assert.match(
      String(await plugin.error(`NetworkDriver.${method}`, request)),
      /network gone is not known: remove it/,
    );
  });
}

test('Join says what went wrong, and may be tried again', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  plugin.hooks.during.set('join', () => {
    throw new CiliumError('DockerUnavailable', 'labels of the container were not found within 1 s');
  });
  const ids = { NetworkID: 'net1', EndpointID: 'ep1' };
  assert.match(String(await plugin.error('NetworkDriver.Join', ids)), /labels/);
  plugin.hooks.during.delete('join');
  assert.equal(await plugin.error('NetworkDriver.Join', ids), undefined);
});

test('swarm is told to leave networks to each node', async (t) => {
  const plugin = await startPlugin(t);
  const error = await plugin.error('NetworkDriver.AllocateNetwork', {
    NetworkID: 'n',
    Options: {},
    IPv4Data: [],
    IPv6Data: null,
  });
  assert.match(String(error), /create the network on each node/);
});
