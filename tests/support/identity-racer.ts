// SPDX-License-Identifier: Apache-2.0

/**
 * `node identity-racer.ts URL NODE COUNT SETS`: one agent's allocator on an etcd. Waits for a line on stdin, asks for COUNT
 * identities of SETS label sets at once and prints `labels number` for each; then holds them until stdin ends. To be killed.
 */
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { IdentityAllocator } from '../../kvstore/allocator/identity-allocator.ts';
import { EtcdKvstore } from '../../kvstore/etcd/etcd-kvstore.ts';
import { silentLogger } from '../../runtime/logger.ts';

const [url, node, count, sets] = process.argv.slice(2);
const signal = new AbortController().signal;
const store = new EtcdKvstore({ config: { endpoints: [url!] }, log: silentLogger, lockTtlMs: 2_000 });
await store.start(signal);
const allocator = new IdentityAllocator({ store, node: node!, range: { min: 256, max: 65_535 }, log: silentLogger });
await allocator.start(signal);
writeSync(1, 'ready\n');
await once(process.stdin, 'data');
await Promise.all(
  Array.from({ length: Number(count) }, async (_, i) => {
    const labels = `container:id=app${(i * 7) % Number(sets)};`;
    writeSync(1, `${labels} ${await allocator.allocate(labels)}\n`);
  }),
);
writeSync(1, 'done\n');
await once(process.stdin, 'end');
await allocator.stop();
await store.stop();
