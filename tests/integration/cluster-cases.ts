// SPDX-License-Identifier: Apache-2.0

/**
 * What holds between containers of three nodes, however packets get from one to the other. Each case has rules of its own;
 * the containers are there for all: `server`, `client`, `stranger` and `plain`, which has no label, on each node.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OUTSIDE, WORLD } from '../../lab/addresses.ts';
import type { LabNode } from '../../lab/node.ts';
import { Traffic, type Place } from '../traffic/traffic.ts';
import { type ClusterWorld, endpointOf, FAMILIES, type Family, Member } from './cluster-world.ts';
import { eventually } from './support.ts';

export const NODES = [1, 2, 3] as const;
export const KINDS = ['server', 'client', 'stranger'] as const;
const WEB_PORT = 80;
/** The image answers there, too. */
const OTHER_PORT = 8080;
/** Nobody listens there: who gets through hears so. */
const SILENT_UDP_PORT = 9;
const PROBES = { rate: 100, duration: 0.3 };
/** After a fault: the kernel takes up to 10 s to ask anew for a neighbour that has another MAC address now. */
const OPEN_LIMIT_MS = 30_000;

type Rule = Readonly<Record<string, unknown>>;

export function labelled(id: string): { matchLabels: Record<string, string> } {
  return { matchLabels: { id } };
}

/** How many SYNs and datagrams of a few came through; a run that a busy machine gave no time does not count. */
async function countThrough(place: Place, addr: string, port = WEB_PORT): Promise<number> {
  const options = { addr, port, udpPort: SILENT_UDP_PORT, ...PROBES };
  for (;;) {
    const { syns, datagrams, unreachable, errors, through } = await Traffic.run(place, 'probe', options);
    if (syns > 0 && datagrams + unreachable + errors > 0) return through;
  }
}

/** One place asked for at another one. */
interface Question {
  readonly from: Place;
  readonly to: string;
  readonly port?: number;
  readonly about: string;
}

export async function assertOpen(questions: readonly Question[]): Promise<void> {
  await Promise.all(
    questions.map(({ from, to, port, about }) =>
      eventually(
        async () => assert.ok((await countThrough(from, to, port)) > 0, `${about} is to be reached`),
        OPEN_LIMIT_MS,
      ),
    ),
  );
}

export async function assertClosed(questions: readonly Question[]): Promise<void> {
  await Promise.all(
    questions.map(async ({ from, to, port, about }) => {
      assert.equal(await countThrough(from, to, port), 0, `${about} is not to be reached`);
    }),
  );
}

/** The question that each asks each other, in both families. */
export function between(from: readonly Member[], to: readonly Member[], port?: number): Question[] {
  return from.flatMap((source) =>
    to
      .filter((target) => target !== source)
      .flatMap((target) => FAMILIES.map((family) => question(source.name, source.place, target, family, port))),
  );
}

/** The same from the nodes themselves. */
function fromHosts(nodes: readonly LabNode[], to: readonly Member[]): Question[] {
  return nodes.flatMap((node) =>
    to.flatMap((target) =>
      FAMILIES.map((family) => question(node.name, { pid: node.machine.holder! }, target, family)),
    ),
  );
}

function question(name: string, from: Place, target: Member, family: Family, port?: number): Question {
  return {
    from,
    to: target[family],
    ...(port !== undefined && { port }),
    about: `${target.name} ${family} for ${name}`,
  };
}

/** What a web server, at whose address the caller asks, says of the caller's address. */
async function seenAs(from: Member, address: string): Promise<string> {
  const url = `http://${address.includes(':') ? `[${address}]` : address}/cgi-bin/client`;
  return eventually(async () => (await from.run('timeout', '3', 'busybox', 'wget', '-q', '-O', '-', url)).trim());
}

/** Large records there and back, each byte looked at. */
async function assertStream(from: Member, addr: string): Promise<void> {
  const options = { addr, rate: 50, size: 60_000, duration: 0.5 };
  const { records, bytesSent, bytesBack, bytesWrong } = await Traffic.run(from.place, 'tcp-stream', options);
  assert.ok(records > 0);
  assert.deepEqual([bytesBack, bytesWrong], [bytesSent, 0], addr);
}

/** Datagrams of so many bytes, each of which arrives. */
async function assertDatagrams(from: Member, to: Member, family: Family, size: number, port: number): Promise<void> {
  const receiver = await Traffic.start(to.place, 'udp-recv', { port });
  const options = { addr: to[family], port, size, rate: 200, duration: 0.3 };
  const { sent } = await Traffic.run(from.place, 'udp-send', options);
  const { received, duplicates } = await receiver.stop();
  assert.ok(sent > 0);
  assert.deepEqual([received, duplicates], [sent, 0], `${size} bytes ${family} of ${from.name}`);
}

export async function startMembers(world: ClusterWorld): Promise<void> {
  await world.createNetwork();
  await Promise.all(
    NODES.map(async (number) => {
      for (const kind of KINDS) await world.run(number, `${kind}${number}`, kind);
      await world.run(number, `plain${number}`);
    }),
  );
}

export function testCluster(world: ClusterWorld, mode: { readonly tunnel: boolean }): void {
  const all = (kind: string, nodes: readonly number[] = NODES): Member[] =>
    nodes.map((number) => world.get(`${kind}${number}`));
  const everybody = (): Member[] => [...KINDS, 'plain'].flatMap((kind) => all(kind));
  const node = (number: number): LabNode => world.lab.node(number);
  /** What fits into the way between two nodes. */
  const mtu = mode.tunnel ? 1450 : 1500;

  function clusterCase(title: string, rules: readonly Rule[], work: () => Promise<void>): void {
    test(`privileged: ${title}`, async () => {
      await world.importPolicy(rules);
      await work();
    });
  }

  test('privileged: three nodes, one network', () => startMembers(world));

  clusterCase('without rules everybody reaches everybody, under its own address', [], async () => {
    await assertOpen([...between(everybody(), all('server')), ...fromHosts(world.lab.nodes, all('server'))]);
    for (const family of FAMILIES) {
      for (const [from, to] of [
        ['client1', 'server2'],
        ['client2', 'server3'],
        ['client3', 'server3'],
      ] as const) {
        const client = world.get(from);
        assert.equal(await seenAs(client, world.get(to)[family]), client[family], `${from} at ${to}`);
      }
    }
  });

  clusterCase('the world sees the node, in both families', [], async () => {
    for (const number of NODES) {
      for (const family of FAMILIES) {
        const own = node(number).addresses[family];
        assert.equal(await seenAs(world.get(`client${number}`), WORLD[family]), own);
        assert.equal(await seenAs(world.get(`client${number}`), OUTSIDE[family]), own);
      }
    }
  });

  clusterCase(
    'containers with the same labels have one identity on all nodes, those without any as well',
    [],
    async () => {
      const identities = new Set<number>();
      for (const kind of [...KINDS, 'plain']) {
        const [first, ...others] = await Promise.all(all(kind).map((member) => member.identity()));
        for (const other of others) assert.equal(other, first, kind);
        identities.add(first!);
      }
      assert.equal(identities.size, KINDS.length + 1);
    },
  );

  clusterCase('large packets arrive, whole or in fragments; what does not fit is told of', [], async () => {
    const [client, server] = [world.get('client1'), world.get('server2')];
    assert.match(await client.run('ip', '-o', 'link', 'show', 'eth0'), new RegExp(`mtu ${mtu} `));
    // Of a container that believes more would fit.
    const roomy = await world.runElsewhere(1, 'roomy', ['-o', 'com.docker.network.driver.mtu=9000']);
    const listening = await Traffic.start(server.place, 'server');
    try {
      await Promise.all(FAMILIES.map((family) => assertStream(client, server[family])));
    } finally {
      await listening.stop();
    }
    await Promise.all(
      FAMILIES.map((family) =>
        eventually(async () => {
          const addr = server[family];
          await Traffic.run(roomy.place, 'udp-send', { addr, size: 4000, rate: 50, duration: 0.1 });
          assert.match(await roomy.run('ip', 'route', 'get', addr), new RegExp(`mtu ${mtu} `), 'roomy is told');
        }),
      ),
    );
    let port = 7002;
    const runs = FAMILIES.flatMap((family) =>
      [client, roomy].flatMap((from) =>
        [1200, 8000].map((size) => assertDatagrams(from, server, family, size, port++)),
      ),
    );
    await Promise.all(runs);
  });

  const web = [{ ports: [{ port: String(WEB_PORT), protocol: 'TCP' }] }];
  clusterCase(
    'rules for labels and ports hold across nodes, at both ends',
    [
      { endpointSelector: labelled('server'), ingress: [{ fromEndpoints: [labelled('client')], toPorts: web }] },
      { endpointSelector: labelled('client'), egress: [{ toEndpoints: [labelled('server')] }] },
    ],
    async () => {
      await assertOpen(between(all('client'), all('server')));
      await assertOpen(between(all('server'), [...all('stranger'), ...all('plain')]));
      await Promise.all([
        assertClosed(between(all('client'), all('server'), OTHER_PORT)),
        assertClosed(between([...all('stranger'), ...all('plain'), ...all('server')], all('server'))),
        assertClosed(between(all('client'), [...all('stranger'), ...all('plain')])),
        assertClosed(fromHosts(world.lab.nodes, all('server'))),
      ]);
    },
  );

  clusterCase(
    'labels that change are followed on all nodes',
    [{ endpointSelector: labelled('server'), ingress: [{ fromEndpoints: [labelled('client')] }] }],
    async () => {
      const stranger = world.get('stranger2');
      const { id } = await endpointOf(stranger.node, stranger.ipv4);
      const relabel = (old: string, now: string): Promise<string> =>
        stranger.node.cilium([
          'endpoint',
          'labels',
          String(id),
          '-d',
          `container:id=${old}`,
          '-a',
          `container:id=${now}`,
        ]);
      await assertClosed(between([stranger], all('server')));
      await relabel('stranger', 'client');
      await assertOpen(between([stranger], all('server')));
      assert.equal(await stranger.identity(), await world.get('client1').identity());
      await relabel('client', 'stranger');
      await eventually(() => assertClosed(between([stranger], all('server'))));
      assert.equal(await stranger.identity(), await world.get('stranger1').identity());
    },
  );

  clusterCase(
    'containers without labels can be named, and a denial wins',
    [
      {
        endpointSelector: labelled('server'),
        ingress: [{ fromEntities: ['cluster'] }],
        ingressDeny: [{ fromEndpoints: [{ matchLabels: { 'docker:unlabelled': '' } }] }],
      },
      {
        endpointSelector: labelled('stranger'),
        ingress: [{ fromEndpoints: [{ matchLabels: { 'docker:unlabelled': '' } }] }],
      },
      {
        endpointSelector: labelled('client'),
        egress: [{ toEntities: ['all'] }],
        egressDeny: [{ toEndpoints: [labelled('stranger')] }],
      },
    ],
    async () => {
      await assertOpen(between(all('plain'), all('stranger')));
      await assertOpen(between([...all('client'), ...all('stranger')], all('server')));
      await assertOpen(fromHosts(world.lab.nodes, all('server')));
      await assertClosed(between(all('plain'), all('server')));
      await assertClosed(between([...all('client'), ...all('server')], all('stranger')));
    },
  );

  clusterCase(
    'whoever is selected by a rule that allows nothing is closed to all nodes',
    [
      { endpointSelector: labelled('server'), ingress: [{}] },
      { endpointSelector: labelled('client'), egress: [{}] },
    ],
    async () => {
      await assertClosed(between(everybody(), all('server')));
      await assertClosed(between(all('client'), all('plain')));
      await assertClosed(fromHosts(world.lab.nodes, all('server')));
      await assertOpen(between(all('stranger'), all('plain')));
    },
  );

  clusterCase(
    'the node itself and other nodes are told apart',
    [
      { endpointSelector: labelled('server'), ingress: [{ fromEntities: ['remote-node'] }] },
      { endpointSelector: labelled('stranger'), ingress: [{ fromEntities: ['host'] }] },
      { endpointSelector: labelled('client'), egress: [{ toEntities: ['remote-node'] }] },
      { endpointSelector: { matchLabels: { 'docker:unlabelled': '' } }, egress: [{ toEntities: ['host'] }] },
    ],
    async () => {
      const others = (number: number): LabNode[] => world.lab.nodes.filter((one) => one.number !== number);
      const toNodes = (kind: string, number: number, nodes: readonly LabNode[]): Question[] =>
        nodes.flatMap((target) =>
          FAMILIES.map((family) => ({
            from: world.get(`${kind}${number}`).place,
            to: target.addresses[family],
            about: `${target.name} ${family} for ${kind}${number}`,
          })),
        );
      await assertOpen([
        ...NODES.flatMap((number) => fromHosts(others(number), all('server', [number]))),
        ...NODES.flatMap((number) => fromHosts([node(number)], all('stranger', [number]))),
        ...NODES.flatMap((number) => toNodes('client', number, others(number))),
        ...NODES.flatMap((number) => toNodes('plain', number, [node(number)])),
      ]);
      await assertClosed([
        ...NODES.flatMap((number) => fromHosts([node(number)], all('server', [number]))),
        ...NODES.flatMap((number) => fromHosts(others(number), all('stranger', [number]))),
        ...NODES.flatMap((number) => toNodes('client', number, [node(number)])),
        ...NODES.flatMap((number) => toNodes('plain', number, others(number))),
        ...between(all('client'), [...all('server'), ...all('stranger')]),
      ]);
    },
  );
}
