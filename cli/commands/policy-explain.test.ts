// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flowExplanation, type FlowExplanationModel } from '../../api/explain-models.ts';
import { WHOLE_LANGUAGE } from '../../policy/language.ts';
import { parseRules } from '../../policy/parse/rule.ts';
import { re2 } from '../../runtime/re2.ts';
import { startNode, type FakeNode } from '../../tests/support/fake-node.ts';

const WEB = {
  endpointSelector: { matchLabels: { id: 'app1' } },
  ingress: [
    { fromEndpoints: [{ matchLabels: { id: 'app2' } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
  ],
  labels: [{ key: 'name', value: 'web', source: 'unspec' }],
  description: 'app2 may see the page',
};

const OUTSIDE = {
  endpointSelector: { matchLabels: { id: 'app2' } },
  egress: [{ toCIDR: ['192.0.2.0/24'] }],
  egressDeny: [{ toCIDR: ['192.0.2.7/32'], icmps: [{ fields: [{ type: 8 }] }] }],
};

async function nodeWith(t: Parameters<typeof startNode>[0], ...rules: object[]): Promise<FakeNode> {
  const node = await startNode(t);
  await node.runWith(JSON.stringify(rules, undefined, 2), 'policy', 'import', '-');
  return node;
}

async function json(node: FakeNode, ...args: string[]): Promise<FlowExplanationModel> {
  const { stdout, stderr, status } = await node.run('policy', 'explain', ...args, '-o', 'json');
  assert.deepEqual([stderr, status], ['', 0]);
  return flowExplanation.parse(JSON.parse(stdout));
}

test('policy explain names the rule that allows a flow, and the entry of the kernel', async (t) => {
  const node = await nodeWith(t, WEB);
  const { stdout, status } = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '80/tcp');
  assert.equal(status, 0);
  assert.equal(
    stdout,
    `box29 -> box173 80/TCP: ALLOWED

From: endpoint 29 (box29), identity 41029 [container:id=app2]
To:   endpoint 173 (box173), identity 41173 [container:id=app1 container:tier=web]

Egress of box29: ALLOWED
  No rule speaks of this direction, so it is open.
  Kernel, endpoint 29, policy revision 2: entry allow egress, any identity, ANY

Ingress of box173: ALLOWED
  Allowed by rule 1 at stdin:2 [unspec:name=web] "app2 may see the page"
    ingress[0].toPorts[0]: endpoints {"matchLabels":{"any:id":"app2"}}, 80/TCP
    any:id=app2 selects 41029
  Kernel, endpoint 173, policy revision 2: entry allow ingress, identity 41029, 80/TCP
`,
  );
});

test('policy explain says what is missing for a flow that is denied, and the rule can be imported', async (t) => {
  const node = await nodeWith(t, WEB);
  const { stdout, status } = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '8080');
  assert.equal(status, 0);
  assert.match(stdout, /^box29 -> box173 8080\/TCP: DENIED\n/);
  assert.match(stdout, /^ {2}No rule allows it\. What no rule allows is denied because of\n {4}rule 1 at stdin:2 /m);
  assert.match(stdout, /^ {4}rule 1 at stdin:2 .* ingress\[0\] is for 80\/TCP only$/m);
  assert.match(stdout, /^ {2}Kernel, endpoint 173, .*: no entry matches, the packet is dropped$/m);
  const command = 'cilium policy explain box29 box173 --dport 8080 --suggest | cilium policy import -';
  assert.ok(stdout.includes(`The smallest rule that allows it (${command}):\n[`), stdout);
  const suggested = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '8080', '--suggest');
  assert.deepEqual([suggested.stderr, suggested.status], ['', 0]);
  assert.ok(stdout.endsWith(suggested.stdout));
  assert.equal((await node.runWith(suggested.stdout, 'policy', 'import', '-')).stdout, 'Revision: 3\n');
  assert.equal((await json(node, 'box29', 'box173', '--dport', '8080')).verdict, 'allowed');
  const again = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '8080', '--suggest');
  assert.deepEqual(again, { stdout: '', stderr: 'Nothing to import: the flow is allowed.\n', status: 0 });
});

test('policy explain shows a deny rule as what is in the way', async (t) => {
  const node = await nodeWith(t, OUTSIDE);
  const ping = await node.run('policy', 'explain', 'box29', '192.0.2.7', '--icmp', 'EchoRequest');
  assert.match(ping.stdout, /^box29 -> 192\.0\.2\.7 ICMP type 8: DENIED\n/);
  assert.match(ping.stdout, /^To: {3}192\.0\.2\.7, identity 167\d+ \[cidr:192\.0\.2\.7\/32 reserved:world-ipv4\]$/m);
  assert.match(
    ping.stdout,
    /^ {2}Denied by rule 1 at stdin:2\n {4}egressDeny\[0\]: CIDR 192\.0\.2\.7\/32, ICMPv4 type 8$/m,
  );
  assert.match(ping.stdout, /^ {2}Allowed, were it not for the above, by rule 1 at stdin:2\n {4}egress\[0\]: /m);
  assert.match(ping.stdout, /^In the way: rule 1 at stdin:2, egressDeny\[0\] denies it, whatever others allow\./m);
  assert.match(ping.stdout, /^Ingress of 192\.0\.2\.7: ALLOWED\n {2}It is no endpoint of this node, .*\n/m);
  const suggested = await node.run('policy', 'explain', 'box29', '192.0.2.7', '--icmp', '8', '--suggest');
  assert.deepEqual([suggested.stdout, suggested.status], ['', 0]);
  assert.match(suggested.stderr, /^In the way: rule 1/);
});

test('what would go to a proxy is dropped where there is none', async (t) => {
  const node = await startNode(t);
  const toPorts = [{ ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ path: '/' }] } }];
  const rule = { endpointSelector: { matchLabels: { id: 'app1' } }, ingress: [{ toPorts }] };
  node.services.world.repository.import(parseRules([rule], { language: WHOLE_LANGUAGE, regex: re2 }));
  const { stdout } = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '80');
  assert.match(stdout, /^Ingress of box173: DENIED\n {2}Sent to the http proxy by rule 1\n/m);
  assert.match(
    stdout,
    /^ {2}There is no proxy, so it is dropped\.\n {2}Kernel, .*: entry proxy port \d+, ingress, any identity, 80\/TCP$/m,
  );
  assert.match(stdout, /^In the way: rule 1, ingress\[0\]\.toPorts\[0\] sends it to a proxy, /m);
  const { egress, ingress, verdict } = await json(node, 'box29', 'box173', '--dport', '80');
  assert.deepEqual(
    [verdict, egress.verdict, ingress.verdict, ingress.kernel?.agrees],
    ['denied', 'allowed', 'denied', true],
  );
});

const ENDS: [name: string, identity: number, endpoint: number | undefined, address?: string][] = [
  ['29', 41_029, 29],
  ['cilium-local:29', 41_029, 29],
  ['container-name:box29', 41_029, 29],
  ['box29', 41_029, 29],
  ['c0ffee29', 41_029, 29],
  ['container-id:c0ffee29', 41_029, 29],
  ['docker-endpoint:d0c29', 41_029, 29],
  ['10.11.0.87', 41_029, 29, '10.11.0.87'],
  ['ipv6:f00d::b08c', 41_029, 29, 'f00d::b08c'],
  ['identity:41029', 41_029, 29],
  ['id=app2', 41_029, 29],
  ['container:id=app2', 41_029, 29],
  ['id=nobody', 0, undefined],
  ['192.0.2.9', 0x0100_0001, undefined, '192.0.2.9'],
  ['198.51.100.1', 9, undefined, '198.51.100.1'],
  ['ipv4:198.51.100.1', 9, undefined, '198.51.100.1'],
  ['2001:db8::1', 10, undefined, '2001:db8::1'],
  ['world', 9, undefined],
  ['reserved:world', 9, undefined],
  ['reserved:world-ipv6', 10, undefined],
  ['host', 1, undefined],
  ['identity:1', 1, undefined],
];
for (const [name, identity, endpoint, address] of ENDS) {
  test(`policy explain knows who "${name}" is`, async (t) => {
    const node = await nodeWith(t, OUTSIDE);
    const { to } = await json(node, '173', name);
    assert.deepEqual([to.name, to.identity, to.endpoint, to.address], [name, identity, endpoint, address]);
  });
}

test('the world has the family of the other end', async (t) => {
  const node = await nodeWith(t, OUTSIDE);
  assert.equal((await json(node, 'f00d::b08c', 'world')).to.identity, 10);
  assert.equal((await json(node, 'box29', 'world', '--icmpv6', '128')).to.identity, 10);
});

test('policy explain says when the kernel holds something else than the rules make', async (t) => {
  const node = await nodeWith(t, WEB);
  node.services.world.kernel.set(173, []);
  const { policy, log } = node.services.endpointList[0]!.status;
  policy.realized['policy-revision'] = 1;
  policy.spec['policy-revision'] = 2;
  const message = 'policy has 17003 entries, 16384 fit';
  log.unshift({ timestamp: '2026-11-21T05:57:23.106Z', code: 'Failure', state: 'not-ready', message });
  const { stdout } = await node.run('policy', 'explain', 'box29', 'box173', '--dport', '80');
  assert.match(
    stdout,
    /^ {2}ATTENTION: the kernel says DENIED .* than the rules: entry allow ingress, identity 41029, 80\/TCP\n {2}The rules have revision 2; .*\n {2}policy has 17003 entries, 16384 fit\n/m,
  );
  const { kernel } = (await json(node, 'box29', 'box173', '--dport', '80')).ingress;
  assert.deepEqual([kernel?.agrees, kernel?.verdict, kernel?.error], [false, 'denied', message]);
});

test('policy explain refuses what nobody is, and packets that do not exist', async (t) => {
  const node = await startNode(t);
  for (const [args, message] of [
    [['nobody', '29'], /"nobody" is nobody here: expected an endpoint/],
    [['30', '29'], /endpoint 30 not found/],
    [['identity:77', '29'], /identity 77 not found/],
    [['identity:x', '29'], /expected a number after "identity:"/],
    [['c0ffee', '29'], /fits the IDs of 2 containers/],
    [['29', '173', '--dport', '80/icmp'], /--dport "80\/icmp": expected PORT/],
    [['29', '173', '--icmp', 'Ping'], /"Ping" is no ICMP type/],
    [['29', '173', '--icmp', '8', '--dport', '80'], /one of --dport, --icmp and --icmpv6/],
  ] as const) {
    const { stderr, status } = await node.run('policy', 'explain', ...args);
    assert.match(stderr, message);
    assert.equal(status, 1);
  }
});
