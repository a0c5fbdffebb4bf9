// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { verdictRecord } from '../../agent/fake/verdict-record.ts';
import { simulation, type SimulationModel } from '../../api/simulation-models.ts';
import { startNode, type FakeNode } from '../../tests/support/fake-node.ts';

const APP1 = { identity: 41_173, endpoint: 173 };
const APP2 = { identity: 41_029, endpoint: 29 };

function rule(facts: object, name = 'a'): object {
  return { endpointSelector: { matchLabels: { id: 'app1' } }, labels: [`test:${name}`], ...facts };
}

const WEB = rule({
  ingress: [
    { fromEndpoints: [{ matchLabels: { id: 'app2' } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
  ],
});

async function nodeWith(t: TestContext, ...rules: object[]): Promise<FakeNode> {
  const node = await startNode(t);
  if (rules.length > 0) await node.runWith(JSON.stringify(rules), 'policy', 'import', '-');
  return node;
}

/** Of the fake's simulation; nothing may have been changed. */
async function simulate(node: FakeNode, rules: readonly object[], ...args: string[]): Promise<string> {
  const before = node.services.world.repository.revision;
  const path = join(node.folder, 'new.json');
  await writeFile(path, JSON.stringify(rules));
  const { stdout, stderr, status } = await node.run('policy', 'simulate', ...(rules.length > 0 ? [path] : []), ...args);
  assert.deepEqual([stderr, status, node.services.world.repository.revision], ['', 0, before]);
  return stdout;
}

async function simulateJson(node: FakeNode, rules: readonly object[], ...args: string[]): Promise<SimulationModel> {
  return simulation.parse(JSON.parse(await simulate(node, rules, ...args, '-o', 'json')));
}

/** Both ends of a connection from app2 to app1, as the kernel reports them. */
function connect(node: FakeNode, port: number, verdicts: { egress: number; ingress?: number }): void {
  const records = [
    verdictRecord({ endpoint: APP2.endpoint, peer: APP1.identity, egress: true, port, verdict: verdicts.egress }),
  ];
  if (verdicts.ingress !== undefined) {
    records.push(verdictRecord({ endpoint: APP1.endpoint, peer: APP2.identity, port, verdict: verdicts.ingress }));
  }
  node.services.world.flows.take(records);
}

test('policy simulate says whose policy would change, and for whom', async (t) => {
  const node = await nodeWith(t);
  assert.equal(
    await simulate(node, [WEB]),
    `Rules: 1 come, 0 go. Nothing has been changed.

Ingress of box173: only what rules allow passes from then on
  NEWLY DENIED   from box29        everything but TCP, 0-79/TCP, 81-65535/TCP
  NEWLY DENIED   from all others   everything

None of 0 flows seen since 2026-01-05T00:00:00.000Z would meet another verdict.
`,
  );
});

test('policy simulate judges flows seen from end to end', async (t) => {
  const node = await nodeWith(
    t,
    rule({
      endpointSelector: { matchLabels: { id: 'app2' } },
      egress: [{ toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] }],
    }),
  );
  connect(node, 80, { egress: 0, ingress: 0 });
  connect(node, 80, { egress: 0, ingress: 0 });
  connect(node, 443, { egress: -133 });
  const closed = await simulateJson(node, [
    rule({ ingress: [{ toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] }] }),
  ]);
  assert.deepEqual(
    closed.flows.changed.map(({ from, to, packet, before, after, count }) => ({
      from: from.containers,
      to: to.identity,
      packet,
      before,
      after,
      count,
    })),
    [{ from: ['box29'], to: APP1.identity, packet: '80/TCP', before: 'allowed', after: 'denied', count: 2 }],
  );
  // Egress of app2 refuses 443 all the same.
  const opened = await simulateJson(node, [
    rule({
      endpointSelector: { matchLabels: { id: 'app2' } },
      egress: [{ toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] }],
    }),
  ]);
  assert.deepEqual(
    opened.flows.changed.map(({ packet, before, after }) => [packet, before, after]),
    [['443/TCP', 'denied', 'allowed']],
  );
  assert.match(await simulate(node, [WEB]), /^None of 2 flows seen since .* would meet another verdict\.$/m);
});

test('policy simulate knows peers outside by their address', async (t) => {
  const node = await nodeWith(t);
  const sent = { endpoint: APP2.endpoint, peer: 9, egress: true, port: 53, protocol: 17 };
  node.services.world.flows.take(['192.0.2.1', '198.51.100.7'].map((address) => verdictRecord({ ...sent, address })));
  const only = { endpointSelector: { matchLabels: { id: 'app2' } }, egress: [{ toCIDR: ['192.0.2.0/24'] }] };
  const text = await simulate(node, [only]);
  assert.match(text, /^ {2}NEWLY DENIED +to all others +everything$/m);
  assert.match(
    text,
    /^1 of 2 flows seen since .*:\n {2}NEWLY DENIED {3}box29 -> 198\.51\.100\.7 {3}53\/UDP {3}1x, last /m,
  );
});

test('policy simulate takes the options of an import, and deletions', async (t) => {
  const node = await nodeWith(t, WEB);
  connect(node, 80, { egress: 0, ingress: 0 });
  const replaced = await simulateJson(node, [rule({ ingress: [{ fromEntities: ['host'] }] })], '--replace');
  assert.deepEqual([replaced.rules.added, replaced.rules.removed.map(({ labels }) => labels)], [1, [['test:a']]]);
  assert.deepEqual(
    replaced.flows.changed.map(({ after }) => after),
    ['denied'],
  );
  const other = await simulateJson(node, [rule({ ingress: [{}] }, 'b')], '--replace-with-labels', 'test:a');
  assert.equal(other.rules.removed.length, 1);
  const gone = await simulate(node, [], '--delete', 'test:a');
  assert.match(gone, /^Rules: 0 come, 1 go\. Nothing has been changed\.\n {2}- rule 1 at stdin:1 \[test:a\]\n/);
  assert.match(gone, /^Ingress of box173: no rule restricts it any more\n {2}NEWLY ALLOWED /m);
  assert.equal((await simulateJson(node, [], '--delete-all')).rules.removed.length, 1);
  assert.match(await simulate(node, [], '--delete', 'test:none'), /No policy of an endpoint here changes\.\n/);
});

test('policy simulate knows groups of prefixes that come with the rules', async (t) => {
  const node = await nodeWith(t);
  const sent = { endpoint: APP2.endpoint, peer: 9, egress: true, port: 53, protocol: 17 };
  node.services.world.flows.take(['192.0.2.1', '198.51.100.7'].map((address) => verdictRecord({ ...sent, address })));
  const group = { kind: 'CiliumCIDRGroup', metadata: { name: 'g' }, spec: { externalCIDRs: ['192.0.2.0/24'] } };
  const only = { endpointSelector: { matchLabels: { id: 'app2' } }, egress: [{ toCIDRSet: [{ cidrGroupRef: 'g' }] }] };
  const { flows } = await simulateJson(node, [{ apiVersion: 'cilium.io/v2', ...group }, only]);
  assert.deepEqual(
    flows.changed.map(({ to, after }) => [to.address, after]),
    [['198.51.100.7', 'denied']],
  );
});

test('policy simulate refuses what an import refuses, at its place', async (t) => {
  const node = await startNode(t);
  const bad = '[\n  { "endpointSelector": {}, "ingress": [{ "fromCIDR": ["x"] }] }\n]';
  const { stderr, status } = await node.runWith(bad, 'policy', 'simulate', '-');
  assert.equal(status, 1);
  assert.match(stderr, /stdin:2:\d+: rules\[0\]\.ingress\[0\]\.fromCIDR\[0\]: /);
  assert.match((await node.run('policy', 'simulate')).stderr, /give files to import, --delete or --delete-all/);
  assert.match((await node.run('policy', 'simulate', 'x.json', '--delete', 'a')).stderr, /either files to import or/);
  assert.match((await node.run('policy', 'simulate', '--delete', '')).stderr, /--delete: expected labels/);
});
