// SPDX-License-Identifier: Apache-2.0

/** ICMP echoes through the kernel, over loopback. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { openHandles } from '../../datapath/ffi/handle.ts';
import { IcmpEcho } from '../../datapath/icmp/echo.ts';
import { isErrno } from '../../datapath/ffi/errno.ts';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { IpAddress } from '../../net/ip.ts';
import { systemClock } from '../../runtime/clock.ts';

const ENOUGH_MS = 10_000;

function openEcho(t: TestContext): IcmpEcho {
  const echo = new IcmpEcho(systemClock);
  echo.open();
  t.after(() => {
    echo.close();
    assert.deepEqual(openHandles(), {});
  });
  return echo;
}

test('privileged: addresses of both families answer, many at once', async (t) => {
  const echo = openEcho(t);
  const addresses = ['127.0.0.1', '::1', ...Array.from({ length: 200 }, (_, i) => `127.0.1.${i + 1}`)];
  const latencies = await Promise.all(addresses.map((text) => echo.ask(IpAddress.parse(text), ENOUGH_MS)));
  for (const latency of latencies) assert.ok(latency >= 0 && latency < ENOUGH_MS, String(latency));
});

test('privileged: an address that cannot be asked is told at once', async (t) => {
  const echo = openEcho(t);
  const everybody = IpAddress.parse('255.255.255.255');
  await assert.rejects(echo.ask(everybody, ENOUGH_MS), (error) => isErrno(error, 'EACCES'));
});

test('privileged: a question that is called off ends with the reason', async (t) => {
  const echo = openEcho(t);
  const reason = new Error('enough');
  await assert.rejects(echo.ask(IpAddress.parse('127.0.0.1'), ENOUGH_MS, AbortSignal.abort(reason)), reason);
});

test('privileged: a closed socket asks nobody', async () => {
  const echo = new IcmpEcho(systemClock);
  echo.open();
  echo.close();
  await assert.rejects(echo.ask(IpAddress.parse('::1'), ENOUGH_MS), (error) => isCiliumError(error, 'Precondition'));
});
