// SPDX-License-Identifier: Apache-2.0

/**
 * Preloaded into a command by the benchmark: tells on descriptor 3 when its first request went to the agent and when it
 * ended, in milliseconds of the machine's monotonic clock.
 */
import { subscribe } from 'node:diagnostics_channel';
import { writeSync } from 'node:fs';
import { monotonicMs } from './monotonic.ts';

let sent: number | undefined;
subscribe('http.client.request.start', () => {
  sent ??= monotonicMs();
});
process.on('exit', () => {
  writeSync(3, JSON.stringify({ sent, ended: monotonicMs() }));
});
