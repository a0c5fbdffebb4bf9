// SPDX-License-Identifier: Apache-2.0

/**
 * Docker's plugin protocol on express: one POST for each method, a JSON object in, a JSON object out.
 *
 * An operation that fails is answered with status 200 and the message under both keys that Docker knows (network
 * drivers read "Err", IPAM drivers "Error", and the wrong one is taken for success). A request that we cannot read gets
 * status 400, and so does one without a body: Docker sends a call again without it after a broken connection.
 */
import express from 'express';
import type { Response, Router } from 'express';
import type { z } from 'zod';
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/logger.ts';

/** Docker waits for ever; a person does not. Below the 10 s after which an outage of ours begins to hurt. */
export const CALL_TIMEOUT_MS = 9_000;
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';
const EMPTY_BODY =
  'the request has no body: Docker sends a call again without it when the connection broke (moby #39331); ' +
  'run the docker command once more';

/** Does what a method asks for. The signal aborts when Docker has been told that it took too long. */
export type Work<Request> = (request: Request, signal: AbortSignal) => Promise<object> | object;

export class PluginRouter {
  readonly router: Router = express.Router();
  readonly #log: Logger;
  readonly #clock: Clock;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** A method whose answer does not depend on the request, which may be empty. */
  constant(method: string, reply: object, called?: () => void): void {
    this.router.post(`/${method}`, (_request, response) => {
      called?.();
      send(response, 200, reply);
    });
  }

  on<Request>(method: string, schema: z.ZodType<Request>, work: Work<Request>): void {
    this.router.post(`/${method}`, async ({ body }: { body: unknown }, response) => {
      const begin = this.#clock.monotonic();
      let status = 400;
      try {
        if (isEmpty(body)) throw new CiliumError('InvalidArgument', EMPTY_BODY);
        const request = parse(method, schema, body);
        status = 200;
        send(response, status, await this.#bounded(method, (signal) => work(request, signal)));
        this.#log.debug('Docker call', { method, durationMs: this.#clock.monotonic() - begin });
      } catch (error) {
        this.#log.warn('Docker call failed', { method, durationMs: this.#clock.monotonic() - begin, error });
        sendError(response, status, describeError(error));
      }
    });
  }

  async #bounded(method: string, work: (signal: AbortSignal) => Promise<object> | object): Promise<object> {
    const late = new AbortController();
    const done = new AbortController();
    const limit = this.#clock.sleep(CALL_TIMEOUT_MS, done.signal).then(() => {
      const error = new CiliumError(
        'Timeout',
        `${method} did not finish within ${CALL_TIMEOUT_MS / 1000} s: see the log of cilium-agent, then try again`,
      );
      late.abort(error);
      throw error;
    });
    try {
      return await Promise.race([work(late.signal), limit]);
    } finally {
      done.abort();
      limit.catch(() => undefined); // nobody may be waiting for it when `work` threw at once
    }
  }
}

export function send(response: Response, status: number, reply: object): void {
  response.status(status).set('Content-Type', CONTENT_TYPE).end(JSON.stringify(reply));
}

export function sendError(response: Response, status: number, message: string): void {
  send(response, status, { Err: message, Error: message });
}

function isEmpty(body: unknown): boolean {
  return body === undefined || (typeof body === 'object' && body !== null && Object.keys(body).length === 0);
}

function parse<Request>(method: string, schema: z.ZodType<Request>, body: unknown): Request {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) =>
    issue.path.length === 0 ? issue.message : `${fieldName(issue.path)}: ${issue.message}`,
  );
  throw new CiliumError('InvalidArgument', `${method}: ${problems.join('; ')}`);
}

/** "IPv4Data[0].Pool" */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('');
}
