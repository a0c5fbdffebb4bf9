// SPDX-License-Identifier: Apache-2.0

/**
 * Asks the agent at an address whether it is there: the other end of hello-server.ts. A plain socket: Node's HTTP client
 * takes several times as long and as much memory for it, and there may be a thousand nodes.
 */
import { connect } from 'node:net';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Clock } from '../../runtime/clock.ts';
import { HELLO_PATH } from './hello-server.ts';
import type { Probe } from './prober.ts';

const QUESTION = `GET ${HELLO_PATH} HTTP/1.0\r\n\r\n`;
/** How an HTTP answer begins; what follows does not matter. */
const STATUS_LINE = /^HTTP\/1\.[01] (\d{3}) /;
const STATUS_LINE_BYTES = 13;

/** A probe of this port: connection, question and answer together. */
export function helloProbe(port: number, clock: Pick<Clock, 'monotonic'>): Probe {
  return (address, timeoutMs, signal) => {
    const begin = clock.monotonic();
    return ask(address.toString(), port, timeoutMs, signal).then(() => clock.monotonic() - begin);
  };
}

function ask(host: string, port: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const socket = connect({ host, port });
    const timer = setTimeout(
      () => end(new CiliumError('Timeout', `no answer from ${host} within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const abort = (): void => end(signal.reason as Error);
    const end = (failure?: Error): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      socket.destroy();
      if (failure === undefined) resolve();
      else reject(failure);
    };
    signal.addEventListener('abort', abort, { once: true });
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      answer += text;
      if (answer.length < STATUS_LINE_BYTES) return;
      const status = STATUS_LINE.exec(answer)?.[1];
      if (status === '200') end();
      else end(new CiliumError('Internal', `${host} answered ${status ?? 'nonsense'} to ${HELLO_PATH}`));
    });
    socket.once('error', end);
    socket.once('end', () => end(new CiliumError('Internal', `${host} answered nothing to ${HELLO_PATH}`)));
    socket.end(QUESTION);
  });
}
