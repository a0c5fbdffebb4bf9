// SPDX-License-Identifier: Apache-2.0

/** `node kvstore-leaver.ts URL`: watches an etcd until it is told something on stdin, stops its client, and has nothing more to do. */
import { once } from 'node:events';
import { EtcdKvstore } from '../../kvstore/etcd/etcd-kvstore.ts';
import { silentLogger } from '../../runtime/logger.ts';

const store = new EtcdKvstore({ config: { endpoints: [process.argv[2]!] }, log: silentLogger });
await store.start(new AbortController().signal);
const watch = store.watch('w/', (await store.list('w/')).revision + 1, {
  onEvents: () => undefined,
  onEnd: (reason) => process.stdout.write(`${reason}\n`),
});
await watch.started;
await (await store.lock('locks/a')).unlock();
process.stdout.write('watching\n');
await once(process.stdin, 'data');
await store.stop();
process.stdout.write('stopped\n');
