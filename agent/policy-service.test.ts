// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { numericIdentity } from '../identity/numeric-identity.ts';
import { parseLabel } from '../identity/label.ts';
import { PolicyRepository } from '../policy/repository.ts';
import { PolicyService } from './policy-service.ts';

const RULE = { endpointSelector: { matchLabels: { id: 'app1' } }, ingress: [{}], labels: ['unit=shop'] };

function service(stateDir: string): { repository: PolicyRepository; policy: PolicyService; enforced: number[] } {
  const repository = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: { acquire: () => numericIdentity(0x01000001), release: () => undefined },
  });
  const enforced: number[] = [];
  const policy = new PolicyService({
    repository,
    enforce: () => void enforced.push(repository.revision),
    stateDir,
  });
  return { repository, policy, enforced };
}

const plain = (...rules: object[]) => [{ items: rules.map((value) => ({ value })) }];

function folder(): string {
  return mkdtempSync(join(tmpdir(), 'policy-'));
}

test('imported rules are enforced, and are there again after a restart', async () => {
  const stateDir = folder();
  const { policy, enforced } = service(stateDir);
  const revision = await policy.import(plain(RULE), {});
  assert.deepEqual(enforced, [revision]);
  const after = service(stateDir);
  assert.equal(await after.policy.restore(), 1);
  assert.deepEqual(after.policy.rules(), policy.rules());
});

test('a refused import changes nothing', async () => {
  const { policy, enforced } = service(folder());
  await policy.import(plain(RULE), {});
  await assert.rejects(policy.import(plain({ ...RULE, ingres: [] }), {}), /ingres/);
  assert.equal(policy.rules().length, 1);
  assert.equal(enforced.length, 1);
});

test('rules that cannot be remembered are taken back', async () => {
  const stateDir = folder();
  const { policy } = service(stateDir);
  await policy.import(plain(RULE), {});
  const before = policy.rules();
  rmSync(stateDir, { recursive: true });
  await assert.rejects(policy.import(plain({ ...RULE, labels: ['unit=other'] }), {}));
  assert.deepEqual(policy.rules(), before);
});

test('deletion by labels takes the rules that have them all', async () => {
  const { policy } = service(folder());
  await policy.import(plain(RULE, { ...RULE, labels: ['unit=shop', 'team=a'] }), {});
  assert.equal(await policy.delete([parseLabel('unit=shop'), parseLabel('team=a')]), 1);
  assert.equal(await policy.delete([]), 1);
});

test('a policy file that is not ours stops the start', async () => {
  const stateDir = folder();
  writeFileSync(join(stateDir, 'policy.json'), '{"version":1');
  await assert.rejects(service(stateDir).policy.restore(), /policy\.json/);
});
