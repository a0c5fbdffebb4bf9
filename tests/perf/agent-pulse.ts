// SPDX-License-Identifier: Apache-2.0

/** A thread that asks the agent something small again and again: the longest answer is how long others had to wait for it. */
import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const PAUSE_MS = 3;
const PATH = '/NetworkDriver.GetCapabilities';

/** Begins to ask the plugin on this socket; the answer ends it and gives the longest wait in milliseconds. */
export function startPulse(socketPath: string): () => Promise<number> {
  const worker = new Worker(new URL(import.meta.url), { workerData: socketPath });
  return () =>
    new Promise((resolve, reject) => {
      worker.once('error', reject);
      worker.once('message', (longest: number) => {
        resolve(longest);
        void worker.terminate();
      });
      worker.postMessage('stop');
    });
}

async function beat(socketPath: string): Promise<void> {
  let longest = 0;
  let stopped = false;
  parentPort!.once('message', () => {
    stopped = true;
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let beats = 0; !stopped; beats++) {
    const begin = performance.now();
    await ask(agent, socketPath);
    // The first one makes the connection.
    if (beats > 0) longest = Math.max(longest, performance.now() - begin);
    await delay(PAUSE_MS);
  }
  agent.destroy();
  parentPort!.postMessage(longest);
}

function ask(agent: Agent, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = request({ agent, socketPath, path: PATH, method: 'POST' }, (response) => {
      response.resume();
      response.once('end', resolve);
    });
    call.once('error', reject);
    call.end();
  });
}

if (!isMainThread) await beat(workerData as string);
