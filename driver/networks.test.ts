// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { DRIVER_SPACE } from '../ipam/ipam.ts';
import { CALL_TIMEOUT_MS } from '../ipam/plugin-router.ts';
import { Prefix } from '../net/ip.ts';
import { settle } from '../runtime/fake/manual-clock.ts';
import { createNetwork, defaultIpamData, endpointRequest, networkRequest, removeNetwork } from './fake/docker-calls.ts';
import { NODE_MTU, PluginFixture } from './fake/plugin-fixture.ts';

async function startPlugin(t: TestContext): Promise<PluginFixture> {
  const plugin = await PluginFixture.start();
  t.after(() => plugin.stop());
  return plugin;
}

/** The value with addresses as text. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const create = 'NetworkDriver.CreateNetwork';
const simple = (id: string, subnet = '10.203.0.0/24', options: Record<string, string> = {}): object =>
  networkRequest(id, { options }, [defaultIpamData(subnet, subnet.replace(/0\/.*/, '1'))], []);

test('a network is recorded with pools, gateway, MTU, options and the IPv6 pool that the driver adds', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { internal: true, options: { 'com.docker.network.driver.mtu': '1400' } });
  const network = plugin.networks.get('net1');
  assert.deepEqual(plain(network), {
    id: 'net1',
    pools: { ipv4: [{ pool: '10.15.0.0/24', gateway: '10.15.0.1', addressLength: 32 }], ipv6: [] },
    ipv6Allocation: { poolId: 'CiliumDriver/fd15::/112', pool: 'fd15::/112', gateway: 'fd15::1', addressLength: 128 },
    internal: true,
    options: { 'com.docker.network.driver.mtu': '1400' },
    mtu: 1400,
  });
  assert.deepEqual(plugin.hooks.calls, ['created net1']);
});

test('networks survive a restart and are announced again', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await createNetwork(plugin, 'net2', { ipv6: true, options: { 'com.docker.network.driver.mtu': '9000' } });
  const before = plain(plugin.networks.list());
  await plugin.restart();
  assert.deepEqual(plain(plugin.networks.list()), before);
  assert.deepEqual(
    plugin.networks.list().map(({ mtu }) => mtu),
    [NODE_MTU, 9000],
  );
  assert.deepEqual(plugin.hooks.calls.slice(-2), ['created net1', 'created net2']);
});

test('a network that cannot be set up at start does not keep the others, and Docker, waiting', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await createNetwork(plugin, 'net2');
  plugin.hooks.during.set('created', () => {
    throw new CiliumError('System', 'add route');
  });
  await plugin.restart();
  assert.deepEqual(
    plugin.networks.list().map(({ id }) => id),
    ['net1', 'net2'],
  );
});

test('a network that cannot be written down leaves no range taken', async (t) => {
  const plugin = await startPlugin(t);
  await mkdir(join(plugin.folder, 'state', 'networks.json'));
  assert.match((await plugin.error(create, simple('net1'))) ?? '', /write .*networks\.json/);
  assert.deepEqual([...plugin.ipam.pools()], []);
  assert.deepEqual(plugin.networks.list(), []);
});

test('removing a network gives back its ranges', async (t) => {
  const plugin = await startPlugin(t);
  const pools = await createNetwork(plugin, 'net1');
  await removeNetwork(plugin, 'net1', pools);
  assert.deepEqual(plugin.hooks.calls, ['created net1', 'deleted net1']);
  assert.deepEqual([...plugin.ipam.pools()], []);
  await createNetwork(plugin, 'net2');
  assert.equal(String(plugin.networks.get('net2')?.pools.ipv4[0]?.pool), '10.15.0.0/24');
});

test('CreateNetwork again is no error when it says the same, and refused when not', async (t) => {
  const plugin = await startPlugin(t);
  assert.equal(await plugin.error(create, simple('net1')), undefined);
  assert.equal(await plugin.error(create, simple('net1')), undefined);
  assert.match(String(await plugin.error(create, simple('net1', '10.204.0.0/24'))), /exists with other/);
  assert.equal(plugin.networks.list().length, 1);
});

for (const [name, options, problem] of [
  [
    'an unknown option',
    { foo: 'bar' },
    /unknown network option "foo": this driver knows com.docker.network.driver.mtu, cilium.published-ports/,
  ],
  [
    'an MTU that is no number',
    { 'com.docker.network.driver.mtu': 'big' },
    /expected a number from 1280 to 65535, not "big"/,
  ],
  ['an MTU too small for IPv6', { 'com.docker.network.driver.mtu': '576' }, /expected a number from 1280/],
  ['an MTU beyond 65535', { 'com.docker.network.driver.mtu': '65536' }, /to 65535/],
  ['an unknown value', { 'cilium.published-ports': 'maybe' }, /expected refuse or ignore, not "maybe"/],
] as const) {
  test(`${name} is refused and leaves nothing`, async (t) => {
    const plugin = await startPlugin(t);
    assert.match(String(await plugin.error(create, simple('net1', '10.203.0.0/24', options))), problem);
    assert.deepEqual(plugin.networks.list(), []);
    assert.deepEqual([...plugin.ipam.pools()], []);
  });
}

test("options on which Docker's engine itself acts are accepted", async (t) => {
  const plugin = await startPlugin(t);
  const options = { 'com.docker.network.advertise_addr_nmsgs': '0' };
  assert.equal(await plugin.error(create, simple('net1', '10.203.0.0/24', options)), undefined);
});

test('ranges of networks must not overlap, whoever gave them', async (t) => {
  const plugin = await startPlugin(t);
  plugin.nodeRanges.push({ prefix: Prefix.parse('192.168.7.0/24'), by: 'device eth0' });
  await createNetwork(plugin, 'net1');
  assert.equal(await plugin.error(create, simple('net2')), undefined);
  const refused: [string, RegExp][] = [
    ['10.203.0.0/24', /overlaps 10.203.0.0\/24 of network net2/],
    ['10.0.0.0/8', /overlaps 10.15.0.0\/24 of network net1: choose another --subnet/],
    ['192.168.7.0/25', /device eth0/],
    ['224.0.0.0/24', /multicast/],
  ];
  for (const [subnet, problem] of refused) {
    assert.match(String(await plugin.error(create, simple('net3', subnet))), problem);
  }
  const pool = { AddressSpace: 'CiliumLocal', Pool: '10.203.0.128/25', V6: false };
  assert.match(String(await plugin.error('IpamDriver.RequestPool', pool)), /overlaps 10.203.0.0\/24 of network net2/);
  const twice = [defaultIpamData('10.210.0.0/24', '10.210.0.1'), defaultIpamData('10.210.0.0/25', '10.210.0.1')];
  assert.match(String(await plugin.error(create, networkRequest('net3', {}, twice, []))), /of the same network/);
});

for (const [name, data, problem] of [
  ['without any pool', [], /no address pool/],
  [
    'of the null IPAM',
    [{ AddressSpace: '', Pool: '0.0.0.0/0', Gateway: '' }],
    /IPv4Data\[0\]\.Gateway: expected an address in 0.0.0.0\/0/,
  ],
  ['without gateway', [{ AddressSpace: '', Pool: '10.9.0.0/24', Gateway: '' }], /pass --gateway/],
  [
    'with an IPv6 pool among the IPv4 ones',
    [defaultIpamData('fd99::/64', 'fd99::1')],
    /IPv4Data\[0\]\.Pool: expected an IPv4/,
  ],
] as const) {
  test(`a network ${name} is refused`, async (t) => {
    const plugin = await startPlugin(t);
    assert.match(String(await plugin.error(create, networkRequest('net1', {}, [...data], []))), problem);
  });
}

test('a network whose set-up fails leaves nothing', async (t) => {
  const plugin = await startPlugin(t);
  plugin.hooks.during.set('created', () => {
    throw new CiliumError('System', 'add route');
  });
  assert.equal(await plugin.error(create, simple('net1')), 'add route');
  assert.deepEqual(plugin.hooks.calls, ['created net1', 'deleted net1']);
  assert.deepEqual([...plugin.ipam.pools()], []);
  await plugin.restart();
  assert.deepEqual(plugin.networks.list(), []);
});

test('a network whose set-up takes too long is taken back', async (t) => {
  const plugin = await startPlugin(t);
  const gate = Promise.withResolvers<undefined>();
  plugin.hooks.during.set('created', () => gate.promise);
  const answer = plugin.error(create, simple('net1'));
  while (!plugin.hooks.calls.includes('created net1')) await settle();
  await plugin.clock.advance(CALL_TIMEOUT_MS);
  assert.match(String(await answer), /did not finish/);
  gate.resolve(undefined);
  while (plugin.networks.list().length > 0) await settle();
  assert.ok(plugin.hooks.calls.includes('deleted net1'));
});

test('a network that only Docker knows is made known again when a container comes', async (t) => {
  const plugin = await startPlugin(t);
  plugin.hooks.docker.set('net1', {
    Id: 'net1',
    Internal: true,
    Scope: 'local',
    IPAM: { Driver: 'default', Config: [{ Subnet: '10.203.0.0/24', Gateway: '10.203.0.1' }, { Subnet: 'fd99::/64' }] },
    Options: { 'com.docker.network.driver.mtu': '1400' },
  });
  const request = endpointRequest('net1', 'ep1', { address: '10.203.0.2/24', address6: 'fd99::2/64' });
  assert.equal(await plugin.error('NetworkDriver.CreateEndpoint', request), undefined);
  assert.deepEqual(plugin.hooks.calls, ['inspect net1', 'created net1', 'create ep1']);
  assert.deepEqual(plain(plugin.networks.get('net1')?.pools), {
    ipv4: [{ pool: '10.203.0.0/24', gateway: '10.203.0.1', addressLength: 24 }],
    ipv6: [{ pool: 'fd99::/64', gateway: 'fd99::1', addressLength: 64 }],
  });
  await plugin.restart();
  assert.equal(plugin.networks.get('net1')?.mtu, 1400);
});

for (const [Scope, AddressSpace] of [
  ['local', 'CiliumLocal'],
  ['global', 'CiliumGlobal'],
] as const) {
  test(`a network of our IPAM and ${Scope} scope that only Docker knows keeps its pool`, async (t) => {
    const plugin = await startPlugin(t);
    plugin.hooks.docker.set('net1', {
      Id: 'net1',
      Internal: false,
      Scope,
      IPAM: { Driver: 'cilium', Config: [{ Subnet: '10.20.0.0/24', Gateway: '10.20.0.1' }] },
      Options: null,
    });
    assert.equal(await plugin.error('IpamDriver.RequestPool', { AddressSpace, Pool: '10.20.0.0/24' }), undefined);
    const request = endpointRequest('net1', 'ep1', { address: '10.20.0.2/32' });
    assert.equal(await plugin.error('NetworkDriver.CreateEndpoint', request), undefined);
    assert.equal(plugin.networks.get('net1')?.pools.ipv4[0]?.addressLength, 32);
  });
}

test('a network that Docker does not have twice in a row is collected', async (t) => {
  const plugin = await startPlugin(t);
  await plugin.error(create, simple('net1'));
  await plugin.error(create, simple('net2', '10.204.0.0/24'));
  assert.deepEqual(await plugin.networks.collect(['net1']), []);
  assert.deepEqual(await plugin.networks.collect(['net1', 'net2']), []);
  assert.deepEqual(await plugin.networks.collect(['net1']), []);
  assert.deepEqual(await plugin.networks.collect(['net1']), ['net2']);
  assert.deepEqual(
    plugin.networks.list().map(({ id }) => id),
    ['net1'],
  );
  assert.ok(plugin.hooks.calls.includes('deleted net2'));
});

test('a network whose removal fails stays known, to be collected', async (t) => {
  const plugin = await startPlugin(t);
  await plugin.error(create, simple('net1'));
  plugin.hooks.during.set('deleted', () => {
    throw new CiliumError('System', 'delete route');
  });
  assert.equal(await plugin.error('NetworkDriver.DeleteNetwork', { NetworkID: 'net1' }), 'delete route');
  assert.equal(plugin.networks.list().length, 1);
  plugin.hooks.during.delete('deleted');
  await plugin.networks.collect([]);
  assert.deepEqual(await plugin.networks.collect([]), ['net1']);
});

test('a pool that the driver took for a network it could not write down is given back at start', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  plugin.ipam.requestPool({ space: DRIVER_SPACE, family: 6 });
  await plugin.restart();
  const own = [...plugin.ipam.pools()].filter(({ space }) => space === DRIVER_SPACE);
  assert.deepEqual(
    own.map(({ id }) => id),
    [plugin.networks.get('net1')?.ipv6Allocation?.poolId],
  );
});

test('a file that cannot be used stops the start and is named', async (t) => {
  const plugin = await startPlugin(t);
  const path = join(plugin.folder, 'state', 'networks.json');
  await plugin.error(create, simple('net1'));
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.slice(0, -20));
  await assert.rejects(plugin.networks.start(), /networks\.json cannot be used/);
  await writeFile(path, text);
  await plugin.networks.start();
});
