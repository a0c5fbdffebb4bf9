// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpAddress } from '../net/ip.ts';
import { silentLogger } from '../runtime/logger.ts';
import { ConnectionPurger } from './connection-purger.ts';

const A = IpAddress.parse('10.0.0.1');
const B = IpAddress.parse('10.0.0.2');
const C = IpAddress.parse('fd00::3');

class Tables {
  readonly passes: string[][] = [];
  readonly ends: PromiseWithResolvers<unknown>[] = [];

  purgeAddresses(addresses: readonly IpAddress[]): Promise<unknown> {
    this.passes.push(addresses.map(String));
    const end = Promise.withResolvers<unknown>();
    this.ends.push(end);
    return end.promise;
  }
}

test('addresses that come during a pass share the next one', async () => {
  const tables = new Tables();
  const purger = new ConnectionPurger(tables, silentLogger);
  purger.purge([A]);
  purger.purge([B]);
  purger.purge([C]);
  const done = purger.purged([C]);
  tables.ends[0]!.resolve(undefined);
  await new Promise(setImmediate);
  tables.ends[1]!.resolve(undefined);
  await done;
  assert.deepEqual(tables.passes, [['10.0.0.1'], ['10.0.0.2', 'fd00::3']]);
});

test('an address that was never purged needs no waiting', async () => {
  const purger = new ConnectionPurger(new Tables(), silentLogger);
  purger.purge([A]);
  await purger.purged([B]);
});

test('an address purged again during its pass waits for another one', async () => {
  const tables = new Tables();
  const purger = new ConnectionPurger(tables, silentLogger);
  purger.purge([A]);
  purger.purge([A]);
  tables.ends[0]!.resolve(undefined);
  await new Promise(setImmediate);
  assert.equal(tables.passes.length, 2);
  tables.ends[1]!.resolve(undefined);
  await purger.idle();
  await purger.purged([A]);
});

test('an address stays reserved while the tables cannot be read', async () => {
  const tables = new Tables();
  const purger = new ConnectionPurger(tables, silentLogger);
  purger.purge([A]);
  tables.ends[0]!.reject(new Error('bad map'));
  await purger.idle();
  const retry = purger.purged([A]);
  await new Promise(setImmediate);
  tables.ends[1]!.reject(new Error('bad map'));
  await assert.rejects(retry, /bad map/);
});
