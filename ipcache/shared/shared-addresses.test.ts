// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { EmbeddedKvstore } from '../../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../../kvstore/embedded/engine.ts';
import { SESSION_TTL_MS } from '../../kvstore/kvstore.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { ManualClock, settle } from '../../runtime/fake/manual-clock.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { temporaryFolder } from '../../tests/support/temporary-folder.ts';
import { ADDRESSES_PREFIX, addressKey } from './address-value.ts';
import { Claims, Identities, SharedNode } from './fake/shared-node.ts';

const HOST1 = '192.168.60.11';
const HOST2 = '192.168.60.12';
const CLIENT = 300;
const SERVER = 301;

/** One store and nodes with ranges 10.11.0.0/16, 10.12.0.0/16, … that know CLIENT and SERVER. */
class World {
  readonly clock = new ManualClock();
  readonly claims = new Claims();
  readonly identities = new Identities();
  readonly engine: EmbeddedEngine;
  readonly #test: TestContext;

  private constructor(test: TestContext, folder: string) {
    this.#test = test;
    this.engine = new EmbeddedEngine({ folder, clock: this.clock, log: silentLogger });
    this.claims.set(HOST1, '10.11.0.0/16', 'fd11::/64');
    this.claims.set(HOST2, '10.12.0.0/16', 'fd12::/64');
    this.identities.learn(CLIENT, SERVER);
  }

  static async open(test: TestContext): Promise<World> {
    const folder = await temporaryFolder('addresses');
    const world = new World(test, folder);
    await world.engine.start();
    test.after(async () => {
      await world.engine.stop();
      await rm(folder, { recursive: true });
    });
    return world;
  }

  async client(): Promise<EmbeddedKvstore> {
    const store = new EmbeddedKvstore(this.engine);
    await store.start();
    return store;
  }

  /** Not started. */
  async newNode(host: string, claims = this.claims, identities = this.identities): Promise<SharedNode> {
    const node = new SharedNode({ host, store: await this.client(), claims, identities, clock: this.clock });
    this.#test.after(() => node.stop());
    return node;
  }

  async node(host: string, claims?: Claims, identities?: Identities): Promise<SharedNode> {
    const node = await this.newNode(host, claims, identities);
    await node.start();
    return node;
  }

  async keys(): Promise<string[]> {
    const { entries } = await (await this.client()).list(ADDRESSES_PREFIX);
    return entries.map(
      ({ key, value }) => `${key.slice(ADDRESSES_PREFIX.length)}=${(JSON.parse(value) as { ID: number }).ID}`,
    );
  }
}

async function becomes(node: SharedNode, ...image: string[]): Promise<void> {
  await eventually('the news arrives', () => assert.deepEqual(node.image, image));
}

test('what one node publishes the other has in its ipcache, in both families, until it is withdrawn', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT, ['web', 'alias']);
  node1.publish('fd11::1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`, `fd11::1=${CLIENT}@${HOST1}`);
  assert.deepEqual(node1.image, [], 'what a node says itself is no news to it');
  const [first] = [...node2.remote.entries()];
  assert.deepEqual(first?.docker, { names: ['web', 'alias'], network: 'net' });
  node1.publish('10.11.0.1', SERVER, ['web']);
  await becomes(node2, `10.11.0.1=${SERVER}@${HOST1}`, `fd11::1=${CLIENT}@${HOST1}`);
  node1.withdraw('fd11::1');
  node1.withdraw('10.11.0.1');
  await eventually('it is told', () => node2.remote.size === 0);
  assert.deepEqual(await world.keys(), []);
  await world.clock.advance(10_000);
  assert.deepEqual(node2.image, []);
  assert.deepEqual(
    node2.changes.map(({ old, now }) => [old?.identity, now?.identity]),
    [
      [undefined, CLIENT],
      [undefined, CLIENT],
      [CLIENT, SERVER],
      [CLIENT, undefined],
      [SERVER, undefined],
    ],
  );
});

test('a thousand addresses at once are a handful of transactions', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  for (let i = 0; i < 1_000; i++) node1.publish(`10.11.${i >> 8}.${i & 255}`, CLIENT);
  await eventually('all arrive', () => node2.ipcache.size === 1_000);
  assert.ok(node1.store.transactions.length <= 9, `${node1.store.transactions.length} transactions`);
  assert.ok(node1.store.transactions.every(({ then }) => then.length <= 128));
  await settle();
  assert.equal(node1.shared.pending, 0, 'and what the store tells of them makes no work');
});

test('published twice the same it is written once; published and withdrawn at once it is not written at all', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  node1.publish('10.11.0.1', CLIENT);
  node1.publish('10.11.0.2', CLIENT);
  node1.withdraw('10.11.0.2');
  node1.publish('10.11.0.3', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`, `10.11.0.3=${CLIENT}@${HOST1}`);
  assert.equal(node1.store.transactions.flatMap(({ then }) => then).length, 2);
});

test('while the store is away nothing waits, and afterwards it learns what is, not what was meanwhile', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  node1.store.isAway = true;
  node1.withdraw('10.11.0.1');
  node1.publish('10.11.0.2', CLIENT);
  node1.publish('10.11.0.2', SERVER);
  node1.publish('10.11.0.3', SERVER);
  node1.withdraw('10.11.0.3');
  await settle();
  assert.ok(node1.shared.pending > 0);
  node1.store.isAway = false;
  await world.clock.advance(10_000);
  await eventually('it is told', () => {
    assert.deepEqual(
      Array.from(node2.remote.entries(), ({ address }) => address.toString()),
      ['10.11.0.2'],
    );
  });
  await world.clock.advance(10_000);
  await becomes(node2, `10.11.0.2=${SERVER}@${HOST1}`);
  assert.deepEqual(await world.keys(), [`10.11.0.2=${SERVER}`]);
});

test('an entry is held back until the policy maps know its identity, and again from when they forget it', async (t) => {
  const world = await World.open(t);
  const identities = new Identities();
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2, world.claims, identities)];
  node1.publish('10.11.0.1', CLIENT);
  node1.publish('10.11.0.2', SERVER);
  await eventually('both arrive', () => node2.remote.size === 2);
  assert.deepEqual(node2.image, []);
  assert.equal(node2.remote.held, 2);
  identities.learn(CLIENT);
  assert.deepEqual(node2.image, [`10.11.0.1=${CLIENT}@${HOST1}`]);
  node1.publish('10.11.0.1', SERVER);
  await eventually('the old identity counts no more', () => node2.image.length === 0);
  identities.learn(SERVER);
  assert.deepEqual(node2.image, [`10.11.0.1=${SERVER}@${HOST1}`, `10.11.0.2=${SERVER}@${HOST1}`]);
  identities.forget(SERVER);
  assert.deepEqual(node2.image, []);
  assert.equal(node2.remote.held, 2);
});

test('an address counts only inside a range of the node that claims it, whatever was known first', async (t) => {
  const world = await World.open(t);
  const claims = new Claims();
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2, claims)];
  node1.publish('10.11.0.1', CLIENT);
  await eventually('it arrives', () => node2.remote.size === 1);
  assert.deepEqual(node2.image, []);
  claims.set(HOST1, '10.11.0.0/24');
  assert.deepEqual(node2.image, [`10.11.0.1=${CLIENT}@${HOST1}`]);
  node1.publish('10.11.9.9', CLIENT);
  await eventually('another arrives', () => node2.remote.size === 2);
  assert.equal(node2.image.length, 1);
  claims.set(HOST1);
  assert.deepEqual(node2.image, []);
});

test('what cannot be meant is passed over, and takes away what was said before', async (t) => {
  const world = await World.open(t);
  const node2 = await world.node(HOST2);
  const store = await world.client();
  const value = { IP: '10.11.0.1', Mask: null, HostIP: HOST1, ID: CLIENT, Key: 0, Metadata: '' };
  const key = addressKey('10.11.0.1');
  for (const wrong of [
    'not JSON',
    'null',
    JSON.stringify({ ...value, IP: '10.11.0.2' }),
    JSON.stringify({ ...value, Mask: '////AA==' }),
    JSON.stringify({ ...value, HostIP: 'node1' }),
    JSON.stringify({ ...value, HostIP: undefined }),
    JSON.stringify({ ...value, ID: 0 }),
    JSON.stringify({ ...value, ID: 9 }),
    JSON.stringify({ ...value, ID: 1 << 24 }),
    JSON.stringify({ ...value, ID: '300' }),
  ]) {
    await store.put(key, JSON.stringify(value));
    await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
    await store.put(key, wrong);
    await becomes(node2);
  }
  await store.put(addressKey('010.11.0.1'), JSON.stringify({ ...value, IP: '010.11.0.1' }));
  await store.put(`${addressKey('10.11.0.0')}/24`, JSON.stringify({ ...value, IP: '10.11.0.0', Mask: '////AA==' }));
  await store.put(key, JSON.stringify({ ...value, Docker: { Names: 'web', Network: 7 }, Unknown: true }));
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  assert.equal([...node2.remote.entries()][0]?.docker, undefined);
});

test('a node as such is known by its node key: its addresses are told, and not written', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.254', 1);
  await eventually('it arrives', () => node2.remote.size === 1);
  assert.deepEqual(
    [...node2.remote.entries()].map(({ identity }) => identity),
    [6],
  );
  assert.deepEqual(node2.image, []);
  assert.equal(node2.remote.held, 0);
});

test('keys that somebody deletes, and keys of a session that was lost, are written again', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  const seen: string[] = [];
  node2.ipcache.onChange(({ prefix, entry }) => seen.push(`${prefix.toString()} ${entry?.identity ?? 'gone'}`));
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  await (await world.client()).delete(addressKey('10.11.0.1'));
  await eventually('it is told as gone and as come back', () => node2.changes.length >= 3);
  await world.engine.revoke(await world.engine.read((state) => [...state.leases.keys()]));
  await eventually('it is told as gone and as come back again', () => node2.changes.length >= 5);
  assert.deepEqual(await world.keys(), [`10.11.0.1=${CLIENT}`]);
  await world.clock.advance(60_000);
  assert.deepEqual(seen, [`10.11.0.1/32 ${CLIENT}`], 'and nobody was cut off meanwhile');
});

test('what lingers after its key has gone is let go of when its identity or its node is, and when it is held back', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  const addresses = ['10.11.0.1', '10.11.0.2', '10.11.0.3', '10.11.0.4'];
  const linger = async (): Promise<void> => {
    addresses.forEach((address, i) => node1.publish(address, i === 0 ? SERVER : CLIENT));
    await eventually('they are there', () => node2.remote.size === 4 && node2.image.length === 4);
    for (const address of addresses) node1.withdraw(address);
    await eventually('they linger', () => node2.remote.size === 0);
    assert.equal(node2.image.length, 4);
  };
  await linger();
  world.identities.forget(SERVER);
  assert.equal(node2.image.length, 3);
  world.identities.learn(SERVER);
  node1.publish('10.11.0.2', 999);
  await eventually('what is held back is closed at once', () => node2.image.length === 2);
  world.claims.set(HOST1);
  assert.deepEqual(node2.image, []);
});

test('after a restart what is no more is removed, what stays moves to the new session, and nobody sees a gap', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT);
  node1.publish('10.11.0.2', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`, `10.11.0.2=${CLIENT}@${HOST1}`);
  await node1.stop();
  await node1.store.stop();
  node2.changes.length = 0;
  const again = await world.newNode(HOST1);
  again.publish('10.11.0.1', CLIENT);
  await again.start();
  await eventually('it is told', () => node2.remote.size === 1);
  await world.clock.advance(2 * SESSION_TTL_MS);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  assert.deepEqual(
    node2.changes.filter(({ now }) => now === undefined).map(({ old }) => old?.address.toString()),
    ['10.11.0.2'],
  );
});

test('a key that another node has taken is not deleted, and not fought for', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  // Node 1 was away for so long that its range, and with it the address, is node 2's now.
  world.claims.set(HOST1, '10.99.0.0/16');
  world.claims.set(HOST2, '10.11.0.0/16', '10.12.0.0/16');
  node2.publish('10.11.0.1', SERVER);
  await becomes(node1, `10.11.0.1=${SERVER}@${HOST2}`);
  await world.clock.advance(5 * 60_000);
  node1.withdraw('10.11.0.1');
  await world.clock.advance(5 * 60_000);
  assert.deepEqual(await world.keys(), [`10.11.0.1=${SERVER}`]);
});

test('an address outside of the announced ranges is told to nobody until they hold it', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.50.0.1', CLIENT);
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  assert.equal(node2.remote.size, 1);
  world.claims.set(HOST1, '10.11.0.0/16', '10.50.0.0/24');
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`, `10.50.0.1=${CLIENT}@${HOST1}`);
});

test('entries of an earlier agent stay until the store has told all; then what it did not tell goes', async (t) => {
  const world = await World.open(t);
  const node1 = await world.node(HOST1);
  node1.publish('10.11.0.1', SERVER);
  node1.publish('10.11.0.3', CLIENT);
  await eventually('it is written', async () => (await world.keys()).length === 2);
  const node2 = await world.newNode(HOST2);
  const info = { identity: CLIENT, tunnelEndpoint: IpAddress.parse(HOST1) };
  node2.remote.adopt(['10.11.0.1', '10.11.0.2', '10.11.0.3'].map((text) => ({ prefix: Prefix.parse(text), info })));
  const seen: string[] = [];
  node2.ipcache.onChange(({ prefix, entry }) => seen.push(`${prefix.toString()} ${entry?.identity ?? 'gone'}`));
  assert.equal(node2.image.length, 3);
  await node2.start();
  assert.deepEqual(node2.image, [`10.11.0.1=${SERVER}@${HOST1}`, `10.11.0.3=${CLIENT}@${HOST1}`]);
  assert.deepEqual(seen, [`10.11.0.1/32 ${SERVER}`, '10.11.0.2/32 gone'], 'no gap, and nothing twice');
});

test('an address gets another identity only once the other nodes have been told', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  const [used, fresh] = [IpAddress.parse('10.11.0.1'), IpAddress.parse('10.11.0.2')];
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  node1.store.isAway = true;
  node1.withdraw('10.11.0.1');
  await node1.shared.takeOver([fresh], SERVER);
  await node1.shared.takeOver([used], CLIENT);
  const refused = assert.rejects(node1.shared.takeOver([fresh, used], SERVER), (error: unknown) => {
    assert.ok(isCiliumError(error, 'KvstoreUnavailable'));
    assert.match(error.message, /still take 10\.11\.0\.1 for another container/);
    return true;
  });
  await world.clock.advance(10_000);
  await refused;
  node1.store.isAway = false;
  const taken = node1.shared.takeOver([used], SERVER);
  await world.clock.advance(5_500); // the next attempt to write
  await taken;
  await becomes(node2, `10.11.0.1=${SERVER}@${HOST1}`);
});

test('an address that the other nodes have forgotten is free while the store is away', async (t) => {
  const world = await World.open(t);
  const [node1, node2] = [await world.node(HOST1), await world.node(HOST2)];
  node1.publish('10.11.0.1', CLIENT);
  await becomes(node2, `10.11.0.1=${CLIENT}@${HOST1}`);
  node1.withdraw('10.11.0.1');
  await eventually('the key is gone', async () => (await world.keys()).length === 0);
  node1.store.isAway = true;
  const early = assert.rejects(node1.shared.takeOver([IpAddress.parse('10.11.0.1')], SERVER), /cannot be told/);
  await world.clock.advance(6_000);
  await early;
  node1.store.isAway = false;
  await world.clock.advance(10_000);
  await eventually('nothing is left to be written', () => node1.shared.pending === 0);
  await world.clock.advance(20_000);
  node1.store.isAway = true;
  await node1.shared.takeOver([IpAddress.parse('10.11.0.1')], SERVER);
});
