// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { InterfaceNames } from './interface-names.ts';

test('a device is shown by its name, one that is not there by its number', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'net-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'lxc1'));
  writeFileSync(join(folder, 'lxc1', 'ifindex'), '7\n');
  writeFileSync(join(folder, 'bonding_masters'), '');
  const names = new InterfaceNames(folder);
  assert.equal(names.name(7), 'lxc1');
  assert.equal(names.name(8), '8');
  rmSync(join(folder, 'lxc1'), { recursive: true });
  assert.equal(names.name(7), 'lxc1'); // events of a device outlive it
});
