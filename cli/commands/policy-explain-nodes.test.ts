// SPDX-License-Identifier: Apache-2.0

/** `policy explain` and `policy trace` about containers of other nodes. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { flowExplanation, type FlowExplanationModel } from '../../api/explain-models.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { numericIdentity } from '../../identity/numeric-identity.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import type { ClusterNode } from '../../node/node.ts';
import { startNode, type FakeNode } from '../../tests/support/fake-node.ts';

const NODE1 = { node: 'node1', address: '192.168.251.1' };
const APP3 = 41_300;
const REMOTE = '10.16.0.2';
const UNKNOWN = '10.16.0.77';

function clusterNode(name: string, address: string, range: string): ClusterNode {
  return {
    name,
    cluster: 'default',
    addresses: [{ type: 'InternalIP', ip: IpAddress.parse(address) }],
    ipv4AllocCidr: Prefix.parse(range),
    ipv6AllocCidr: undefined,
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
  };
}

/** This is node2; `app3` is a container of node1, and so is `app4` with the same labels and alias. */
async function cluster(t: TestContext, ...rules: object[]): Promise<FakeNode> {
  const node = await startNode(t);
  const { world } = node.services;
  world.repository.addIdentity(numericIdentity(APP3), LabelSet.fromTexts(['container:id=app3']));
  world.nodes = [
    clusterNode('node2', '192.168.251.2', '10.11.0.0/16'),
    clusterNode('node1', NODE1.address, '10.16.0.0/16'),
  ];
  const host = IpAddress.parse(NODE1.address);
  world.remote = ['app3', 'app4'].map((name, i) => ({
    address: IpAddress.parse(`10.16.0.${2 + i}`),
    host,
    identity: APP3,
    docker: { names: [name, 'web'], network: 'net' },
  }));
  for (const text of ['10.11.0.0/16', '10.16.0.0/16', '10.99.0.0/24']) {
    world.ipcache.upsert(Prefix.parse(text), { identity: 0 }, 'cluster');
  }
  for (const text of [REMOTE, '10.16.0.3']) {
    world.ipcache.upsert(Prefix.parse(`${text}/32`), { identity: APP3, tunnelEndpoint: host }, 'kvstore');
  }
  world.ipcache.upsert(Prefix.parse('10.16.255.254/32'), { identity: 6, tunnelEndpoint: host }, 'cluster');
  if (rules.length > 0) await node.runWith(JSON.stringify(rules), 'policy', 'import', '-');
  return node;
}

async function json(node: FakeNode, ...args: string[]): Promise<FlowExplanationModel> {
  const { stdout, stderr, status } = await node.run('policy', 'explain', ...args, '-o', 'json');
  assert.deepEqual([stderr, status], ['', 0]);
  return flowExplanation.parse(JSON.parse(stdout));
}

const to3 = {
  endpointSelector: { matchLabels: { id: 'app3' } },
  ingress: [{ toPorts: [{ ports: [{ port: '81' }] }] }],
};

test('of an endpoint on another node policy explain says who decides, and what the rules here would say', async (t) => {
  const node = await cluster(t);
  const { stdout, status } = await node.run('policy', 'explain', 'box29', REMOTE, '--dport', '80');
  assert.equal(status, 0);
  assert.equal(
    stdout,
    `box29 -> 10.16.0.2 80/TCP: ALLOWED here; node1 decides on ingress

From: endpoint 29 (box29), identity 41029 [container:id=app2]
To:   app3, 10.16.0.2 on node1 (192.168.251.1), identity 41300 [container:id=app3]

Egress of box29: ALLOWED
  No rule speaks of this direction, so it is open.
  Kernel, endpoint 29, policy revision 1: entry allow egress, any identity, ANY

Ingress of 10.16.0.2: decided on node1 (192.168.251.1) by the rules there; by the rules of this node it would be: ALLOWED
  No rule speaks of this direction, so it is open.
`,
  );
  const { egress, ingress, to } = await json(node, 'box29', REMOTE, '--dport', '80');
  assert.deepEqual([egress.decidedBy, ingress.decidedBy, to.place, to.container], [undefined, NODE1, NODE1, 'app3']);
  const back = await node.run('policy', 'explain', REMOTE, 'box29');
  assert.match(back.stdout, /: ALLOWED here; node1 decides on egress\n/);
  assert.match(back.stdout, /^Egress of 10\.16\.0\.2: decided on node1 /m);
  const both = await node.run('policy', 'explain', REMOTE, '10.16.0.3');
  assert.match(both.stdout, /^10\.16\.0\.2 -> 10\.16\.0\.3 .*: node1 decides on egress, node1 decides on ingress\n/);
  const suggested = await node.run('policy', 'explain', 'box29', REMOTE, '--suggest');
  assert.deepEqual(suggested, {
    stdout: '',
    stderr: 'Nothing to import: ALLOWED here; node1 decides on ingress.\n',
    status: 0,
  });
});

test('what another node would deny by the rules here has to be allowed there', async (t) => {
  const node = await cluster(t, to3);
  const { stdout } = await node.run('policy', 'explain', 'box29', REMOTE, '--dport', '80');
  assert.match(stdout, /^box29 -> 10\.16\.0\.2 80\/TCP: ALLOWED here; node1 decides on ingress\n/);
  assert.match(stdout, /^Ingress of 10\.16\.0\.2: decided .* it would be: DENIED\n {2}No rule allows it\./m);
  const note = 'For ingress the rules of node1 (192.168.251.1) decide: import the rule there.';
  assert.ok(stdout.includes(`\n${note}\n`), stdout);
  const suggested = await node.run('policy', 'explain', 'box29', REMOTE, '--dport', '80', '--suggest');
  assert.equal(suggested.stderr, `${note}\n`);
  assert.ok(stdout.endsWith(suggested.stdout));
  const { verdict, suggestion } = await json(node, 'box29', REMOTE, '--dport', '80');
  assert.deepEqual([verdict, suggestion?.elsewhere], ['denied', [{ direction: 'ingress', ...NODE1 }]]);
});

test('what this node denies is denied, whatever the other says', async (t) => {
  const deny = { endpointSelector: { matchLabels: { id: 'app2' } }, egressDeny: [{ toEndpoints: [{}] }] };
  const node = await cluster(t, deny);
  const { stdout } = await node.run('policy', 'explain', 'box29', REMOTE);
  assert.match(stdout, /^box29 -> 10\.16\.0\.2 .*: DENIED\n/);
  assert.deepEqual((await json(node, 'box29', REMOTE)).suggestion?.elsewhere, []);
});

test('at an address of a node that nobody has everything is dropped, whatever rules say', async (t) => {
  const node = await cluster(t);
  const { stdout } = await node.run('policy', 'explain', 'box29', UNKNOWN, '--dport', '80');
  const reason = `${UNKNOWN} is in node1's range, and nobody is known there (yet): the kernel drops it (Invalid identity)`;
  assert.equal(
    stdout,
    `box29 -> 10.16.0.77 80/TCP: DENIED
${reason}.

From: endpoint 29 (box29), identity 41029 [container:id=app2]
To:   10.16.0.77, nobody known
`,
  );
  const { verdict, egress, ingress, suggestion, to } = await json(node, 'box29', UNKNOWN);
  assert.deepEqual(
    [verdict, egress.cause, ingress.cause, suggestion],
    ['denied', 'unknown-address', 'unknown-address', undefined],
  );
  assert.deepEqual([to.identity, to.place, to.managed], [0, NODE1, false]);
  const suggested = await node.run('policy', 'explain', 'box29', UNKNOWN, '--suggest');
  assert.deepEqual([suggested.stdout, suggested.stderr], ['', `Nothing to import: ${reason}.\n`]);
  for (const [address, range] of [
    ['10.11.9.9', "node2's range"],
    ['10.99.0.7', "one of the cluster's ranges"],
  ] as const) {
    const { stdout: text } = await node.run('policy', 'explain', address, 'box29');
    assert.match(
      text,
      new RegExp(`^${address} -> box29 .*: DENIED\n${address} is in ${range}, and nobody is known there`),
    );
  }
});

test('what the node itself sends to an address that nobody has is dropped, wherever that is', async (t) => {
  const { stdout } = await (await cluster(t)).run('policy', 'explain', 'host', UNKNOWN);
  assert.match(
    stdout,
    /: DENIED\n10\.16\.0\.77 is in node1's range, and nobody is known there \(yet\): it is dropped\.\n/,
  );
});

test('the router of another node is that node', async (t) => {
  const { to, ingress } = await json(await cluster(t), 'box29', '10.16.255.254');
  assert.deepEqual([to.identity, to.labels, to.place], [6, ['reserved:remote-node'], NODE1]);
  assert.deepEqual([ingress.setting?.name, ingress.decidedBy], ['not-an-endpoint', undefined]);
});

test('containers of other nodes are known by their names, if only one has it', async (t) => {
  const node = await cluster(t);
  const { to, ingress } = await json(node, 'box29', 'app3', '--dport', '80');
  assert.deepEqual([to.name, to.container, to.address, to.identity], ['app3', 'app3', REMOTE, APP3]);
  assert.deepEqual(ingress.decidedBy, NODE1);
  const several = await node.run('policy', 'explain', 'box29', 'web');
  assert.match(several.stderr, /"web" is the name of several containers .*\(10\.16\.0\.2, 10\.16\.0\.3\)/);
  const nobody = await node.run('policy', 'explain', 'box29', 'nobody');
  assert.match(nobody.stderr, /"nobody" is nobody here: .*; `cilium ip list` shows who is known, on other nodes, too/);
  assert.deepEqual([several.status, nobody.status], [1, 1]);
});

test('policy trace says on which nodes those are whom nobody here is', async (t) => {
  const node = await cluster(t);
  const trace = async (to: string) =>
    (await node.run('policy', 'trace', '-s', 'id=app2', '-d', to, '--dport', '80')).stdout;
  const line = 'Decided on node1 (192.168.251.1) by the rules there; by the rules of this node:';
  assert.ok((await trace('id=app3')).includes(`\nIngress policy of [container:id=app3]\n${line}\n`));
  for (const to of ['id=app1,tier=web', 'id=nobody']) assert.doesNotMatch(await trace(to), /Decided/);
});
