// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FakeServices } from './fake/fake-services.ts';
import { apiRouter } from './routes.ts';

test('docs/api.md lists every request that is answered, and no other', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
  const documented = [...text.matchAll(/^\| `([A-Z]+ \/\S+)` \|/gm)].map(([, request]) => request);
  const routes = apiRouter(new FakeServices()).stack.flatMap(({ route }) => {
    return route === undefined ? [] : route.stack.map(({ method }) => `${method.toUpperCase()} ${route.path}`);
  });
  assert.deepEqual(documented.toSorted(), routes.toSorted());
});
