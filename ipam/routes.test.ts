// SPDX-License-Identifier: Apache-2.0

/** The IPAM calls of `docker network create` and `docker run`, as the engines send them, over the plugin's socket. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createNetwork, removeNetwork, requestPool } from '../driver/fake/docker-calls.ts';
import { PluginFixture } from '../driver/fake/plugin-fixture.ts';

async function startPlugin(t: TestContext): Promise<PluginFixture> {
  const plugin = await PluginFixture.start();
  t.after(() => plugin.stop());
  return plugin;
}

test('a network with both families takes pools and gateways from the node ranges', async (t) => {
  const plugin = await startPlugin(t);
  const pool = await plugin.call('IpamDriver.RequestPool', {
    AddressSpace: 'CiliumLocal',
    Pool: '',
    SubPool: '',
    Options: null,
    V6: true,
  });
  assert.deepEqual(pool, { PoolID: 'CiliumLocal/fd15::/112', Pool: 'fd15::/112', Data: {} });
  const gateway = await plugin.call('IpamDriver.RequestAddress', {
    PoolID: pool['PoolID'],
    Address: '',
    Options: { RequestAddressType: 'com.docker.network.gateway' },
  });
  assert.deepEqual(gateway, { Address: 'fd15::1/128', Data: {} });
});

test('a container gets /32 and /128 of its pools, and after its end they are free', async (t) => {
  const plugin = await startPlugin(t);
  const [pool4 = '', pool6 = ''] = await createNetwork(plugin, 'net1', { ipv6: true });
  const given = [];
  for (const PoolID of [pool4, pool6]) {
    given.push(await plugin.call('IpamDriver.RequestAddress', { PoolID, Address: '', Options: null }));
  }
  assert.deepEqual(given, [
    { Address: '10.15.0.2/32', Data: {} },
    { Address: 'fd15::2/128', Data: {} },
  ]);
  for (const again of [1, 2]) {
    const release = { PoolID: pool4, Address: '10.15.0.2' };
    assert.equal(await plugin.error('IpamDriver.ReleaseAddress', release), undefined, `release ${again}`);
  }
  assert.equal(plugin.ipam.get(pool4)?.leasedCount, 1);
});

test('the release of an address that the network driver gave itself, which Docker sends with no pool, is no error', async (t) => {
  const plugin = await startPlugin(t);
  assert.equal(await plugin.error('IpamDriver.ReleaseAddress', { PoolID: '', Address: 'fd15::2' }), undefined);
  assert.match(String(await plugin.error('IpamDriver.ReleaseAddress', { Address: 'fd15::2' })), /PoolID/);
});

test('--subnet, --ip-range, --gateway, --aux-address and --ip are honoured', async (t) => {
  const plugin = await startPlugin(t);
  const shape = { subnet: '10.201.0.0/16', ipRange: '10.201.5.0/24', gateway: '10.201.0.254' };
  const { PoolID, Pool, Gateway } = await requestPool(plugin, false, shape);
  assert.deepEqual([Pool, Gateway], ['10.201.0.0/16', '10.201.0.254/32']);
  const request = async (Address: string): Promise<unknown> =>
    (await plugin.call('IpamDriver.RequestAddress', { PoolID, Address, Options: null }))['Address'];
  assert.equal(await request('10.201.0.9'), '10.201.0.9/32', 'auxiliary, outside the range');
  assert.equal(await request('10.201.5.0'), '10.201.5.0/32', 'auxiliary, inside the range');
  assert.equal(await request(''), '10.201.5.1/32');
  assert.equal(await request('10.201.77.7'), '10.201.77.7/32', '--ip');
  assert.match(
    String(await plugin.error('IpamDriver.RequestAddress', { PoolID, Address: '10.201.0.9' })),
    /10.201.0.9 is in use/,
  );
});

test('a Docker that was killed asks for what it held, then releases it; nothing is lost or given twice', async (t) => {
  const plugin = await startPlugin(t);
  const [PoolID = ''] = await createNetwork(plugin, 'net1', { subnet: '10.20.0.0/24' });
  await plugin.call('IpamDriver.RequestAddress', { PoolID, Address: '' });
  await plugin.raw('Plugin.Activate', undefined);
  await requestPool(plugin, false, { subnet: '10.20.0.0/24', gateway: '10.20.0.1' });
  const known = { PoolID, Address: '10.20.0.2' };
  assert.equal(await plugin.error('IpamDriver.RequestAddress', known), undefined);
  assert.equal((await plugin.call('IpamDriver.RequestAddress', { PoolID }))['Address'], '10.20.0.3/32');
  assert.equal(await plugin.error('IpamDriver.ReleaseAddress', known), undefined);
  const second = { AddressSpace: 'CiliumLocal', Pool: '10.20.0.0/24' };
  assert.match(String(await plugin.error('IpamDriver.RequestPool', second)), /overlaps/);
});

test('a replay to an agent whose files are lost makes pools and leases again', async (t) => {
  const plugin = await startPlugin(t);
  await plugin.raw('Plugin.Activate', undefined);
  const { PoolID } = await requestPool(plugin, false, { subnet: '10.15.3.0/24', gateway: '10.15.3.1' });
  assert.equal(await plugin.error('IpamDriver.RequestAddress', { PoolID, Address: '10.15.3.7' }), undefined);
  const [carved] = await createNetwork(plugin, 'net2');
  assert.equal(carved, 'CiliumLocal/10.15.0.0/24');
});

test('the engine that finds our pool in conflict asks again, gets others, and an end', async (t) => {
  const plugin = await startPlugin(t);
  const seen = new Set<unknown>();
  for (;;) {
    const answer = await plugin.call('IpamDriver.RequestPool', { AddressSpace: 'CiliumLocal', Pool: '' });
    if (answer['Error'] !== undefined) {
      assert.match(JSON.stringify(answer), /no \/24 is left/);
      break;
    }
    assert.ok(!seen.has(answer['Pool']));
    seen.add(answer['Pool']);
  }
  assert.equal(seen.size, 256);
});

test('a network that is removed releases gateway and pool in any order, and again', async (t) => {
  const plugin = await startPlugin(t);
  const pools = await createNetwork(plugin, 'net1', { ipv6: true });
  const gateway = { PoolID: pools[0], Address: '10.15.0.1' };
  await removeNetwork(plugin, 'net1', pools);
  assert.equal(await plugin.error('IpamDriver.ReleaseAddress', gateway), undefined);
  await removeNetwork(plugin, 'net1', pools);
  assert.deepEqual([...plugin.ipam.pools()], []);
});
