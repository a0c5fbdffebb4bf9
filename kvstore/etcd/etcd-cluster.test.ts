// SPDX-License-Identifier: Apache-2.0

/** Three members: one of them, the leader, or most of them are lost, and nobody notices more than has to be noticed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { eventually } from '../../tests/support/eventually.ts';
import { EtcdWorld } from '../../tests/support/etcd-world.ts';
import type { EtcdServer } from '../../tests/support/etcd-server.ts';

/** Ids of members, in hexadecimal: the one that is asked, and its leader. */
async function idsOf(server: EtcdServer): Promise<{ member: string; leader: string }> {
  const json = await server.etcdctl('endpoint', 'status', '-w', 'json');
  const hex = (name: string): string => BigInt(new RegExp(`"${name}":(\\d+)`).exec(json)![1]!).toString(16);
  return { member: hex('member_id'), leader: hex('leader') };
}

test('three members: one dies, the leader dies, the lead moves, most die: all changes arrive once', async () => {
  await using world = await EtcdWorld.open({ size: 3 });
  const { servers } = world;
  const follower = await Promise.all(
    servers.map(async (_, i) => {
      const client = await world.connect({}, {}, { random: () => i / 3 });
      return world.follow(client, 'w/');
    }),
  );
  const agree = async (): Promise<void> => {
    for (const one of follower) await one.agreesWith(() => servers[0]!.dump());
  };
  const writer = world.write(await world.connect({}, {}, { random: () => 0.5 }), 'w/');
  const writes = async (): Promise<void> => {
    writer.acknowledged.clear();
    await eventually('writes', () => writer.acknowledged.size > 20);
  };
  await writes();

  await servers[1]!.stop(); // the one that is written to
  await writes();
  const client = await world.connect();
  assert.match((await client.status()).message, /^etcd: 2\/3 connected, leases=1, lock leases=0, has-quorum=true: /);
  await servers[1]!.start();
  await writes();

  const ids = await Promise.all(servers.map(idsOf));
  const leader = ids.findIndex(({ member }) => member === ids[0]!.leader);
  const heir = (leader + 1) % 3;
  await servers[leader]!.etcdctl('move-leader', ids[heir]!.member);
  await writes();
  assert.equal((await idsOf(servers[0]!)).leader, ids[heir]!.member);

  await servers[heir]!.stop();
  await writes();
  await servers[heir]!.start();

  await servers[1]!.stop();
  await servers[2]!.stop();
  const reasons = await eventually('a write is refused', () =>
    client.put('x', '1').then(
      () => false as const,
      (error: unknown) => error as Error,
    ),
  );
  assert.ok(isCiliumError(reasons, 'KvstoreUnavailable'));
  const { healthy, message } = await client.status();
  assert.ok(!healthy && !message.includes('has-quorum=true'), message);
  await Promise.all([servers[1]!.start(), servers[2]!.start()]);
  await writes();
  await writer.stop();

  const truth = await servers[2]!.dump();
  for (const [key, value] of writer.acknowledged) assert.equal(truth.get(key), value);
  truth.delete('x');
  await client.delete('x');
  await agree();
});

test('a member that hangs, or has lost the others, does not keep its watchers from what happens elsewhere', async () => {
  await using world = await EtcdWorld.open({ size: 3 });
  const { servers } = world;
  const client = await world.connect({}, {}, { random: () => 0 });
  const follower = await world.follow(client, 'w/');
  const writer = await world.connect({ endpoints: [servers[1]!.url, servers[2]!.url] });
  servers[0]!.hang();
  await eventually('a write', () => writer.put('w/a', '1').then(() => true));
  await follower.agreesWith(() => servers[1]!.dump());
  servers[0]!.resume();
  assert.equal(follower.lists, 1);
});

test('a member without a leader says so at once, and its watches end instead of being silent', async () => {
  await using world = await EtcdWorld.open({ size: 3 });
  const { servers } = world;
  const client = await world.connect({ endpoints: [servers[0]!.url] }, { requestTimeoutMs: 60_000, pingMs: 60_000 });
  const ends: string[] = [];
  const watch = client.watch('w/', 1, { onEvents: () => undefined, onEnd: (reason) => ends.push(reason) });
  await watch.started;
  await Promise.all([servers[1]!.stop(), servers[2]!.stop()]);
  await eventually('the watch ends', () => ends.length > 0);
  assert.deepEqual(ends, ['lost']);
  await eventually('the reason', () =>
    client.put('x', '1').then(
      () => false,
      (error: unknown) => /it has no leader: most members are down/.test(String(error)),
    ),
  );
});
