// SPDX-License-Identifier: Apache-2.0

/**
 * Requests of an API over its unix socket. One connection a call, nothing kept: made for commands that run and end. A
 * refused request throws the CiliumError that the agent threw.
 */
import type { IncomingMessage } from 'node:http';
import { CiliumError, ERROR_CODES, type ErrorCode } from '../errors/cilium-error.ts';
import type { ApiError } from './models.ts';

/**
 * Not imported: an import reads every export of the module, and one of them loads all of Node's fetch and WebSocket, which
 * takes as long as the rest of a command.
 */
const { request: httpRequest } = process.getBuiltinModule('node:http');

export class ApiConnection {
  readonly #socketPath: string;
  readonly #basePath: string;
  readonly #timeoutMs: number;

  /** `basePath`: in front of every path. */
  constructor(socketPath: string, basePath: string, timeoutMs: number) {
    this.#socketPath = socketPath;
    this.#basePath = basePath;
    this.#timeoutMs = timeoutMs;
  }

  /** Throws `Timeout` when the whole answer is not there in time, `AgentUnavailable` when nobody listens. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.open(method, path, body, AbortSignal.timeout(this.#timeoutMs));
    const text = await readText(response).catch((error: unknown) => {
      throw this.#unavailable(error);
    });
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  /** Sends the request and answers the response once its head is there; an answer of 400 or more is thrown. */
  async open(method: string, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#send(method, path, body === undefined ? '' : JSON.stringify(body), signal);
    if (response.statusCode !== undefined && response.statusCode < 400) return response;
    throw asError(await readText(response), response.statusCode);
  }

  #send(method: string, path: string, body: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath: this.#socketPath,
        method,
        path: this.#basePath + path,
        agent: false,
        signal,
        headers: {
          host: 'localhost',
          ...(body !== '' && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      });
      request.once('response', resolve);
      request.once('error', (error) => {
        reject(this.#unavailable(error));
      });
      request.end(body);
    });
  }

  #unavailable(cause: unknown): CiliumError {
    const reason = cause instanceof Error && cause.name === 'AbortError' ? cause.cause : cause;
    if (reason instanceof Error && reason.name === 'TimeoutError') {
      return new CiliumError('Timeout', 'Cilium API client timeout exceeded', { timeoutMs: this.#timeoutMs });
    }
    return new CiliumError('AgentUnavailable', `cannot reach the agent at ${this.#socketPath}`, {}, cause);
  }
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function asError(text: string, status: number | undefined): CiliumError {
  try {
    const { code, message, details } = JSON.parse(text) as ApiError;
    return new CiliumError(Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'Internal', message, details);
  } catch {
    return new CiliumError('Internal', `the agent answered ${status ?? 'without a status'}: ${text.slice(0, 200)}`);
  }
}
