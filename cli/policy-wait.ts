// SPDX-License-Identifier: Apache-2.0

/** Waits until the kernel enforces a revision of the policy for every endpoint. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CiliumClient } from '../api/client.ts';
import type { Endpoint } from '../api/models.ts';
import { CiliumError } from '../errors/cilium-error.ts';

export interface WaitOptions {
  /** Longest pause between two looks; the first ones follow each other faster. */
  readonly sleepMs: number;
  /** How long an endpoint may be `not-ready` before the wait is given up. */
  readonly failWaitMs: number;
  readonly maxWaitMs: number;
  readonly onProgress?: (ready: number, total: number) => void;
}

export const DEFAULT_WAIT: WaitOptions = { sleepMs: 1000, failWaitMs: 60_000, maxWaitMs: 360_000 };
/** What the agent just tried and could not do, it will not do by itself. */
export const IMPORT_WAIT: WaitOptions = { ...DEFAULT_WAIT, failWaitMs: 0 };

const FIRST_PAUSE_MS = 5;

/** Nothing passes to or from these yet, or any more: they enforce every policy. */
const CLOSED_STATES: readonly Endpoint['status']['state'][] = ['creating', 'waiting-for-identity', 'disconnecting'];

/** Throws an error that names the endpoints which are behind, with the reasons of those that failed. */
export async function waitForRevision(client: CiliumClient, revision: number, options: WaitOptions): Promise<void> {
  const begin = performance.now();
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, options.sleepMs)) {
    const endpoints = (await client.endpoints()).filter(({ status }) => !CLOSED_STATES.includes(status.state));
    const behind = endpoints.filter((endpoint) => !enforces(endpoint, revision));
    options.onProgress?.(endpoints.length - behind.length, endpoints.length);
    if (behind.length === 0) return;
    const waitedMs = performance.now() - begin;
    const failed = behind.filter(({ status }) => status.state === 'not-ready');
    if (failed.length > 0 && waitedMs >= Math.min(options.failWaitMs, options.maxWaitMs)) {
      const names = failed.map(describeFailed).join(', ');
      throw new CiliumError('MapFull', `policy revision ${revision} is not in force on endpoints ${names}`);
    }
    if (waitedMs >= options.maxWaitMs) {
      const names = behind.map(({ id, status }) => `${id} (${status.state})`).join(', ');
      throw new CiliumError('Timeout', `endpoints that do not enforce policy revision ${revision} yet: ${names}`);
    }
    await sleep(pauseMs);
  }
}

/** With the reason, and what it keeps. */
function describeFailed({ id, status }: Endpoint): string {
  const [latest] = status.log;
  const kept = status.policy.realized['policy-revision'];
  const state = kept > 0 ? `it keeps revision ${kept}, complete` : 'nothing passes';
  return `${id} (${state}${latest?.state === status.state ? `: ${latest.message}` : ''})`;
}

function enforces({ status }: Endpoint, revision: number): boolean {
  return status.state === 'ready' && status.policy.realized['policy-revision'] >= revision;
}
