// SPDX-License-Identifier: Apache-2.0

/**
 * The agent is killed again and again while packets flow: none may be lost, none that the policy forbids may get
 * through, neither while it is away nor while it comes back.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LabNode } from '../../lab/node.ts';
import { addressesOf, pidOf } from '../support/containers.ts';
import { Load } from '../support/load.ts';
import { eventually, labForTests } from './support.ts';

const KILLS = 20;
const NETWORK = 'kill-net';
const TCP_PORT = 7000;
const UDP_PORTS = { ipv4: 7002, ipv6: 7003 };
/** The client may use these too, so only its identity keeps the intruder out. */
const INTRUDER_TCP_PORT = 7005;
const INTRUDER_UDP_PORT = 7006;
const DATAGRAMS_PER_S = 20_500;
const CONNECTIONS_PER_S = 220;
const PROBES_PER_S = 240;
/** A lost SYN takes a second to be sent again; anything below is the machine being busy. */
const STALL_MS = 900;

const lab = labForTests({ nodes: 1 });

/** The server admits the client, and nobody else; `extraPort` makes the rules differ from one import to the next. */
function policy(extraPort?: number): object[] {
  const tcp = [TCP_PORT, INTRUDER_TCP_PORT, ...(extraPort === undefined ? [] : [extraPort])];
  const udp = [UDP_PORTS.ipv4, UDP_PORTS.ipv6, INTRUDER_UDP_PORT];
  const toPorts = [
    {
      ports: [
        ...tcp.map((port) => ({ port: String(port), protocol: 'TCP' })),
        ...udp.map((port) => ({ port: String(port), protocol: 'UDP' })),
      ],
    },
  ];
  const [client, server] = ['kill-client', 'kill-server'].map((id) => ({ matchLabels: { id } }));
  return [
    { endpointSelector: server, ingress: [{ fromEndpoints: [client], toPorts }], labels: ['kill-test'] },
    { endpointSelector: client, egress: [{ toEndpoints: [server], toPorts }], labels: ['kill-test'] },
  ];
}

async function importPolicy(node: LabNode, rules: object[]): Promise<void> {
  const file = join(node.machine.dir, 'kill-policy.json');
  writeFileSync(file, JSON.stringify(rules));
  await node.cilium(['policy', 'import', file]);
}

function runContainer(node: LabNode, id: string): Promise<string> {
  return node.docker(['run', '-d', '--network', NETWORK, '-l', `id=${id}`, 'busybox', 'sleep', '2147483647']);
}

test('privileged: 20 kills of the agent lose no packet and let nothing forbidden through', async (t) => {
  const node = lab.node(1);
  await node.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', NETWORK]);
  const [serverId, clientId, intruderId] = [
    await runContainer(node, 'kill-server'),
    await runContainer(node, 'kill-client'),
    await runContainer(node, 'kill-intruder'),
  ];
  await importPolicy(node, policy());
  const server = { pid: await pidOf(node, serverId) };
  const client = { pid: await pidOf(node, clientId) };
  const intruder = { pid: await pidOf(node, intruderId) };
  const addresses = await addressesOf(node, serverId);
  const load = new Load();

  await load.start(t, server, 'server', 'open', { port: TCP_PORT });
  await load.start(t, server, 'server', 'forbidden', { port: INTRUDER_TCP_PORT });
  await load.start(t, server, 'udp-recv', 'forbidden', { port: INTRUDER_UDP_PORT });
  for (const family of ['ipv4', 'ipv6'] as const) {
    const addr = addresses[family];
    assert.ok(addr, `the server has an ${family} address`);
    const port = UDP_PORTS[family];
    await load.start(t, server, 'udp-recv', family, { port });
    await load.start(t, client, 'udp-send', family, { addr, port, rate: DATAGRAMS_PER_S });
    const tcp = { addr, port: TCP_PORT, stallMs: STALL_MS };
    await load.start(t, client, 'tcp-stream', family, { ...tcp, rate: 500, size: 200 });
    await load.start(t, client, 'crr', family, { ...tcp, rate: CONNECTIONS_PER_S });
    const forbidden = { addr, port: INTRUDER_TCP_PORT, udpPort: INTRUDER_UDP_PORT, rate: PROBES_PER_S };
    await load.start(t, intruder, 'probe', family, forbidden);
  }

  for (let kill = 0; kill < KILLS; kill++) await killOnce(node, kill);
  await delay(500);
  await load.stop();

  for (const [name, result] of load.results) t.diagnostic(`${name}: ${JSON.stringify(result)}`);
  assert.equal(load.result('server forbidden').accepted, 0);
  assert.equal(load.result('udp-recv forbidden').received, 0);
  const open = load.result('server open');
  assert.equal(open.broken, 0);
  assert.equal(open.retransmits, open.needlessRetransmits, 'segments of the server lost');
  for (const family of ['ipv4', 'ipv6'] as const) {
    const sent = load.result(`udp-send ${family}`);
    const received = load.result(`udp-recv ${family}`);
    assert.ok(sent.rate >= 20_000, `${family}: ${sent.rate} datagrams per second`);
    assert.deepEqual(
      { errors: sent.errors, lost: sent.sent - received.received, duplicates: received.duplicates },
      { errors: 0, lost: 0, duplicates: 0 },
      `${family} datagrams`,
    );
    const stream = load.result(`tcp-stream ${family}`);
    const { bytesWrong, stalls, broken } = stream;
    assert.deepEqual({ bytesWrong, stalls, broken }, { bytesWrong: 0, stalls: 0, broken: false }, `${family} stream`);
    assert.equal(stream.bytesBack, stream.bytesSent, `${family} stream`);
    assert.equal(stream.retransmits, stream.needlessRetransmits, `${family} stream: segments lost`);
    const { failed, slow, rate } = load.result(`crr ${family}`);
    assert.ok(rate >= 200, `${family}: ${rate} connections per second`);
    assert.deepEqual({ failed, slow }, { failed: 0, slow: 0 }, `${family} connections`);
    const probe = load.result(`probe ${family}`);
    assert.ok(probe.rate >= 200, `${family}: ${probe.rate} probes per second`);
    assert.deepEqual([probe.through, probe.unreachable, probe.errors], [0, 0, 0], `${family} probes`);
  }
});

/** Other constants for the programs: an agent started with it, and the next one without, have to replace them. */
const OTHER_PROGRAMS = ['--monitor-aggregation', 'maximum'];

/** Every second kill hits the agent at work: an import, or the start of a container; a little later each time. */
async function killOnce(node: LabNode, kill: number): Promise<void> {
  let work: Promise<unknown> | undefined;
  if (kill % 4 === 1) work = importPolicy(node, policy(8000 + kill));
  if (kill % 4 === 3) work = runContainer(node, `kill-late-${kill}`);
  const outcome = work?.then(
    (value) => value,
    () => undefined, // it is for others to test how it fails
  );
  if (work !== undefined) await delay(kill % 4 === 3 ? 60 + 10 * kill : 5 * kill);
  await node.killAgent();
  await delay(100);
  await node.startAgent(kill % 4 === 0 ? OTHER_PROGRAMS : []);
  const container = await outcome;
  if (kill % 4 === 3 && typeof container === 'string') await node.docker(['rm', '-f', container]);
  await eventually(async () => {
    assert.match(await node.cilium(['status', '--brief']), /OK/i);
  });
}
