// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { ManualClock, settle } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { Ipcache, type IpcacheEntry } from './ipcache.ts';
import { IpcacheWriter, type IpcacheKernelMap } from './ipcache-writer.ts';

class KernelMap implements IpcacheKernelMap {
  readonly content = new Map<string, IpcacheEntry>();
  readonly calls: string[] = [];
  room = Infinity;

  update(prefix: Prefix, info: IpcacheEntry): void {
    this.calls.push(`update ${prefix.toString()} ${info.identity}`);
    if (!this.content.has(prefix.toString()) && this.content.size >= this.room) {
      throw new CiliumError('MapFull', 'update cilium_ipcache');
    }
    this.content.set(prefix.toString(), info);
  }

  delete(prefix: Prefix): void {
    this.calls.push(`delete ${prefix.toString()}`);
    this.content.delete(prefix.toString());
  }

  entries(): { prefix: Prefix; info: IpcacheEntry }[] {
    return Array.from(this.content, ([text, info]) => ({ prefix: Prefix.parse(text), info }));
  }
}

function setUp(): { ipcache: Ipcache; map: KernelMap; clock: ManualClock; writer: IpcacheWriter } {
  const [ipcache, map, clock] = [new Ipcache(), new KernelMap(), new ManualClock()];
  return { ipcache, map, clock, writer: new IpcacheWriter({ ipcache, map, clock, log: silentLogger }) };
}

const A = Prefix.parse('10.15.0.1/32');
const B = Prefix.parse('10.15.0.2/32');
const C = Prefix.parse('fd15::/64');

test('at the start what is right stays untouched, what is missing comes before what nobody wants goes', async () => {
  const { ipcache, map, writer } = setUp();
  map.content.set(A.toString(), { identity: 300 });
  map.content.set('10.15.0.9/32', { identity: 301 });
  map.content.set(B.toString(), { identity: 999 });
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  ipcache.upsert(B, { identity: 302 }, 'agent-local');
  ipcache.upsert(C, { identity: 303, tunnelEndpoint: IpAddress.parse('192.168.60.12') }, 'kvstore');
  await writer.start();
  assert.deepEqual(map.calls, ['update 10.15.0.2/32 302', 'update fd15::/64 303', 'delete 10.15.0.9/32']);
  map.calls.length = 0;
  await settle();
  assert.deepEqual(map.calls, []);
  await writer.stop();
});

test('a change is in the kernel when the call returns; after stop nothing is written', async () => {
  const { ipcache, map, writer } = setUp();
  await writer.start();
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  assert.deepEqual(map.content.get(A.toString()), { identity: 300 });
  ipcache.delete(A, 'agent-local');
  assert.equal(map.content.size, 0);
  await writer.stop();
  await writer.stop();
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  assert.equal(map.content.size, 0);
});

test('what the map refuses is told, and written as soon as there is room', async () => {
  const { ipcache, map, clock, writer } = setUp();
  map.room = 1;
  await writer.start();
  await settle();
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  ipcache.upsert(B, { identity: 301 }, 'agent-local');
  assert.deepEqual([...writer.failed.keys()], [B.toString()]);
  await clock.advance(5_000);
  assert.equal(map.content.size, 1);
  ipcache.delete(A, 'agent-local');
  await clock.advance(60_000);
  assert.deepEqual([...map.content], [[B.toString(), { identity: 301 }]]);
  assert.equal(writer.failed.size, 0);
  await writer.stop();
});

test('a map that refuses at the start does not keep the agent from starting', async () => {
  const { ipcache, map, clock, writer } = setUp();
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  map.room = 0;
  await writer.start();
  assert.equal(writer.failed.size, 1);
  map.room = 1;
  await clock.advance(2_000);
  assert.equal(map.content.size, 1);
  await writer.stop();
});

test('what somebody else changed in the map is put right in time', async () => {
  const { ipcache, map, clock, writer } = setUp();
  ipcache.upsert(A, { identity: 300 }, 'agent-local');
  await writer.start();
  map.content.clear();
  map.content.set(B.toString(), { identity: 666 });
  await clock.advance(10 * 60_000);
  assert.deepEqual([...map.content], [[A.toString(), { identity: 300 }]]);
  await writer.stop();
});
