// SPDX-License-Identifier: Apache-2.0

/** How a handler reads its request and gives its answer. */
import type { Request, RequestHandler } from 'express';
import type { PolicySources } from '../../api/models.ts';
import type { PolicySource } from '../../policy/resources/policy-item.ts';
import { parseRequest } from './errors.ts';

/** Answers what `work` gives as JSON, and an empty 200 when that is nothing. */
export function answer(work: (request: Request) => unknown): RequestHandler {
  return async (request, response) => {
    const result = await work(request);
    if (result === undefined) response.end();
    else response.json(result);
  };
}

/** The body by its schema; throws `InvalidArgument`. */
export function bodyOf<T>(request: Request, schema: Parameters<typeof parseRequest<T>>[0]): T {
  return parseRequest(schema, request.body, 'body');
}

/** The sources of an import. */
export function sourcesOf({ sources }: PolicySources): PolicySource[] {
  return sources.map(({ file, items }) => ({ ...(file !== undefined && { file }), items }));
}

/** Whether all wanted labels are among these. */
export function carriesAll(labels: readonly string[], wanted: readonly string[]): boolean {
  return wanted.every((label) => labels.includes(label));
}
