// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { parseResolvConf, ResolvConf } from './resolv-conf.ts';

test('servers are what stands behind "nameserver" and is an address', () => {
  const text = `# nameserver 192.0.2.9
; nameserver 192.0.2.8
search example.org
nameserver 192.0.2.1
  nameserver\tfe80::1%eth0  # at home
nameserver here
nameserver
nameservers 192.0.2.7
options ndots:0`;
  assert.deepEqual(parseResolvConf(text), ['192.0.2.1', 'fe80::1%eth0']);
  assert.deepEqual(parseResolvConf(''), []);
});

test('the file is read again when it changes, and we are never asked ourselves', async (t) => {
  const folder = await temporaryFolder('resolv');
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'resolv.conf');
  const clock = new ManualClock();
  const conf = new ResolvConf(
    path,
    (address) => address === '10.1.255.254',
    () => clock.monotonic(),
  );
  const servers = () => conf.servers().map(({ address, port }) => `${address} ${port}`);
  assert.deepEqual(servers(), [], 'there is no file');
  writeFileSync(path, 'nameserver 10.1.255.254\nnameserver 192.0.2.1\n');
  assert.deepEqual(servers(), [], 'not looked at again at once');
  await clock.advance(1_000);
  assert.deepEqual(servers(), ['192.0.2.1 53']);
  writeFileSync(path, [1, 2, 3, 4].map((host) => `nameserver 192.0.2.10${host}\n`).join(''));
  await clock.advance(1_000);
  assert.deepEqual(
    servers(),
    ['192.0.2.101 53', '192.0.2.102 53', '192.0.2.103 53'],
    'no more than the C library takes',
  );
  rmSync(path);
  await clock.advance(1_000);
  assert.deepEqual(servers(), []);
});
