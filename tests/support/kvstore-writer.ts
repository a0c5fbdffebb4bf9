// SPDX-License-Identifier: Apache-2.0

/**
 * `node kvstore-writer.ts FOLDER FROM`: writes keys FROM, FROM + 1, … to an embedded store as fast as it takes them, three
 * at a time, and prints the number of each that was acknowledged. To be killed.
 */
import { writeSync } from 'node:fs';
import { EmbeddedKvstore } from '../../kvstore/embedded/embedded-kvstore.ts';
import { EmbeddedEngine } from '../../kvstore/embedded/engine.ts';
import { silentLogger } from '../../runtime/logger.ts';

const [folder, from] = process.argv.slice(2);
const engine = new EmbeddedEngine({ folder: folder!, log: silentLogger, minCompactionBytes: 8_192 });
await engine.start();
const store = new EmbeddedKvstore(engine);
await store.start();

async function write(first: number): Promise<never> {
  for (let number = first; ; number += 3) {
    await store.put(`key/${number}`, 'v'.repeat(number % 200), { leased: true });
    writeSync(1, `${number}\n`);
  }
}

await Promise.all([0, 1, 2].map((offset) => write(Number(from) + offset)));
