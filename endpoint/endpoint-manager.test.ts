// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { IpAddress } from '../net/ip.ts';
import { silentLogger } from '../runtime/logger.ts';
import type { IdentityRegistry } from './endpoint-manager-deps.ts';
import type { EndpointManager } from './endpoint-manager.ts';
import type { Endpoint } from './endpoint.ts';
import { namesOn } from './endpoint.ts';
import { EP1, EP2, identityOf, request, World } from './fake/world.ts';
import { EndpointStore } from './store.ts';

test('an endpoint enters the network only with its identity and policy, in that order', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  assert.equal(world.records.size, 0);
  world.runContainer(EP1, 'app1');
  const { endpoint, peerName } = await manager.join(EP1);
  assert.deepEqual(world.steps, ['identity', 'policy', 'record', 'record', 'ipcache', 'ipcache']);
  assert.equal(peerName, 'tmp111111111111');
  assert.equal(endpoint.state, 'ready');
  assert.equal(endpoint.policyRevision, 5);
  const record = world.records.get('fd15::2')!;
  assert.equal(record.identity, endpoint.identity?.identity);
  assert.equal(record.policySlot, endpoint.policySlot);
});

test('a container that Docker does not name keeps the endpoint closed and the start fails with a remedy', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  await assert.rejects(manager.join(EP1), /start the container again/);
  assert.equal(world.records.size, 0);
  assert.equal(manager.getByDockerId(EP1)?.state, 'creating');
});

test('an address that other nodes take for another container keeps the endpoint closed, and its identity is given back', async () => {
  const world = new World();
  const asked: string[] = [];
  const manager = world.manager({
    takeOver: (addresses, identity) => {
      asked.push(`${addresses.join(' ')} ${identity} ${world.steps.join()}`);
      return Promise.reject(new Error('cannot be told'));
    },
  });
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  await assert.rejects(manager.join(EP1), /cannot be told/);
  assert.deepEqual(asked, [`10.15.0.2 fd15::2 ${identityOf('container:id=app1;')} identity`]);
  assert.equal(world.records.size + world.ipcache.size, 0);
  assert.deepEqual([...world.identityUsers.values()], [0]);
});

test('create and join may be repeated, with other addresses they are refused', async () => {
  const world = new World();
  const manager = world.manager();
  const first = await manager.create(request());
  assert.equal(await manager.create(request()), first);
  await assert.rejects(manager.create(request({ ipv4: IpAddress.parse('10.15.0.9') })), /other addresses/);
  world.runContainer(EP1, 'app1');
  await manager.join(EP1);
  assert.equal((await manager.join(EP1)).endpoint, first);
  assert.deepEqual([...world.identityUsers.values()], [1]);
});

test('an address of another endpoint is refused and leaves nothing', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  await assert.rejects(manager.create(request({ dockerEndpointId: EP2, ipv6: undefined })), /in use by endpoint 1/);
  assert.equal(world.links.size, 1);
});

test('delete leaves nothing, in the kernel or on disk, and may be repeated', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  await manager.join(EP1);
  world.steps.length = 0;
  await manager.delete(EP1);
  await manager.delete(EP1);
  assert.deepEqual(world.steps, ['unrecord', 'unrecord', 'purge', 'release']);
  assert.equal(world.records.size + world.ipcache.size + world.links.size + world.slots.size, 0);
  assert.deepEqual(readdirSync(join(world.stateDir, 'endpoints')), []);
});

test('a policy or disk that fails during join gives everything back', async () => {
  const world = new World();
  const store = new EndpointStore(world.stateDir, silentLogger);
  const manager = world.manager({ store });
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  const save = store.save.bind(store);
  store.save = () => Promise.reject(new Error('disk is full'));
  await assert.rejects(manager.join(EP1), /disk is full/);
  assert.equal(world.records.size + world.slots.size, 0);
  assert.deepEqual([...world.identityUsers.values()], [0]);
  store.save = save;
  await manager.delete(EP1);
  assert.deepEqual(manager.list(), []);
});

test('a create that cannot be remembered leaves no interface', async () => {
  const world = new World();
  const store = new EndpointStore(world.stateDir, silentLogger);
  store.save = () => Promise.reject(new Error('disk is full'));
  const manager = world.manager({ store });
  await assert.rejects(manager.create(request()), /disk is full/);
  assert.equal(world.links.size, 0);
  assert.deepEqual(manager.list(), []);
});

test('after a restart endpoints keep identity and slot, and those without interface are collected', async () => {
  const world = new World();
  const before = world.manager();
  for (const [id, last] of [
    [EP1, '2'],
    [EP2, '3'],
  ] as const) {
    await before.create(request({ dockerEndpointId: id, ipv4: IpAddress.parse(`10.15.0.${last}`), ipv6: undefined }));
    world.runContainer(id, `app${last}`);
    await before.join(id);
  }
  const old = before.getByDockerId(EP1)!;
  world.links.delete(before.getByDockerId(EP2)!.facts.ifName);

  const after = world.manager();
  assert.deepEqual(await after.restore(), { adopted: 1, collected: 1 });
  const endpoint = after.getByDockerId(EP1)!;
  assert.equal(endpoint.state, 'ready');
  assert.equal(endpoint.id, old.id);
  assert.equal(endpoint.policySlot, old.policySlot);
  assert.deepEqual([...world.records.keys()], ['10.15.0.2']);
  assert.notEqual(
    (await after.create(request({ dockerEndpointId: EP2, ipv4: IpAddress.parse('10.15.0.3'), ipv6: undefined }))).id,
    old.id,
  );
});

test('a broken endpoint file is set aside and the others are restored', async () => {
  const world = new World();
  const before = world.manager();
  await before.create(request());
  writeFileSync(join(world.stateDir, 'endpoints', '77.json'), '{"version":1,');
  const after = world.manager();
  assert.equal((await after.restore()).adopted, 1);
  assert.ok(readdirSync(join(world.stateDir, 'endpoints')).includes('77.json.broken'));
});

test('what a write cut short left behind is cleared away at the next start', async () => {
  const world = new World();
  writeFileSync(join(world.stateDir, 'endpoints', '1.json.0123456789ab.tmp'), '{');
  await world.manager().restore();
  assert.deepEqual(readdirSync(join(world.stateDir, 'endpoints')), []);
});

test('labels changed by hand give another identity and give the old one back', async () => {
  const world = new World();
  const manager = world.manager();
  const { id } = await manager.create(request());
  world.runContainer(EP1, 'app1');
  await manager.join(EP1);
  const endpoint = await manager.changeLabels(id, { added: ['container:tier=web'], disabled: [] });
  assert.equal(endpoint.state, 'ready');
  assert.deepEqual([...world.identityUsers.values()], [0, 1]);
});

async function twoOfOneIdentity(): Promise<{ world: World; manager: EndpointManager; labels: string }> {
  const world = new World();
  const manager = world.manager();
  for (const [dockerEndpointId, ipv4, id] of [
    [EP1, '10.15.0.2', 'app1'],
    [EP2, '10.15.0.3', 'app1'],
    ['3'.repeat(64), '10.15.0.4', 'other'],
  ] as const) {
    await manager.create(request({ dockerEndpointId, ipv4: IpAddress.parse(ipv4), ipv6: undefined }));
    world.runContainer(dockerEndpointId, id);
    await manager.join(dockerEndpointId);
  }
  return { world, manager, labels: manager.getByDockerId(EP1)!.identity!.labels };
}

test('endpoints whose identity has another number get that one, and it is asked for after a restart', async () => {
  const { world, manager, labels } = await twoOfOneIdentity();
  const changed: number[] = [];
  manager.onChange((event, { id }) => event === 'changed' && changed.push(id));
  const before = new Set(world.slots.keys());
  await manager.renumber(labels, 777);
  assert.deepEqual(
    manager.list().map(({ identity, state }) => [identity?.identity === 777, state]),
    [
      [true, 'ready'],
      [true, 'ready'],
      [false, 'ready'],
    ],
  );
  assert.deepEqual(changed.sort(), [1, 2]);
  assert.equal([...world.ipcache.values()].filter((identity) => identity === 777).length, 2);
  assert.equal([...world.records.values()].filter(({ identity }) => identity === 777).length, 2);
  assert.equal(world.slots.size, before.size, 'the slot of the old number is given back');
  assert.deepEqual([...world.identityUsers.values()], [2, 1], 'users stay counted');
  await manager.renumber(labels, 777);
  assert.equal(changed.length, 2);
  const asked: number[] = [];
  const identities: IdentityRegistry = {
    acquire: () => assert.fail('nothing starts'),
    reacquire: (_labels, identity) => {
      asked.push(identity);
      return Promise.resolve(identity);
    },
    release: () => Promise.resolve(),
  };
  await world.manager({ identities }).restore();
  assert.deepEqual(asked.slice(0, 2), [777, 777]);
});

test('an endpoint that cannot get the new number of its identity is closed', async () => {
  const { world, manager, labels } = await twoOfOneIdentity();
  world.noSlotLeft = true;
  await manager.renumber(labels, 777);
  assert.deepEqual(
    manager.list().map(({ state }) => state),
    ['not-ready', 'not-ready', 'ready'],
  );
  assert.equal(world.records.size, 1);
  assert.equal(world.ipcache.size, 1);
  assert.deepEqual([...world.identityUsers.values()], [0, 1]);
  await manager.stop();
});

test('an endpoint that died while there was no agent takes nothing from those that share its identity', async () => {
  const world = new World();
  const before = world.manager();
  for (const [dockerEndpointId, ipv4] of [
    [EP1, '10.15.0.2'],
    [EP2, '10.15.0.3'],
  ] as const) {
    await before.create(request({ dockerEndpointId, ipv4: IpAddress.parse(ipv4), ipv6: undefined }));
    world.runContainer(dockerEndpointId, 'app1');
    await before.join(dockerEndpointId);
  }
  world.links.delete(before.getByDockerId(EP2)!.facts.ifName);
  world.identityUsers.clear();

  const after = world.manager();
  assert.deepEqual(await after.restore(), { adopted: 1, collected: 1 });
  assert.ok(world.slots.has(after.getByDockerId(EP1)!.policySlot), 'the slot that it uses is still its own');
  assert.deepEqual([...world.identityUsers.values()], [1]);
});

test('a slot that the kernel has under another identity is not taken over', async () => {
  const world = new World();
  const before = world.manager();
  for (const [dockerEndpointId, ipv4] of [
    [EP1, '10.15.0.2'],
    [EP2, '10.15.0.3'],
  ] as const) {
    await before.create(request({ dockerEndpointId, ipv4: IpAddress.parse(ipv4), ipv6: undefined }));
    world.runContainer(dockerEndpointId, 'app1');
    await before.join(dockerEndpointId);
  }
  // The agent was killed when it had written down the first one's new identity, and nothing in the kernel.
  const first = before.getByDockerId(EP1)!;
  const { container } = first.identity!;
  const labels = 'container:id=app1;container:tier=web;';
  first.identify({ container, labels, identity: identityOf(labels) });
  await new EndpointStore(world.stateDir, silentLogger).save(first);

  const after = world.manager();
  await after.restore();
  const [one, two] = [after.getByDockerId(EP1)!, after.getByDockerId(EP2)!];
  assert.notEqual(one.policySlot, two.policySlot);
  assert.equal(world.records.get('10.15.0.2')?.policySlot, one.policySlot);
});

test('one endpoint that cannot be restored stays closed and does not keep the agent from starting', async () => {
  const world = new World();
  const before = world.manager();
  await before.create(request());
  world.runContainer(EP1, 'app1');
  await before.join(EP1);

  const after = world.manager();
  world.records.clear();
  world.noSlotLeft = true;
  await after.restore();
  const endpoint = after.getByDockerId(EP1)!;
  assert.equal(endpoint.state, 'not-ready');
  assert.match(endpoint.policyError ?? '', /no spare policy slot/);
  assert.equal(world.records.size + world.ipcache.size, 0);
});

/** An agent that came back when there was no slot for its only endpoint. */
async function closedEndpoint(): Promise<{ world: World; manager: EndpointManager; endpoint: Endpoint }> {
  const world = new World();
  const before = world.manager();
  await before.create(request());
  world.runContainer(EP1, 'app1');
  await before.join(EP1);
  const manager = world.manager();
  world.records.clear();
  world.noSlotLeft = true;
  world.identityUsers.clear();
  await manager.restore();
  return { world, manager, endpoint: manager.getByDockerId(EP1)! };
}

test('an endpoint that could not be restored is tried again until it is open', async () => {
  const { world, manager, endpoint } = await closedEndpoint();
  const changes: string[] = [];
  manager.onChange((event) => changes.push(event));
  while (manager.status.consecutiveFailures < 3) await world.clock.advance(100);
  assert.equal(endpoint.state, 'not-ready');
  assert.match(manager.status.lastError ?? '', /1 endpoints are closed.*no spare policy slot/);
  assert.deepEqual([...world.identityUsers.values()], [0], 'each try gives back what it took');
  assert.equal(world.records.size + world.ipcache.size, 0);
  await assert.rejects(manager.changeLabels(endpoint.id, { added: ['a=b'], disabled: [] }), {
    code: 'Precondition',
    message: /is closed: it could not be restored \(.*no spare policy slot.*tried again/,
  });
  world.noSlotLeft = false;
  while (manager.status.successCount === 0) await world.clock.advance(100);
  assert.equal(endpoint.state, 'ready');
  assert.equal(endpoint.policyError, undefined);
  assert.deepEqual([...world.identityUsers.values()], [1]);
  assert.equal(world.records.size, 2);
  assert.equal(world.ipcache.size, 2);
  assert.deepEqual(changes, ['changed']);
  await manager.stop();
});

test('an endpoint that is deleted while it is closed is not tried again', async () => {
  const { world, manager } = await closedEndpoint();
  await manager.delete(EP1);
  world.noSlotLeft = false;
  while (manager.status.successCount === 0) await world.clock.advance(100);
  assert.equal(world.records.size + world.ipcache.size, 0);
  assert.deepEqual([...world.identityUsers.values()], [0]);
  await manager.stop();
});

test('identities of all endpoints are held before the first policy is resolved', async () => {
  const world = new World();
  const before = world.manager();
  for (const [dockerEndpointId, ipv4, ipv6] of [
    [EP1, '10.15.0.2', 'fd15::2'],
    [EP2, '10.15.0.3', 'fd15::3'],
  ] as const) {
    await before.create(request({ dockerEndpointId, ipv4: IpAddress.parse(ipv4), ipv6: IpAddress.parse(ipv6) }));
    world.runContainer(dockerEndpointId, dockerEndpointId.slice(0, 4));
    await before.join(dockerEndpointId);
  }
  world.identityUsers.clear();
  const policy = world.policy();
  const adopt = policy.adopt.bind(policy);
  const heldThen: number[] = [];
  policy.adopt = (identity, slot) => {
    heldThen.push(world.identityUsers.size);
    return adopt(identity, slot);
  };
  await world.manager({ policy }).restore();
  assert.deepEqual(heldThen, [2, 2]);
});

test('a change of policy does not bring back the record of an endpoint that is being deleted', async () => {
  const world = new World();
  let moveTo: (identities: ReadonlySet<number>, slot: number) => void = () => undefined;
  const policy = world.policy();
  policy.onSlotChange = (listener) => (moveTo = listener);
  const manager = world.manager({ policy });
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  const { endpoint } = await manager.join(EP1);
  const { identity } = endpoint.identity!;
  world.onRelease = () => moveTo(new Set([identity]), 77);
  await manager.delete(EP1);
  assert.equal(world.records.size, 0);
});

test('a join that fails halfway leaves no record that names the slot given back', async () => {
  const world = new World();
  const records = world.recordMap();
  const manager = world.manager({
    records: {
      ...records,
      update: (address, record) => {
        if (address.family === 6) throw new Error('the map is full');
        records.update(address, record);
      },
    },
  });
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  await assert.rejects(manager.join(EP1), /map is full/);
  assert.equal(world.records.size + world.ipcache.size + world.slots.size, 0);
});

test('labels that cannot be changed leave the endpoint as it was, ready for the next policy', async () => {
  const world = new World();
  const store = new EndpointStore(world.stateDir, silentLogger);
  const manager = world.manager({ store });
  const { id } = await manager.create(request());
  world.runContainer(EP1, 'app1');
  const { endpoint } = await manager.join(EP1);
  const { identity, policySlot } = endpoint;
  store.save = () => Promise.reject(new Error('disk is full'));
  await assert.rejects(manager.changeLabels(id, { added: ['container:tier=web'], disabled: [] }), /disk is full/);
  assert.equal(endpoint.state, 'ready');
  assert.deepEqual(endpoint.labelChanges, { added: [], disabled: [] });
  assert.deepEqual([endpoint.identity, endpoint.policySlot], [identity, policySlot]);
  assert.equal(world.records.get('10.15.0.2')?.policySlot, policySlot);
  assert.deepEqual([...world.identityUsers.values()], [1, 0]);
});

test('labels of an endpoint that is deleted meanwhile are not changed', async () => {
  const world = new World();
  const manager = world.manager();
  const { id } = await manager.create(request());
  world.runContainer(EP1, 'app1');
  await manager.join(EP1);
  const deleted = manager.delete(EP1);
  await assert.rejects(manager.changeLabels(id, { added: ['container:tier=web'], disabled: [] }), /does not exist/);
  await deleted;
});

test('two endpoints that ask for one address at the same time do not both get it', async () => {
  const world = new World();
  const manager = world.manager();
  const outcomes = await Promise.allSettled([
    manager.create(request({ ipv6: undefined })),
    manager.create(request({ dockerEndpointId: EP2, ipv6: undefined })),
  ]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  );
  assert.equal(world.links.size, 1);
});

test('what a container is called now is told once and survives a restart', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  const { endpoint } = await manager.join(EP1);
  const changes: string[] = [];
  manager.onChange((event) => changes.push(event));
  assert.equal(namesOn(endpoint.identity!.container), undefined, 'nobody has said which network it is');
  const names = { name: 'new', network: 'net1', aliases: ['web', 'new'] };
  await manager.rename(EP1, names);
  await manager.rename(EP1, { ...names });
  await manager.rename(EP2, names);
  assert.deepEqual(changes, ['renamed']);
  const restarted = world.manager();
  await restarted.restore();
  const { container } = restarted.getByDockerId(EP1)!.identity!;
  assert.deepEqual(namesOn(container), { names: ['new', container.id.slice(0, 12), 'web'], network: 'net1' });
  await restarted.changeLabels(1, { added: ['a=b'], disabled: [] });
  assert.equal(restarted.getByDockerId(EP1)?.identity?.container.name, 'new');
});

test('a name that cannot be remembered is not told, and is taken when it comes again', async () => {
  const world = new World();
  const manager = world.manager();
  await manager.create(request());
  world.runContainer(EP1, 'app1');
  const { endpoint } = await manager.join(EP1);
  const changes: string[] = [];
  manager.onChange((event) => changes.push(event));
  const folder = join(world.stateDir, 'endpoints');
  renameSync(folder, `${folder}.away`);
  const names = { name: 'new', network: 'net1', aliases: [] };
  await assert.rejects(manager.rename(EP1, names), { code: 'System' });
  assert.equal(endpoint.identity?.container.name, 'app1');
  renameSync(`${folder}.away`, folder);
  await manager.rename(EP1, names);
  assert.equal(endpoint.identity.container.name, 'new');
  assert.deepEqual(changes, ['renamed']);
});
