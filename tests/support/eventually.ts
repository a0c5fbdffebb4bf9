// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../../errors/cilium-error.ts';

/** Far more than anything takes on a busy machine; nothing is measured by it. */
const LIMIT_MS = 30_000;

/** Repeats until `attempt` does not throw and does not give false, and returns what it gives. */
export async function eventually<T>(what: string, attempt: () => Promise<T> | T): Promise<T> {
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    let reason: unknown = 'it did not';
    try {
      const result = await attempt();
      if (result !== false) return result;
    } catch (error) {
      reason = error;
    }
    if (performance.now() > end) throw new Error(`${what}: ${describeError(reason)}`, { cause: reason });
    await sleep(20);
  }
}
