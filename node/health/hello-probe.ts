// SPDX-License-Identifier: Apache-2.0

/** Asks the agent at an address whether it is there: the other end of hello-server.ts. */
import { request } from 'node:http';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { IpAddress } from '../../net/ip.ts';
import type { Clock } from '../../runtime/clock.ts';
import { HELLO_PATH } from './hello-server.ts';
import type { Probe } from './prober.ts';

/** A probe of this port: connection, question and answer together. */
export function helloProbe(port: number, clock: Pick<Clock, 'monotonic'>): Probe {
  return (address, timeoutMs, signal) => {
    const begin = clock.monotonic();
    return ask(address, port, timeoutMs, signal).then(() => clock.monotonic() - begin);
  };
}

function ask(address: IpAddress, port: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const question = request({ host: address.toString(), port, path: HELLO_PATH, agent: false, signal });
    const timer = setTimeout(() => {
      question.destroy(new CiliumError('Timeout', `no answer from ${address.toString()} within ${timeoutMs} ms`));
    }, timeoutMs);
    question.once('close', () => clearTimeout(timer));
    question.once('error', reject);
    question.once('response', ({ statusCode }) => {
      if (statusCode === 200) resolve();
      else
        reject(
          new CiliumError('Internal', `${address.toString()} answered ${statusCode ?? 'nothing'} to ${HELLO_PATH}`),
        );
      question.destroy();
    });
    question.end();
  });
}
