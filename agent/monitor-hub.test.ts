// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MonitorHub } from './monitor-hub.ts';
import type { AgentEvent } from './rest/services.ts';

/** A hub over a ring that is an array, and what it told. */
function newHub() {
  const ring: Uint8Array[] = [];
  const taken: number[] = [];
  const paces: string[] = [];
  let deliver: (records: readonly Uint8Array[]) => void = () => undefined;
  const counts = { lost: 0 };
  const hub = new MonitorHub({
    source: {
      start: (onRecords) => (deliver = onRecords),
      stop: () => (deliver = () => undefined),
      drain: () => deliver(ring.splice(0)),
      setPace: (pace) => paces.push(pace),
    },
    lostCount: () => counts.lost,
    flows: { take: (records) => taken.push(...records.map(([first]) => first!)) },
  });
  const write = (value: number): void => void ring.push(Uint8Array.of(value));
  return { hub, write, taken, paces, counts };
}

function newListener() {
  const told: (number | string)[] = [];
  const listener = {
    record: (record: Uint8Array) => told.push(record[0]!),
    agent: ({ type }: AgentEvent) => told.push(type),
    lost: (count: number) => told.push(`lost ${count}`),
  };
  return { listener, told };
}

test('every record goes to the table of flows, and to those who watch at that time', () => {
  const { hub, write, taken, paces } = newHub();
  const [one, two] = [newListener(), newListener()];
  write(1); // while there was no agent
  hub.start();
  hub.drain();
  write(2);
  const leave = hub.subscribe(one.listener);
  write(3);
  const leaveToo = hub.subscribe(two.listener);
  hub.publish({ type: 'Policy updated', message: {} });
  write(4);
  hub.drain();
  leave();
  write(5);
  hub.drain();
  leaveToo();
  leaveToo();
  write(6);
  hub.drain();
  assert.deepEqual(taken, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(one.told, [3, 'Policy updated', 4]);
  assert.deepEqual(two.told, ['Policy updated', 4, 5]);
  assert.deepEqual(paces, ['background', 'watched', 'background']);
});

test('who watches learns what was lost since the last report', () => {
  const { hub, counts } = newHub();
  hub.start();
  counts.lost = 10;
  hub.reportLost();
  const { listener, told } = newListener();
  hub.subscribe(listener);
  hub.reportLost();
  counts.lost = 13;
  hub.reportLost();
  hub.reportLost();
  assert.deepEqual(told, ['lost 3']);
  assert.equal(hub.lost, 13);
});
