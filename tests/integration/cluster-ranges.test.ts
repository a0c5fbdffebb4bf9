// SPDX-License-Identifier: Apache-2.0

/**
 * Ranges of two nodes that take them from the cluster's: who has which, subnets beside them, what is left of them by agents
 * that were killed, and the ways to them when mode, family or address of the nodes change.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { etcdUrls } from '../../lab/addresses.ts';
import { HOME, type LabNode } from '../../lab/node.ts';
import { Prefix } from '../../net/ip.ts';
import { encodeNode, type ClusterNode } from '../../node/node.ts';
import { IpAddress } from '../../net/ip.ts';
import { ClusterWorld, type Member } from './cluster-world.ts';
import { eventually, labForTests } from './support.ts';

const POOL = Prefix.parse('10.32.0.0/12');
const POOL6 = Prefix.parse('fd32::/48');
const NODE_KEYS = 'cilium/state/nodes/v1/default/';
const agentArgs = [
  `--cluster-pool-ipv4-cidr=${POOL.toString()}`,
  `--cluster-pool-ipv6-cidr=${POOL6.toString()}`,
  '--underlay-protocol=ipv4',
];
const lab = labForTests({ nodes: 2, etcd: 1, agentArgs });
const world = new ClusterWorld(lab);
const [one, two] = [1, 2].map((number) => lab.node(number)) as [LabNode, LabNode];

interface NodeElement {
  readonly name: string;
  readonly 'primary-address': Readonly<
    Record<'ipv4' | 'ipv6', { readonly ip?: string; readonly 'alloc-range': string }>
  >;
}

/** "10.32.16.0/20 fd32::/104" by node, as this node sees them. */
async function ranges(node: LabNode): Promise<Map<string, string>> {
  const nodes = JSON.parse(await node.cilium(['node', 'list', '-o', 'json'])) as NodeElement[];
  return new Map(
    nodes.map(({ name, 'primary-address': { ipv4, ipv6 } }) => [name, `${ipv4['alloc-range']} ${ipv6['alloc-range']}`]),
  );
}

async function reaches(from: Member, address: string): Promise<boolean> {
  const argv = ['docker', 'exec', from.name, 'ping', '-c', '1', '-W', '1', address];
  return (await from.node.run(argv)).status === 0;
}

/** A lock that a killed agent left lasts 25 s; the next one starts meanwhile and tells the others afterwards. */
const CLAIM_LIMIT_MS = 60_000;

async function assertReach(): Promise<void> {
  const [a, b] = [world.get('web1'), world.get('web2')];
  await eventually(async () => {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      assert.ok(await reaches(from, to.ipv4), `${from.name} to ${to.ipv4}`);
      assert.ok(await reaches(from, to.ipv6), `${from.name} to ${to.ipv6}`);
    }
  }, CLAIM_LIMIT_MS);
}

async function restart(node: LabNode, ...args: string[]): Promise<void> {
  await node.killAgent();
  await node.startAgent(args);
}

const routes = (node: LabNode): Promise<string> =>
  node.exec(['sh', '-c', 'ip route show proto 133; ip -6 route show proto 133']);

async function refused(node: LabNode, argv: readonly string[]): Promise<string> {
  const { status, stderr } = await node.run(['docker', ...argv]);
  assert.notEqual(status, 0, `docker ${argv.join(' ')} is refused`);
  return stderr;
}

test('each node takes a range of its own, and has it again after kill -9', async () => {
  const before = await eventually(async () => {
    const seen = await ranges(one);
    assert.equal(seen.size, 2);
    return seen;
  });
  assert.deepEqual(new Map([...(await ranges(two))].sort()), new Map([...before].sort()));
  const prefixes = [...before.values()].flatMap((text) => text.split(' ')).map((text) => Prefix.parse(text));
  for (const prefix of prefixes) {
    assert.ok(
      [POOL, POOL6].some((pool) => pool.contains(prefix)),
      prefix.toString(),
    );
    assert.ok(!prefixes.some((other) => other !== prefix && other.overlaps(prefix)), prefix.toString());
  }
  await world.createNetwork();
  await world.run(1, 'web1');
  await world.run(2, 'web2');
  await assertReach();
  await restart(one);
  assert.deepEqual(await ranges(one), before);
  await assertReach();
});

test('an agent that may not start has told the others nothing', async () => {
  const key = (): Promise<string> => lab.member(1).etcdctl('get', `${NODE_KEYS}node2`, '-w', 'json');
  const before = (JSON.parse(await key()) as { kvs: unknown }).kvs;
  const agent = [join(HOME, 'bin/cilium-agent'), '--kvstore=etcd', `--kvstore-opt=etcd.address=${etcdUrls(1).ipv4}`];
  const others = ['--state-dir=/run/s', '--run-dir=/run/r', '--plugin-socket=/run/p.sock', '--ipv4-range=10.77.0.0/16'];
  const second = await two.run([...agent, ...others]);
  assert.match(second.stderr, /another cilium-agent runs on this node/);
  const nowhere = await two.run([...agent, ...others, '--ipv4-node=10.9.9.9']);
  const has = two.addresses.ipv4;
  assert.match(
    nowhere.stderr,
    new RegExp(`--ipv4-node: found 10\\.9\\.9\\.9, .* no device of this node; it has ${has}`),
  );
  assert.deepEqual((JSON.parse(await key()) as { kvs: unknown }).kvs, before);
  await two.exec(['test', '!', '-e', '/run/s']);
});

test('a subnet is of one node, unless nodes share it by parts', async () => {
  const create = (...args: string[]): string[] => ['network', 'create', '-d', 'cilium', ...args];
  await one.docker(create('--subnet', '10.60.0.0/16', 'own'));
  await eventually(async () => {
    assert.match(await refused(two, create('--subnet', '10.60.5.0/24', 'own')), /10\.60\.0\.0\/16 of node node1/);
  });
  const [range = ''] = (await ranges(two)).get('node1')!.split(' ');
  assert.match(await refused(two, create('--subnet', range, 'own')), /of node node1/);
  await Promise.all(
    [one, two].map((node, i) => {
      const part = ['--subnet', '10.70.0.0/16', '--ip-range', `10.70.${i + 1}.0/24`];
      return node.docker(create('--ipam-driver', 'cilium', ...part, 'shared'));
    }),
  );
  assert.match(
    await refused(two, ['run', '--rm', '--network', 'shared', '--ip', '10.70.1.9', 'busybox', 'true']),
    /part/,
  );
  await two.docker(['run', '-d', '--name', 'web3', '--network', 'shared', '--ip', '10.70.2.9', 'web']);
  await eventually(async () => assert.ok(await reaches(world.get('web1'), '10.70.2.9')));
  await two.docker(['rm', '-f', 'web3']);
  await Promise.all([one, two].map((node) => node.docker(['network', 'rm', 'shared'])));
  await one.docker(['network', 'rm', 'own']);
  await eventually(async () => assert.doesNotMatch(await routes(two), /10\.[67]0\./));
});

test('routes that a killed agent left are taken away, those of others are not', async () => {
  await one.killAgent();
  await one.exec(['ip', 'route', 'add', '10.99.0.0/16', 'dev', 'cilium_host', 'proto', '133', 'scope', 'global']);
  await one.exec(['ip', 'route', 'add', '10.98.0.0/16', 'via', two.addresses.ipv4, 'proto', '133']);
  await one.exec(['ip', 'route', 'add', '10.97.0.0/16', 'via', two.addresses.ipv4]);
  await one.startAgent();
  assert.doesNotMatch(await routes(one), /10\.9[89]\./);
  assert.match(await one.exec(['ip', 'route']), /10\.97\.0\.0\/16/);
  await one.exec(['ip', 'route', 'del', '10.97.0.0/16']);
  await assertReach();
});

test('tunnels may run over IPv6', async () => {
  for (const node of [one, two]) await restart(node, '--underlay-protocol=ipv6');
  await assertReach();
  await eventually(async () => {
    const known = await world.ipcacheOf(1);
    assert.match(known.get(`${world.get('web2').ipv4}/32`)!, new RegExp(`tunnelendpoint=${two.addresses.ipv6}`));
  }, CLAIM_LIMIT_MS);
});

test('the mode may be changed: natively nodes are routed to, also at another address', async () => {
  await restart(one, '--routing-mode=native');
  for (const [node, said] of [
    [one, /Cilium: +Warning +node2 uses --routing-mode=tunnel, this node native: nothing passes/],
    [two, /Cilium: +Warning +node1 uses --routing-mode=native, this node tunnel: nothing passes/],
  ] as const) {
    await eventually(async () => assert.match((await node.run(['cilium', 'status'])).stdout, said), CLAIM_LIMIT_MS);
  }
  await restart(two, '--routing-mode=native');
  await assertReach();
  for (const node of [one, two])
    await eventually(async () => assert.match(await node.cilium(['status']), /Cilium: +Ok/), CLAIM_LIMIT_MS);
  assert.match(await routes(one), new RegExp(`via ${two.addresses.ipv4} dev eth0`));
  assert.notEqual((await one.run(['ip', 'link', 'show', 'cilium_vxlan'])).status, 0);
  const moves = [
    ['address', 'add', '192.168.251.77/24', 'dev', 'eth0'],
    ['address', 'del', `${two.addresses.ipv4}/24`, 'dev', 'eth0'],
  ];
  for (const move of moves) await two.exec(['ip', ...move]);
  await two.run(['ip', 'address', 'add', '192.168.251.77/24', 'dev', 'eth0']); // which goes with the first one as its secondary
  await eventually(async () => assert.match(await routes(one), /via 192\.168\.251\.77/), CLAIM_LIMIT_MS);
  await assertReach();
});

test('a node that comes back after its range was given away is closed to the others, and gets another', async () => {
  const [a, b] = [world.get('web1'), world.get('web2')];
  const [range = '', range6 = ''] = (await ranges(one)).get('node2')!.split(' ');
  await two.killAgent();
  const thief: ClusterNode = {
    ...{ name: 'thief', cluster: 'default', bootId: '', ipv4HealthIp: undefined, ipv6HealthIp: undefined },
    addresses: [{ type: 'InternalIP', ip: IpAddress.parse('192.168.251.200') }],
    ...{ ipv4AllocCidr: Prefix.parse(range), ipv6AllocCidr: Prefix.parse(range6) },
    ...{ ipv4SecondaryAllocCidrs: [], ipv6SecondaryAllocCidrs: [] },
  };
  await lab.member(1).etcdctl('del', `${NODE_KEYS}node2`);
  await lab.member(1).etcdctl('put', `${NODE_KEYS}thief`, encodeNode(thief));
  await two.startAgent(['--routing-mode=native']);
  await eventually(
    async () => assert.match(await two.cilium(['status']).catch(String), /overlaps .* of node thief/),
    CLAIM_LIMIT_MS,
  );
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    for (const address of [to.ipv4, to.ipv6]) {
      await eventually(
        async () => assert.ok(!(await reaches(from, address)), `${from.name} does not reach ${address}`),
        15_000,
      );
    }
  }
  assert.match(await refused(two, ['run', '--rm', '--network', world.network, 'busybox', 'true']), /of node thief/);
  await world.remove('web2');
  await two.docker(['network', 'rm', world.network]);
  await restart(two, '--routing-mode=native');
  await eventually(async () => assert.notEqual((await ranges(two)).get('node2')?.split(' ')[0], range), CLAIM_LIMIT_MS);
  await world.createNetwork([two]);
  await world.run(2, 'web2');
  await assertReach();
});
