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

const PORT_RULE = {
  endpointSelector: { matchLabels: { id: 'app1' } },
  ingress: [
    { fromEndpoints: [{ matchLabels: { id: 'app2' } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
  ],
};

test('policy trace tells rule by rule why labels pass', async (t) => {
  const node = await startNode(t);
  await node.runWith(JSON.stringify([PORT_RULE]), 'policy', 'import', '-');
  const { stdout, status } = await node.run(
    ...['policy', 'trace', '-s', 'id=app2', '-d', 'container:id=app1', '-d', 'tier=web', '--dport', '80/tcp'],
  );
  assert.equal(status, 0);
  assert.equal(
    stdout,
    `----------------------------------------------------------------
Tracing From: [container:id=app2] => To: [container:id=app1, container:tier=web] Ports: [80/TCP]
Egress policy of [container:id=app2]
0/1 rules selected
Open: no rule speaks of this direction, so it is open
Found no allow rule
Label verdict: allowed
L4 egress policies skipped

Ingress policy of [container:id=app1, container:tier=web]
* Rule 1 {"matchLabels":{"any:id":"app1"}} (stdin:1): selected
    Allows from endpoints {"matchLabels":{"any:id":"app2"}}
      Found all required labels
        Holds for 80/TCP only: left to the ports
1/1 rules selected
Found no allow rule
Label verdict: undecided

Resolving ingress port policy for [container:id=app1, container:tier=web]
    Allows Ingress port [80/TCP]: {"matchLabels":{"any:id":"app1"}} (stdin:1)
      allowed
L4 ingress verdict: allowed

Final verdict: ALLOWED
`,
  );
  const denied = await node.run('policy', 'trace', '-s', 'id=app3', '-d', 'id=app1', '--dport', '80', '-v');
  assert.match(denied.stdout, /^ {2}Rule 1 .*: did not select \[container:id=app3\]$/m);
  assert.match(denied.stdout, /^ {6}Labels any:id=app2 not found$/m);
  assert.match(denied.stdout, /\n\nFinal verdict: DENIED\n$/);
  assert.equal(denied.status, 0);
});

test('policy trace asks each source with each destination', async (t) => {
  const node = await startNode(t);
  await node.runWith(JSON.stringify([PORT_RULE]), 'policy', 'import', '-');
  const ends = ['-s', 'id=app3', '--src-identity', '41029', '--dst-endpoint', 'container-name:box173', '-d', 'id=app9'];
  const { stdout } = await node.run('policy', 'trace', ...ends, '--dport', '80');
  assert.deepEqual(
    [...stdout.matchAll(/^(?:Tracing From: (.*) Ports.*|Final verdict: (.*))$/gm)].map(
      ([, flow, verdict]) => flow ?? verdict,
    ),
    [
      ...['[container:id=app3] => To: [container:id=app9]', 'ALLOWED'],
      ...['[container:id=app3] => To: [container:id=app1, container:tier=web]', 'DENIED'],
      ...['[container:id=app2] => To: [container:id=app9]', 'ALLOWED'],
      ...['[container:id=app2] => To: [container:id=app1, container:tier=web]', 'ALLOWED'],
    ],
  );
  const json = JSON.parse((await node.run('policy', 'trace', ...ends, '-o', 'json')).stdout) as { verdict: string }[];
  assert.deepEqual(
    json.map(({ verdict }) => verdict),
    ['allowed', 'denied', 'allowed', 'denied'],
  );
});

test('policy trace refuses what it cannot ask', async (t) => {
  const node = await startNode(t);
  for (const [args, message] of [
    [['-d', 'a'], /no source: give --src, --src-identity or --src-endpoint/],
    [['-s', 'a'], /no destination/],
    [['-s', 'a', '-d', 'b', '--dport', '99999'], /--dport "99999": expected PORT/],
    [['-s', 'a', '-d', 'b', '--dport', 'http'], /--dport "http": expected PORT/],
    [['--src-identity', '9', '-d', 'b'], /identity 9 not found/],
    [['--src-endpoint', '9', '-d', 'b'], /endpoint 9 not found/],
  ] as const) {
    const { stderr, status } = await node.run('policy', 'trace', ...args);
    assert.match(stderr, message);
    assert.equal(status, 1);
  }
});
