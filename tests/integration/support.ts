// SPDX-License-Identifier: Apache-2.0

/** A lab for a test file: its own name, up before the first test, down after the last, whatever happened. */
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before } from 'node:test';
import { Lab, type LabOptions } from '../../lab/lab.ts';

const TEST_LAB = /^t-(\d+)-/;

/** Makes a lab that is up while the tests of the calling file run. */
export function labForTests(options: LabOptions = {}): Lab {
  const file = basename(process.argv[1] ?? 'test').replace(/\.test\.ts$/, '');
  const lab = new Lab({ name: `t-${process.pid}-${file}`.slice(0, 30), ...options });
  before(async () => {
    await removeAbandonedLabs();
    await lab.up();
  });
  after(() => lab.down());
  return lab;
}

/** Labs of test processes that were killed. */
async function removeAbandonedLabs(): Promise<void> {
  for (const name of Lab.names()) {
    const owner = TEST_LAB.exec(name)?.[1];
    if (owner !== undefined && !processExists(Number(owner))) await new Lab({ name }).down();
  }
}

function processExists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Asks again and again until `check` throws no more and gives back its value; its last error is thrown at the limit. */
export async function eventually<T>(check: () => T | Promise<T>, timeoutMs = 10_000): Promise<T> {
  const limit = performance.now() + timeoutMs;
  while (true) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > limit) throw error;
      await delay(20);
    }
  }
}
