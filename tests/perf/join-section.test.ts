// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dockerCalls, joinTimes } from './join-section.ts';

function line(method: string, millisecond: number, durationMs: number): string {
  const time = new Date(Date.UTC(2026, 0, 1) + millisecond).toISOString();
  return JSON.stringify({ time, level: 'debug', msg: 'Docker call', method, durationMs });
}

const START = [
  line('NetworkDriver.DeleteEndpoint', 5, 1),
  '{"time":"2026-01-01T00:00:00.006Z","level":"info","msg":"Endpoint created"}',
  line('IpamDriver.RequestAddress', 10, 2),
  line('IpamDriver.RequestAddress', 12, 1),
  line('NetworkDriver.CreateEndpoint', 15, 3),
  line('NetworkDriver.Join', 20, 4),
  line('NetworkDriver.EndpointOperInfo', 90, 1),
].join('\n');

test('the wall time begins when the first RequestAddress came and ends with the reply to Join', () => {
  assert.deepEqual(joinTimes(dockerCalls(START)), { wall: 12, own: 10 });
});

test('a log without a whole container start is refused', () => {
  assert.throws(() => joinTimes(dockerCalls(line('NetworkDriver.Join', 1, 1))), /expected RequestAddress/);
  assert.throws(() => joinTimes([]), /got nothing/);
});
