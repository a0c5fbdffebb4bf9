// SPDX-License-Identifier: Apache-2.0

/** The socket and the envelope of each call. */
import assert from 'node:assert/strict';
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { CALL_TIMEOUT_MS } from '../ipam/plugin-router.ts';
import { settle } from '../runtime/fake/manual-clock.ts';
import { PluginFixture } from './fake/plugin-fixture.ts';
import { createNetwork, endpointRequest } from './fake/docker-calls.ts';

async function startPlugin(t: TestContext): Promise<PluginFixture> {
  const plugin = await PluginFixture.start();
  t.after(() => plugin.stop());
  return plugin;
}

const CONSTANTS: [string, object][] = [
  ['Plugin.Activate', { Implements: ['NetworkDriver', 'IpamDriver'] }],
  ['NetworkDriver.GetCapabilities', { Scope: 'local', ConnectivityScope: 'local' }],
  ['IpamDriver.GetCapabilities', { RequiresMACAddress: false, RequiresRequestReplay: true }],
  [
    'IpamDriver.GetDefaultAddressSpaces',
    { LocalDefaultAddressSpace: 'CiliumLocal', GlobalDefaultAddressSpace: 'CiliumGlobal' },
  ],
  ['NetworkDriver.EndpointOperInfo', { Value: {} }],
  ['NetworkDriver.GwAllocCheck', { SkipIPv4: false, SkipIPv6: false }],
  ['NetworkDriver.DiscoverNew', {}],
  ['NetworkDriver.DiscoverDelete', {}],
  ['NetworkDriver.FreeNetwork', {}],
];
for (const [method, reply] of CONSTANTS) {
  test(`${method} has one answer, also without a body`, async (t) => {
    const plugin = await startPlugin(t);
    for (const body of [undefined, '{"NetworkID":"n","Options":null}\n']) {
      const answer = await plugin.raw(method, body);
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.body, reply);
    }
  });
}

test('Docker is told the scope that is configured', async (t) => {
  const plugin = await PluginFixture.start('none', 'global');
  t.after(() => plugin.stop());
  const { body } = await plugin.raw('NetworkDriver.GetCapabilities', undefined);
  assert.deepEqual(body, { Scope: 'global', ConnectivityScope: 'global' });
});

const WITH_REQUEST = [
  'NetworkDriver.CreateNetwork',
  'NetworkDriver.DeleteNetwork',
  'NetworkDriver.AllocateNetwork',
  'NetworkDriver.CreateEndpoint',
  'NetworkDriver.DeleteEndpoint',
  'NetworkDriver.Join',
  'NetworkDriver.Leave',
  'NetworkDriver.ProgramExternalConnectivity',
  'NetworkDriver.RevokeExternalConnectivity',
  'IpamDriver.RequestPool',
  'IpamDriver.ReleasePool',
  'IpamDriver.RequestAddress',
  'IpamDriver.ReleaseAddress',
];
for (const method of WITH_REQUEST) {
  test(`${method} refuses a call that lost its body, under both error keys, and does nothing`, async (t) => {
    const plugin = await startPlugin(t);
    for (const body of [undefined, '{}', '\n']) {
      const { status, body: reply } = await plugin.raw(method, body);
      assert.equal(status, 400);
      assert.match(String(reply['Err']), /body|JSON/);
      assert.equal(reply['Err'], reply['Error']);
    }
    assert.deepEqual(plugin.hooks.calls, []);
    assert.deepEqual([...plugin.ipam.pools()], []);
  });
}

const UNREADABLE: [string, string, RegExp][] = [
  ['NetworkDriver.Leave', '{"NetworkID":', /NetworkDriver.Leave: .*JSON/],
  ['NetworkDriver.Leave', '[1]', /Leave: Invalid input: expected object/],
  ['NetworkDriver.Leave', '{"a":1}', /NetworkID: expected an ID; EndpointID: expected an ID/],
  ['NetworkDriver.Leave', '{"NetworkID":"n","EndpointID":""}', /EndpointID: expected an ID, not an empty text/],
  [
    'NetworkDriver.CreateNetwork',
    '{"NetworkID":"n","IPv4Data":[{"Pool":"10.0.0/24"}]}',
    /IPv4Data\[0\]\.Pool: "10.0.0\/24" is not/,
  ],
  [
    'NetworkDriver.CreateEndpoint',
    '{"NetworkID":"n","EndpointID":"e","Interface":{"MacAddress":"1:2"}}',
    /Interface\.MacAddress: "1:2"/,
  ],
  ['IpamDriver.RequestPool', '{"AddressSpace":"other"}', /AddressSpace: .*CiliumLocal/],
  ['IpamDriver.RequestAddress', '{"PoolID":"p","Address":"10.0.0.256"}', /Address: "10.0.0.256" is not an IP address/],
];
for (const [method, body, problem] of UNREADABLE) {
  test(`${method} with ${body} is refused by naming the field`, async (t) => {
    const plugin = await startPlugin(t);
    const answer = await plugin.raw(method, body);
    assert.equal(answer.status, 400);
    assert.match(String(answer.body['Err']), problem);
    assert.equal(answer.body['Err'], answer.body['Error']);
  });
}

test('a method that nobody knows is answered 404 with both error keys', async (t) => {
  const plugin = await startPlugin(t);
  const { status, body } = await plugin.raw('NetworkDriver.Fly', '{}');
  assert.equal(status, 404);
  assert.match(String(body['Err']), /NetworkDriver.Fly is no method/);
  assert.equal(body['Err'], body['Error']);
});

test('an operation that fails is answered 200 with both error keys', async (t) => {
  const plugin = await startPlugin(t);
  const answer = await plugin.raw('IpamDriver.RequestAddress', '{"PoolID":"p"}');
  assert.equal(answer.status, 200);
  assert.match(String(answer.body['Error']), /pool "p" is not known/);
  assert.equal(answer.body['Err'], answer.body['Error']);
});

test('a request of more than a megabyte is read', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { options: { 'cilium.published-ports': 'ignore' } });
  const ports = Array.from({ length: 15_000 }, (_, i) => ({
    Proto: 6,
    IP: '',
    Port: i,
    HostIP: '',
    HostPort: i,
    HostPortEnd: i,
  }));
  const request = endpointRequest('net1', 'ep1', { address: '10.15.0.2/32', ports });
  assert.ok(JSON.stringify(request).length > 1_000_000);
  assert.equal(await plugin.error('NetworkDriver.CreateEndpoint', request), undefined);
});

test('connections are kept open without a time limit', async (t) => {
  const plugin = await startPlugin(t);
  const { headers } = await plugin.raw('Plugin.Activate', undefined);
  assert.equal(headers['connection'], 'keep-alive');
  assert.equal(headers['keep-alive'], undefined, 'node announces its limit when it has one');
});

test('calls of several containers are at work at the same time', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const gate = Promise.withResolvers<undefined>();
  plugin.hooks.during.set('create', () => gate.promise);
  const calls = Array.from({ length: 8 }, (_, i) =>
    plugin.error('NetworkDriver.CreateEndpoint', endpointRequest('net1', `ep${i}`, { address: `10.15.0.${i + 2}/32` })),
  );
  while (plugin.hooks.calls.filter((call) => call.startsWith('create ')).length < 8) await settle();
  gate.resolve(undefined);
  assert.deepEqual(await Promise.all(calls), new Array(8).fill(undefined));
});

test('calls of one endpoint run one after the other', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const gate = Promise.withResolvers<undefined>();
  plugin.hooks.during.set('create', () => gate.promise);
  const create = plugin.error(
    'NetworkDriver.CreateEndpoint',
    endpointRequest('net1', 'ep1', { address: '10.15.0.2/32' }),
  );
  while (!plugin.hooks.calls.includes('create ep1')) await settle();
  const remove = plugin.error('NetworkDriver.DeleteEndpoint', { NetworkID: 'net1', EndpointID: 'ep1' });
  await settle();
  assert.ok(!plugin.hooks.calls.includes('delete ep1'));
  gate.resolve(undefined);
  assert.deepEqual(await Promise.all([create, remove]), [undefined, undefined]);
  assert.ok(plugin.hooks.calls.includes('delete ep1'));
});

test('a call that hangs is answered with an error in time, and what it makes afterwards is taken away', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1', { ipv6: false });
  const gate = Promise.withResolvers<undefined>();
  plugin.hooks.during.set('create', () => gate.promise);
  const create = plugin.error(
    'NetworkDriver.CreateEndpoint',
    endpointRequest('net1', 'ep1', { address: '10.15.0.2/32' }),
  );
  while (!plugin.hooks.calls.includes('create ep1')) await settle();
  await plugin.clock.advance(CALL_TIMEOUT_MS);
  assert.match(String(await create), /CreateEndpoint did not finish within 9 s/);
  gate.resolve(undefined);
  while (!plugin.hooks.calls.includes('delete ep1')) await settle();
  await settle();
  assert.equal(plugin.hooks.endpointsById.size, 0);
  const { poolId } = plugin.networks.get('net1')!.ipv6Allocation!;
  assert.equal(plugin.ipam.get(poolId)?.ownedBy('ep1'), undefined);
});

test('a finished call leaves no timer behind', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  await plugin.error('NetworkDriver.Leave', { NetworkID: 'net1', EndpointID: 'ep1' });
  await settle();
  assert.deepEqual(plugin.clock.pending, []);
});

test('the socket is private, alone in its folder, and replaces a stale one', async (t) => {
  const plugin = await startPlugin(t);
  assert.equal((await stat(plugin.socketPath)).mode & 0o777, 0o600);
  await plugin.server.stop();
  await writeFile(plugin.socketPath, 'left by a crash');
  await plugin.server.start();
  assert.ok((await stat(plugin.socketPath)).isSocket());
  assert.deepEqual(await readdir(dirname(plugin.socketPath)), ['cilium.sock']);
  assert.equal((await plugin.raw('Plugin.Activate', undefined)).status, 200);
});

test('stopping takes the socket away, may be repeated, and leaves that of a later agent alone', async (t) => {
  const plugin = await startPlugin(t);
  await plugin.server.stop();
  await plugin.server.stop();
  assert.deepEqual(await readdir(dirname(plugin.socketPath)), []);
  await plugin.server.start();
  await rm(plugin.socketPath);
  await writeFile(plugin.socketPath, 'a later agent');
  await plugin.server.stop();
  assert.deepEqual(await readdir(dirname(plugin.socketPath)), ['cilium.sock']);
});

test('a socket that cannot be made is an error and leaves nothing', async (t) => {
  const plugin = await startPlugin(t);
  await plugin.server.stop();
  const folder = dirname(plugin.socketPath);
  await rm(folder, { recursive: true });
  await writeFile(folder, 'not a folder');
  await assert.rejects(plugin.server.start());
});

test('stopping lets a call at work finish', async (t) => {
  const plugin = await startPlugin(t);
  await createNetwork(plugin, 'net1');
  const gate = Promise.withResolvers<undefined>();
  plugin.hooks.during.set('leave', () => gate.promise);
  const leave = plugin.error('NetworkDriver.Leave', { NetworkID: 'net1', EndpointID: 'ep1' });
  while (!plugin.hooks.calls.includes('leave ep1')) await settle();
  const stopped = plugin.server.stop();
  await settle();
  gate.resolve(undefined);
  assert.equal(await leave, undefined);
  await stopped;
});
