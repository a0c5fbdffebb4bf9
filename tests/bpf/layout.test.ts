// SPDX-License-Identifier: Apache-2.0

/** The compiled objects and the TypeScript that reads their maps and events agree: structures, enums, constants. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type ObjectTypes, readObjectTypes } from '../../datapath/btf/btf.ts';
import { compareLayouts } from '../../datapath/btf/layout.ts';
import * as records from '../../datapath/events/records.ts';
import {
  DROP_REASONS,
  POLICY_MATCHES,
  SOURCE_FILES,
  TRACE_POINTS,
  TRACE_REASONS,
} from '../../datapath/events/texts.ts';
import { ADDR_FAMILY } from '../../datapath/maps/address.ts';
import * as calls from '../../datapath/maps/call-map.ts';
import * as conntrack from '../../datapath/maps/conntrack-map.ts';
import * as devices from '../../datapath/maps/device-map.ts';
import * as endpoints from '../../datapath/maps/endpoint-map.ts';
import * as identities from '../../datapath/maps/identity-map.ts';
import * as ipcache from '../../datapath/maps/ipcache-map.ts';
import { ALL_LAYOUTS } from '../../datapath/maps/layouts.ts';
import * as metrics from '../../datapath/maps/metrics-map.ts';
import * as policy from '../../datapath/maps/policy-map.ts';
import * as snat from '../../datapath/maps/snat-map.ts';

const SOURCE = new URL('../../bpf-src/', import.meta.url);
const OBJECTS = ['bpf_lxc.o', 'bpf_host.o', 'bpf_netdev.o', 'bpf_overlay.o'];

function readObject(name: string): ObjectTypes {
  return readObjectTypes(readFileSync(new URL(`build/${name}`, SOURCE)));
}

const objects = new Map(OBJECTS.map((name) => [name, readObject(name)]));

for (const [name, types] of objects) {
  test(`${name} has the layouts of the codecs`, () => {
    assert.deepEqual(compareLayouts(ALL_LAYOUTS, types), []);
  });

  test(`${name} has every structure of the ABI in its BTF`, () => {
    const missing = ALL_LAYOUTS.filter(({ cName }) => !types.structs.has(cName)).map(({ cName }) => cName);
    assert.deepEqual(missing, []);
  });

  test(`trace points, trace reasons and policy matches of ${name} have their names here`, () => {
    const points = Object.fromEntries(
      TRACE_POINTS.map((point, number) => [
        `TRACE_${point.replace('endpoint', 'lxc').replace('-', '_').toUpperCase()}`,
        number,
      ]),
    );
    assert.deepEqual(Object.fromEntries(types.enums.get('trace_point') ?? []), points);
    const reasons = Object.fromEntries(
      Object.entries(TRACE_REASONS).map(([number, reason]) => [`TRACE_REASON_${reason.toUpperCase()}`, Number(number)]),
    );
    assert.deepEqual(Object.fromEntries(types.enums.get('trace_reason') ?? []), reasons);
    assert.deepEqual(
      [...(types.enums.get('policy_match') ?? [])].map(([, value]) => value),
      [...POLICY_MATCHES.keys()],
    );
  });

  test(`every drop reason of ${name} has a text`, () => {
    const reasons = types.enums.get('drop_reason');
    assert.ok(reasons && reasons.size > 0);
    for (const [cName, value] of reasons) assert.ok(DROP_REASONS[-value], `${cName} ${value}`);
  });
}

test('the layout check names what differs', () => {
  const types = objects.get('bpf_lxc.o')!;
  const ours = [{ cName: 'device_info', size: 28, at: { flags: 0, ipv4: 8, gone: 12 } }];
  assert.deepEqual(compareLayouts(ours, types), [
    'device_info has 24 bytes in C, 28 here',
    'device_info.ipv4 is at 4 in C, 8 here',
    'device_info.ipv6 is at 8 in C, not known here',
    'device_info.gone does not exist in C',
  ]);
});

test('constants of abi.h have the same value here', () => {
  const defines = new Map<string, number>();
  for (const [, name, value] of readFileSync(new URL('lib/abi.h', SOURCE), 'utf8').matchAll(/^#define (\w+) (\d+)/gm)) {
    defines.set(name!, Number(value));
  }
  const here: Record<string, unknown> = {
    ...calls,
    ...conntrack,
    ...devices,
    ...endpoints,
    ...identities,
    ...ipcache,
    ...metrics,
  };
  Object.assign(here, policy, records, snat, {
    ADDR_FAMILY_IPV4: ADDR_FAMILY[4],
    ADDR_FAMILY_IPV6: ADDR_FAMILY[6],
  });
  const notReadHere = ['CALLS', 'METRICS_ENTRIES', 'EVENT_PAYLOAD_MAX'];
  for (const [name, value] of defines) {
    if (notReadHere.includes(name) || name.startsWith('SOURCE_FILE_')) continue;
    assert.equal(here[name], value, name);
  }
});

test('every file that a drop event may name is one that is compiled, and has its number', () => {
  const header = readFileSync(new URL('lib/abi.h', SOURCE), 'utf8');
  const files = [...header.matchAll(/^#define SOURCE_FILE_(\w+) (\d+)/gm)].map(([, name, number]) => [
    number!,
    `bpf_${name!.toLowerCase()}.c`,
  ]);
  assert.deepEqual(Object.fromEntries(files), SOURCE_FILES);
  const sources = readdirSync(SOURCE);
  for (const file of Object.values(SOURCE_FILES)) assert.ok(sources.includes(file), file);
});
