// SPDX-License-Identifier: Apache-2.0

/** Containers come and go in hundreds, also while the agent is killed: in the end nothing of them is left anywhere. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WORLD } from '../../lab/addresses.ts';
import type { LabNode } from '../../lab/node.ts';
import { differences, snapshotOf, type Snapshot } from './node-snapshot.ts';
import { eventually, labForTests } from './support.ts';

const CONTAINERS = 200;
const WAVE = 25;
const AT_ONCE = 5;
const NETWORK = 'churn-net';
/** What is collected, and only then, needs two looks of the agent. */
const SETTLE_MS = 60_000;
/** Anything of ours that netfilter could have been told. */
const OURS = /cilium|\bcil_|\blxc|10\.16\.|fd15:/i;
const COMMANDS = [['iptables-save'], ['ip6tables-save'], ['nft', 'list', 'ruleset']];

const POLICY = [
  {
    endpointSelector: { matchLabels: { id: 'churn-0' } },
    ingress: [
      { fromEndpoints: [{ matchLabels: { id: 'churn-1' } }], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
    ],
    egress: [{ toCIDR: [`${WORLD.ipv4}/32`, `${WORLD.ipv6}/128`] }],
  },
];

const lab = labForTests({ nodes: 1, agentArgs: ['--collect-interval', '2'] });

/** Starts some containers, a few at once; each opens a connection to the world. Gives how many started. */
async function startWave(node: LabNode, size: number): Promise<number> {
  const numbers = Array.from({ length: size }, (_unused, index) => index);
  let started = 0;
  // By timeout and not by wget's own -T, with which Debian's busybox 1.35 crashes.
  const visits = [WORLD.ipv4, `[${WORLD.ipv6}]`].map((host) => `timeout 2 wget -q -O /dev/null http://${host}/`);
  const script = [...visits, 'exec sleep 2147483647'].join('; ');
  const worker = async () => {
    for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) {
      const options = ['--network', NETWORK, '-l', `id=churn-${number % 5}`, '-l', 'churn=yes'];
      const argv = ['docker', 'run', '-d', ...options, 'busybox', 'sh', '-c', script];
      if ((await node.run(argv)).status === 0) started++;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return started;
}

async function removeAll(node: LabNode): Promise<void> {
  const ids = (await node.docker(['ps', '-aq', '--filter', 'label=churn'])).split('\n').filter(Boolean);
  if (ids.length > 0) await node.docker(['rm', '-f', ...ids], { timeoutMs: 120_000 });
}

/** What is to be left by nobody was there. */
async function assertConnections(node: LabNode): Promise<void> {
  await eventually(async () => {
    const { cilium_ct4_tcp: ipv4 = [], cilium_snat6: ipv6 = [] } = await snapshotOf(node);
    assert.ok(ipv4.length > 0 && ipv6.length > 0, `${ipv4.length} connections, ${ipv6.length} translations`);
  }, SETTLE_MS);
}

async function assertNoRuleOfOurs(node: LabNode): Promise<void> {
  for (const command of COMMANDS) {
    const ours = (await node.exec(command)).split('\n').filter((line) => OURS.test(line));
    assert.deepEqual(ours, [], command.join(' '));
  }
}

async function assertNothingLeft(node: LabNode, first: Snapshot): Promise<void> {
  await eventually(async () => assert.deepEqual(differences(first, await snapshotOf(node)), []), SETTLE_MS);
}

let baseline: Snapshot | undefined;

/** What is there after the first containers: what they make for good, such as identities, is not left by later ones. */
async function baselineOf(node: LabNode): Promise<Snapshot> {
  if (baseline !== undefined) return baseline;
  await node.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', NETWORK]);
  const file = join(node.machine.dir, 'churn-policy.json');
  writeFileSync(file, JSON.stringify(POLICY));
  await node.cilium(['policy', 'import', file]);
  await startWave(node, WAVE);
  await assertConnections(node);
  await removeAll(node);
  // Compared with itself until it stands still.
  baseline = await eventually(async () => {
    const earlier = await snapshotOf(node);
    await delay(5_000);
    const later = await snapshotOf(node);
    assert.deepEqual(differences(earlier, later), []);
    return later;
  }, SETTLE_MS);
  return baseline;
}

test(`privileged: ${CONTAINERS} containers that came and went leave nothing`, async (t) => {
  const node = lab.node(1);
  const first = await baselineOf(node);
  for (let wave = 0; wave < CONTAINERS / WAVE; wave++) {
    assert.equal(await startWave(node, WAVE), WAVE);
    await assertNoRuleOfOurs(node);
    await removeAll(node);
  }
  await assertNoRuleOfOurs(node);
  await assertNothingLeft(node, first);
  t.diagnostic(
    `compared: ${Object.entries(first)
      .map(([topic, lines]) => `${topic} ${lines.length}`)
      .join(', ')}`,
  );
});

test(`privileged: ${CONTAINERS} containers leave nothing although the agent is killed in every wave`, async (t) => {
  const node = lab.node(1);
  const first = await baselineOf(node);
  let started = 0;
  for (let wave = 0; wave < CONTAINERS / WAVE; wave++) {
    // Even waves meet the kill while containers start, odd ones while they go.
    const starting = startWave(node, WAVE);
    if (wave % 2 === 0) await killInTheMiddle(node);
    started += await starting;
    const removing = removeAll(node);
    if (wave % 2 === 1) await killInTheMiddle(node);
    await removing;
    await assertNoRuleOfOurs(node);
  }
  await assertNothingLeft(node, first);
  t.diagnostic(`${started} of ${CONTAINERS} containers started`);
  assert.ok(started > CONTAINERS / 2, 'most containers outlast an agent that is away for a moment');
});

async function killInTheMiddle(node: LabNode): Promise<void> {
  await delay(400);
  await node.killAgent();
  await delay(200);
  await node.startAgent();
}
