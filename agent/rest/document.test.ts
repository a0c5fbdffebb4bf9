// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Router } from 'express';
import { FakeServices } from './fake/fake-services.ts';
import { fakeHealth } from './fake/fake-health.ts';
import { healthApi } from './health-routes.ts';
import { apiRouter } from './routes.ts';

test('docs/api.md lists every request that is answered, and no other', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
  const documented = [...text.matchAll(/^\| `([A-Z]+ \/\S+)` \|/gm)].map(([, request]) => request);
  const health = healthApi(fakeHealth());
  const routes = [...routesOf(apiRouter(new FakeServices())), ...routesOf(health.router, health.basePath)];
  assert.deepEqual(documented.toSorted(), routes.toSorted());
});

function routesOf({ stack }: Router, base = ''): string[] {
  return stack.flatMap(({ route }) => {
    return route === undefined ? [] : route.stack.map(({ method }) => `${method.toUpperCase()} ${base}${route.path}`);
  });
}
