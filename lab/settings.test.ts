// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fullSettings, toldSettings, type FullSettings, type LabSettings } from './settings.ts';

/** The settings of a lab that was made with `made`, when asked for `given` now. */
function settings(t: TestContext, given: Partial<LabSettings>, made?: Partial<LabSettings>): FullSettings {
  const dir = mkdtempSync(join(tmpdir(), 'lab-settings-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'lab.json');
  if (made !== undefined) writeFileSync(file, JSON.stringify(toldSettings(made, join(dir, 'none'))));
  return fullSettings(toldSettings(given, file), file);
}

test('several nodes with agents share an etcd of one member, unless told otherwise', (t) => {
  assert.equal(settings(t, {}).etcd, 0);
  assert.equal(settings(t, { nodes: 2 }).etcd, 1);
  assert.equal(settings(t, { nodes: 2, agent: false }).etcd, 0);
  assert.equal(settings(t, { nodes: 2, etcd: 0 }).etcd, 0);
  assert.equal(settings(t, { etcd: 3 }).etcd, 3);
});

test('a lab that is there keeps what it has, may grow, and does not change its kind', (t) => {
  assert.deepEqual(
    settings(t, {}, { nodes: 3, etcd: 3, underlay: 'ipv6' }),
    settings(t, { nodes: 3, etcd: 3, underlay: 'ipv6' }),
  );
  assert.equal(settings(t, { nodes: 3 }, { nodes: 2 }).nodes, 3);
  assert.throws(() => settings(t, { nodes: 2 }, { nodes: 1 }), /etcd 0, .*cannot become one with etcd 1/);
  assert.equal(settings(t, { nodes: 2, etcd: 0 }, { nodes: 1 }).nodes, 2);
  assert.throws(() => settings(t, { underlay: 'ipv6' }, { nodes: 2 }), { code: 'InvalidArgument' });
});

test('what no lab has is refused', (t) => {
  for (const given of [{ nodes: 0 }, { nodes: 10 }, { nodes: 1.5 }, { etcd: 2 }, { etcd: NaN }]) {
    assert.throws(() => settings(t, given), { code: 'InvalidArgument' }, JSON.stringify(given));
  }
});
