// SPDX-License-Identifier: Apache-2.0

/**
 * A program that plays the rest of the cluster, in a machine of the lab: it takes one command a line and answers each with
 * one line of JSON.
 *
 *     fill NODES                     writes all keys of so many simulated nodes
 *     add NODES NODE ENDPOINT        writes one endpoint more; answers when etcd had it
 *     storm ENDPOINTS IDENTITIES     so many endpoints start at once on one node, with the code of a real agent
 *     requests                       how many requests etcd has served, by method
 *
 * Leased keys live as long as it does.
 */
import { createInterface } from 'node:readline';
import { GLOBAL_IDENTITY_MAX, GLOBAL_IDENTITY_MIN } from '../../identity/numeric-identity.ts';
import { SharedAddresses } from '../../ipcache/shared/shared-addresses.ts';
import { IdentityAllocator } from '../../kvstore/allocator/identity-allocator.ts';
import { EtcdKvstore } from '../../kvstore/etcd/etcd-kvstore.ts';
import type { KvOperation } from '../../kvstore/kvstore.ts';
import { IpAddress } from '../../net/ip.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { clusterPuts, endpointPut, identityLabels } from './cluster-simulation.ts';
import { monotonicMs } from './monotonic.ts';

const [url] = process.argv.slice(2) as [string];
const BATCH_KEYS = 128;
/** Transactions under way at once. */
const FILL_AT_ONCE = 8;
/** As a container's start asks for its identity twice or more, depending on how late. */
const POLL_MS = 2;

async function connect(): Promise<EtcdKvstore> {
  const store = new EtcdKvstore({ config: { endpoints: [url] }, log: silentLogger });
  await store.start(AbortSignal.timeout(30_000));
  return store;
}

async function fill(store: EtcdKvstore, nodes: number): Promise<object> {
  const puts = clusterPuts({ nodes });
  let keys = 0;
  const worker = async (): Promise<void> => {
    for (let batch = take(puts); batch.length > 0; batch = take(puts)) {
      keys += batch.length;
      await store.transact({ then: batch });
    }
  };
  await Promise.all(Array.from({ length: FILL_AT_ONCE }, worker));
  return { keys };
}

function take(puts: Generator<KvOperation>): KvOperation[] {
  const batch: KvOperation[] = [];
  while (batch.length < BATCH_KEYS) {
    const { value, done } = puts.next();
    if (done === true) break;
    batch.push(value);
  }
  return batch;
}

/** Everything that a real agent asks of etcd for containers that start: their identities and their addresses. */
async function storm(endpoints: number, identities: number): Promise<object> {
  const store = await connect();
  const range = { min: GLOBAL_IDENTITY_MIN, max: GLOBAL_IDENTITY_MAX };
  const allocator = new IdentityAllocator({ store, node: '172.29.0.1', range, log: silentLogger });
  await allocator.start(AbortSignal.timeout(30_000));
  const claims = { holds: () => true, onChange: () => () => undefined };
  const host = IpAddress.parse('172.29.0.1');
  const shared = new SharedAddresses({ store, host: () => host, claims, log: silentLogger });
  await shared.start();
  const before = await requests();
  const begin = monotonicMs();
  const latencies = await Promise.all(
    Array.from({ length: endpoints }, async (_unused, n) => {
      // Labels that no simulated node has.
      const labels = `${identityLabels(n % identities).toString()}container:storm=${endpoints};`;
      const identity = await allocator.allocate(labels);
      shared.publish(IpAddress.parse(`10.200.${n >> 8}.${n & 255}`), { identity });
      return monotonicMs() - begin;
    }),
  );
  while (shared.pending > 0) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  const whole = monotonicMs() - begin;
  const after = await requests();
  await shared.stop();
  await allocator.stop();
  await store.stop();
  return { whole, slowestIdentity: Math.max(...latencies), requests: difference(before, after) };
}

type Requests = Record<string, number>;

/** etcd's own counters; a stream counts once. */
async function requests(): Promise<Requests> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const counts: Requests = {};
  for (const [, method, service, count] of text.matchAll(
    /^grpc_server_started_total\{grpc_method="(\w+)",grpc_service="etcdserverpb\.(\w+)"[^}]*\} (\S+)$/gm,
  )) {
    if (Number(count) > 0) counts[`${service!}.${method!}`] = Number(count);
  }
  counts['bytes sent'] = Number(/^etcd_network_client_grpc_sent_bytes_total (\S+)$/m.exec(text)?.[1] ?? 0);
  counts['written to disk'] = Number(/^etcd_disk_wal_fsync_duration_seconds_count (\S+)$/m.exec(text)?.[1] ?? 0);
  return counts;
}

function difference(before: Requests, after: Requests): Requests {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, count]): [string, number] => [name, count - (before[name] ?? 0)])
      .filter(([, count]) => count > 0),
  );
}

const store = await connect();
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(' ');
  const [first = 0, second = 0, third = 0] = words.map(Number);
  let answer: object;
  if (command === 'fill') answer = await fill(store, first);
  else if (command === 'add') {
    await store.transact({ then: [endpointPut({ nodes: first }, second, third)] });
    answer = { at: monotonicMs() };
  } else if (command === 'storm') answer = await storm(first, second);
  else answer = await requests();
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
