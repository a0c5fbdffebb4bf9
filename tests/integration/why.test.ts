// SPDX-License-Identifier: Apache-2.0

/** What `cilium policy trace|explain|simulate` say is what happens to real packets, before and after. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { FlowExplanationModel } from '../../api/explain-models.ts';
import type { FlowDifferenceModel, SimulationModel } from '../../api/simulation-models.ts';
import { containerRanges, OUTSIDE, WORLD } from '../../lab/addresses.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const lab = labForTests();
const node = new DockerNode(lab);
const APPS = ['app1', 'app2', 'app3'];
const HOST = 'host';
/** Of containers and the host. */
const addresses = new Map<string, string>();

/** Ends are containers, the host, or addresses outside. */
interface Flow {
  readonly from: string;
  readonly to: string;
  /** Absent: ping. */
  readonly port?: number;
}

const flow = (from: string, to: string, port?: number): Flow => ({ from, to, ...(port !== undefined && { port }) });
const text = ({ from, to, port }: Flow): string => `${from} -> ${to} ${port ?? 'ping'}`;

/** Flows inside, to the host and to the world, in both families. */
function allFlows(): Flow[] {
  const inside = APPS.flatMap((from) =>
    APPS.filter((to) => to !== from).flatMap((to) => [flow(from, to, 80), flow(from, to, 8080), flow(from, to)]),
  );
  const outside = ['app2', 'app3'].flatMap((from) => [
    ...[WORLD.ipv4, WORLD.ipv6, OUTSIDE.ipv4].map((to) => flow(from, to, 80)),
    flow(from, WORLD.ipv4),
    flow(from, HOST),
  ]);
  const inbound = [HOST, OUTSIDE.ipv4].flatMap((from) => [
    flow(from, 'app1', 80),
    flow(from, 'app2', 80),
    flow(from, 'app1'),
  ]);
  return [...inside, ...outside, ...inbound];
}

/** The same containers for every test. */
async function startApps(): Promise<void> {
  if (addresses.size > 0) return;
  addresses.set(HOST, node.lab.addresses.ipv4);
  const { ipv4 } = node.lab.addresses;
  await lab.outside.exec(['ip', 'route', 'replace', containerRanges(1).ipv4, 'via', ipv4]);
  await node.network('net', '--ipam-driver', 'cilium');
  for (const app of APPS) {
    await node.container(app, 'net');
    addresses.set(app, (await node.inside(app)).ipv4[0]!.replace(/\/.*/, ''));
  }
}

beforeEach(startApps);
afterEach(async () => {
  await node.lab.run(['cilium', 'policy', 'delete', '--all']);
});

/** Whether it does reach the other end. */
async function reaches({ from, to, port }: Flow): Promise<boolean> {
  const address = addresses.get(to) ?? to;
  const host = address.includes(':') ? `[${address}]` : address;
  const probe =
    port === undefined
      ? ['ping', '-c', '1', '-W', '1', address]
      : ['timeout', '1', 'wget', '-q', '-O', '-', `http://${host}:${port}/`];
  if (APPS.includes(from)) return (await node.lab.run(['docker', 'exec', from, ...probe])).status === 0;
  const machine = from === HOST ? node.lab : lab.outside;
  return (await machine.run(['busybox', ...probe])).status === 0;
}

async function reachedOf(flows: readonly Flow[]): Promise<Map<string, boolean>> {
  const reached = new Map<string, boolean>();
  for (const from of new Set(flows.map((one) => one.from))) {
    const own = flows.filter((one) => one.from === from);
    for (const one of await Promise.all(own.map(async (each) => [text(each), await reaches(each)] as const)))
      reached.set(...one);
  }
  return reached;
}

function packet({ to, port }: Flow): string[] {
  if (port !== undefined) return ['--dport', String(port)];
  return to.includes(':') ? ['--icmpv6', 'EchoRequest'] : ['--icmp', 'EchoRequest'];
}

async function explain(one: Flow, ...more: string[]): Promise<string> {
  return node.lab.cilium(['policy', 'explain', one.from, one.to, ...packet(one), ...more]);
}

async function explained(one: Flow): Promise<FlowExplanationModel> {
  return JSON.parse(await explain(one, '-o', 'json')) as FlowExplanationModel;
}

async function policy(
  command: 'import' | 'simulate',
  rules: readonly object[] | string,
  ...args: string[]
): Promise<string> {
  const input = typeof rules === 'string' ? rules : JSON.stringify(rules);
  return node.lab.exec(['cilium', 'policy', command, '-', ...args], { input });
}

const app = (id: string): object => ({ matchLabels: { id } });
const tcp = (port: number): object[] => [{ ports: [{ port: String(port), protocol: 'TCP' }] }];
const ping = [{ fields: [{ family: 'IPv4', type: 'EchoRequest' }] }];

/** An allow, an allowed ping, a deny, and the world by address. */
const RULES = [
  {
    endpointSelector: app('app1'),
    ingress: [
      { fromEndpoints: [app('app2')], toPorts: tcp(80) },
      { fromEndpoints: [app('app2')], icmps: ping },
      { fromEndpoints: [app('app3')], toPorts: tcp(8080) },
    ],
    ingressDeny: [{ fromEndpoints: [app('app3')], toPorts: tcp(80) }],
    labels: ['why:about=app1'],
  },
  {
    endpointSelector: app('app3'),
    egress: [{ toCIDR: [`${WORLD.ipv4}/32`], toPorts: tcp(80) }, { toEndpoints: [app('app1')] }],
    labels: ['why:about=app3'],
  },
];

test('privileged: explain and trace say of every flow what happens to its packets', async () => {
  await policy('import', RULES);
  const flows = allFlows();
  const reached = await reachedOf(flows);
  assert.deepEqual(new Set(reached.values()), new Set([true, false]));
  for (const one of flows) {
    const explanation = await explained(one);
    assert.equal(explanation.verdict, reached.get(text(one)) === true ? 'allowed' : 'denied', text(one));
    for (const { kernel, verdict } of [explanation.egress, explanation.ingress]) {
      if (kernel === undefined) continue;
      assert.deepEqual(
        [kernel.agrees, kernel.verdict, kernel.revision.realized],
        [true, verdict, kernel.revision.desired],
      );
    }
    if (!APPS.includes(one.from) || !APPS.includes(one.to) || one.port === undefined) continue;
    const traced = await node.lab.cilium([
      'policy',
      'trace',
      '-s',
      `id=${one.from}`,
      '-d',
      `container:id=${one.to}`,
      '--dport',
      `${one.port}/tcp`,
    ]);
    assert.match(traced, new RegExp(`^Final verdict: ${explanation.verdict.toUpperCase()}$`, 'm'), text(one));
  }
});

test('privileged: explain names what decides: the rule, its place, the entry of the kernel', async () => {
  await policy('import', JSON.stringify(RULES, undefined, 2));
  const allowed = await explain(flow('app2', 'app1', 80));
  assert.match(allowed, /^app2 -> app1 80\/TCP: ALLOWED\n/);
  assert.match(
    allowed,
    /^ {2}Allowed by rule 1 at stdin:2 \[why:about=app1\]\n {4}ingress\[0\]\.toPorts\[0\]: endpoints .*, 80\/TCP\n {4}any:id=app2 selects \d+\n {2}Kernel, endpoint \d+, policy revision \d+: entry allow ingress, identity \d+, 80\/TCP$/m,
  );
  const denied = await explain(flow('app3', 'app1', 80));
  assert.match(denied, /^ {2}Denied by rule 1 at stdin:2 \[why:about=app1\]\n {4}ingressDeny\[0\]\.toPorts\[0\]: /m);
  assert.match(denied, /: entry deny ingress, identity \d+, 80\/TCP$/m);
  assert.match(denied, /^In the way: rule 1 /m);
  const outside = await explain(flow('app3', OUTSIDE.ipv4, 80));
  assert.match(outside, /^ {2}No rule allows it\. What no rule allows is denied because of\n {4}rule 2 /m);
  assert.match(outside, /: no entry matches, the packet is dropped$/m);
});

test('privileged: importing what explain suggests lets the flow through, and nothing else', async () => {
  await policy('import', RULES);
  const flows = allFlows();
  const beforehand = await reachedOf(flows);
  for (const one of [
    flow('app2', 'app1', 8080),
    flow('app3', OUTSIDE.ipv4, 80),
    flow('app3', WORLD.ipv6, 80),
    flow('app3', HOST),
    flow(HOST, 'app1', 80),
    flow(OUTSIDE.ipv4, 'app1'),
  ]) {
    const expected = new Map(beforehand).set(text(one), true);
    await policy('import', await explain(one, '--suggest'));
    assert.deepEqual(await reachedOf(flows), expected, text(one));
    await node.lab.cilium(['policy', 'delete', await suggestedLabel(one)]);
  }
});

/** Of the rules that were imported last. */
async function suggestedLabel(one: Flow): Promise<string> {
  const rules = JSON.parse((await node.lab.cilium(['policy', 'get'])).replace(/\nRevision:.*$/, '')) as {
    labels: { source: string; key: string; value: string }[];
  }[];
  const label = rules.flatMap(({ labels }) => labels).find(({ source }) => source === 'explain');
  assert.ok(label, text(one));
  return `${label.source}:${label.key}=${label.value}`;
}

/** Flows seen that a simulation says will meet another verdict, by whether they pass then. */
function predicted(changed: readonly FlowDifferenceModel[]): Map<string, boolean> {
  const end = ({ containers, address, labels }: FlowDifferenceModel['from']): string =>
    address ?? containers[0] ?? (labels.includes('reserved:host') ? HOST : labels.join(' '));
  return new Map(
    changed.map(({ from, to, packet: what, after }) => [
      `${end(from)} -> ${end(to)} ${/^(\d+)\/TCP$/.exec(what)?.[1] ?? 'ping'}`,
      after === 'allowed',
    ]),
  );
}

/** What becomes of the flows by a change is what its simulation said of the flows seen. */
async function checkSimulation(
  simulate: () => Promise<string>,
  change: () => Promise<unknown>,
): Promise<Map<string, boolean>> {
  const flows = allFlows();
  const beforehand = await reachedOf(flows);
  const simulation = await eventually(async () => {
    const model = JSON.parse(await simulate()) as SimulationModel;
    assert.ok(model.flows.seen >= flows.length, `${model.flows.seen} flows are seen of ${flows.length}`);
    return model;
  });
  assert.equal(simulation.flows.missed, 0);
  const changed = predicted(simulation.flows.changed);
  await change();
  const expected = new Map(Array.from(beforehand, ([name, reached]) => [name, changed.get(name) ?? reached]));
  assert.deepEqual(await reachedOf(flows), expected);
  for (const [name, passes] of changed) assert.notEqual(beforehand.get(name), passes, name);
  return changed;
}

test('privileged: an import does to flows seen what its simulation said, and so does a deletion', async () => {
  const restricted = await checkSimulation(
    () => policy('simulate', RULES, '-o', 'json'),
    () => policy('import', RULES),
  );
  assert.equal(restricted.get('app3 -> app1 80'), false);
  assert.equal(restricted.get(`app3 -> ${OUTSIDE.ipv4} 80`), false);
  assert.equal(restricted.has('app2 -> app1 80'), false);
  const widened = await checkSimulation(
    () => node.lab.cilium(['policy', 'simulate', '--delete', 'why:about=app3', '-o', 'json']),
    () => node.lab.cilium(['policy', 'delete', 'why:about=app3']),
  );
  assert.equal(widened.get(`app3 -> ${OUTSIDE.ipv4} 80`), true);
  assert.equal(widened.has('app3 -> app1 80'), false);
  const replaced = await checkSimulation(
    () => policy('simulate', [{ ...RULES[0], ingressDeny: [] }], '--replace', '-o', 'json'),
    () => policy('import', [{ ...RULES[0], ingressDeny: [] }], '--replace'),
  );
  assert.deepEqual([...replaced], []);
});

test('privileged: policy selectors shows the identities that the containers have', async () => {
  await policy('import', RULES);
  const identity = await node.lab.cilium([
    'endpoint',
    'get',
    'container-name:app2',
    '-o',
    'jsonpath={[0].status.identity.id}',
  ]);
  const shown = await node.lab.cilium(['policy', 'selectors', '-v']);
  assert.match(shown, new RegExp(`^any:id=app2 +why:about=app1 +1 +${identity} *$`, 'm'));
  assert.match(await node.lab.cilium(['policy', 'subject-selectors']), /^any:id=app3 +1 +\d+ *$/m);
});
