// SPDX-License-Identifier: Apache-2.0

/** How errors leave through the REST API: the code decides the status, the body says what was wrong. */
import type { ErrorRequestHandler, RequestHandler } from 'express';
import { z } from 'zod';
import type { ApiError } from '../../api/models.ts';
import { BODY_LIMIT_BYTES } from '../../api/paths.ts';
import { CiliumError, ERROR_CODES, describeError } from '../../errors/cilium-error.ts';
import type { Logger } from '../../runtime/logger.ts';

/** Reads a part of a request by its schema; throws `InvalidArgument` that names each field and what was expected. */
export function parseRequest<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const field = issue.path.length === 0 ? what : `${what} field ${issue.path.join('.')}`;
    return `${field}: ${issue.message}`;
  });
  throw new CiliumError('InvalidArgument', problems.join('; '));
}

/** Answers whatever no route took. */
export const notFound: RequestHandler = (request) => {
  throw new CiliumError('NotFound', `${request.method} ${request.path} is not part of the API`);
};

/** Turns any error into a status and an ApiError; what is our own fault is logged. */
export function errorHandler(log: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent) {
      next(error); // express ends the connection
      return;
    }
    const failure = asCiliumError(error);
    const status = isTooLarge(error) ? 413 : ERROR_CODES[failure.code];
    if (status >= 500) log.error('API request failed', { method: request.method, path: request.path, error: failure });
    const body: ApiError = { code: failure.code, message: describeError(failure), details: failure.details };
    response.status(status).type('json').send(JSON.stringify(body, bigintAsText));
  };
}

function asCiliumError(error: unknown): CiliumError {
  if (error instanceof CiliumError) return error;
  if (isTooLarge(error)) {
    const limit = BODY_LIMIT_BYTES / 1024 / 1024;
    return new CiliumError('InvalidArgument', `the request is larger than ${limit} MiB; split it`);
  }
  if (error instanceof SyntaxError && 'body' in error) {
    return new CiliumError('InvalidArgument', `the body is not JSON: ${error.message}`);
  }
  if (hasStatus(error) && error.status < 500) return new CiliumError('InvalidArgument', error.message);
  return new CiliumError('Internal', 'request failed', {}, error);
}

function isTooLarge(error: unknown): boolean {
  return hasStatus(error) && error.status === 413;
}

/** Errors of express and its body parser carry the status they stand for. */
function hasStatus(error: unknown): error is Error & { status: number } {
  return error instanceof Error && 'status' in error && typeof error.status === 'number';
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
