// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startNode } from '../../tests/support/fake-node.ts';

const RULES = [
  {
    endpointSelector: { matchLabels: { id: 'app1' } },
    ingress: [{ fromEndpoints: [{ matchLabels: { id: 'app2' } }, { matchLabels: { id: 'nobody' } }] }],
    labels: [{ key: 'name', value: 'web', source: 'unspec' }],
  },
  { endpointSelector: {}, ingress: [{ fromEndpoints: [{ matchLabels: { id: 'app2' } }] }] },
];

test('policy selectors shows whom rules speak of, and who they are', async (t) => {
  const node = await startNode(t);
  assert.equal((await node.run('policy', 'selectors')).stdout, 'SELECTOR   LABELS   USERS   IDENTITIES   \n');
  await node.runWith(JSON.stringify(RULES), 'policy', 'import', '-');
  assert.equal(
    (await node.run('policy', 'selectors')).stdout,
    'SELECTOR        LABELS   USERS   IDENTITIES   \n' +
      'any:id=app2              2       41029        \n' +
      'any:id=nobody            1                    \n',
  );
  assert.match((await node.run('policy', 'selectors', '-v')).stdout, /^any:id=app2 +unspec:name=web +2 +41029 +$/m);
  const { stdout } = await node.run('policy', 'selectors', '-o', 'json');
  assert.deepEqual(JSON.parse(stdout), [
    {
      selector: 'any:id=app2',
      labels: [{ key: 'name', value: 'web', source: 'unspec' }],
      users: 2,
      identities: [41_029],
    },
    {
      selector: 'any:id=nobody',
      labels: [{ key: 'name', value: 'web', source: 'unspec' }],
      users: 1,
      identities: [],
    },
  ]);
});

test('policy subject-selectors shows whom rules are for', async (t) => {
  const node = await startNode(t);
  await node.runWith(JSON.stringify(RULES), 'policy', 'import', '-');
  assert.equal(
    (await node.run('policy', 'subject-selectors')).stdout,
    'SELECTOR      LABELS   USERS   IDENTITIES   \n' +
      '*                      1       41029        \n' +
      '                               41173        \n' +
      'any:id=app1            1       41173        \n',
  );
});
