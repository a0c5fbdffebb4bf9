// SPDX-License-Identifier: Apache-2.0

/** Networks and containers of every kind on a real Docker Engine: what docker says, what is inside, who reaches whom. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import Docker from 'dockerode';
import { nodeAddresses, OUTSIDE } from '../../lab/addresses.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const node = new DockerNode(labForTests());
afterEach(() => node.clean());

/** Address without its prefix length. */
function bare(address: string | undefined): string {
  return (address ?? '').replace(/\/.*/, '');
}

/** Waits until `from` gets an answer from the web server of `to` at this address. */
async function reaches(from: string, to: string, address: string | undefined): Promise<void> {
  await eventually(async () => assert.equal(await node.ask(from, bare(address)), to));
}

for (const ipam of ['cilium', 'default'] as const) {
  for (const ipv6 of [false, true]) {
    const flags = [
      ...(ipam === 'cilium' ? ['--ipam-driver', 'cilium'] : []),
      ...(ipv6 ? ['--ipv6'] : []),
      ...(ipv6 && ipam === 'default' ? ['--subnet', 'fd99:7::/64'] : []),
    ];
    test(`privileged: docker network create ${flags.join(' ')}: both families, default routes, and everybody is reached`, async () => {
      await node.network('net', ...flags);
      await node.container('server', 'net');
      await node.container('client', 'net');
      const server = await node.inside('server');
      assert.equal(server.ipv4.length, 1);
      assert.equal(server.ipv6.length, 1);
      assert.equal(server.ipv4[0]?.endsWith('/32'), ipam === 'cilium', server.ipv4[0]);
      assert.equal(server.ipv6[0]?.endsWith('/128'), ipam === 'cilium' || !ipv6, server.ipv6[0]);
      const settings =
        '{{range .NetworkSettings.Networks}}{{.MacAddress}} {{.IPAddress}} {{.GlobalIPv6Address}}{{end}}';
      const shown = [server.mac, bare(server.ipv4[0]), bare(server.ipv6[0])].join(' ');
      assert.equal(await node.inspect(settings, 'server'), shown);
      const gateways = '{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPv6Gateway}}{{end}}';
      const [gateway4 = '', gateway6 = ''] = (await node.inspect(gateways, 'client')).split(' ');
      assert.ok((await node.routes('client', '-4')).includes(`default via ${gateway4} dev eth0`));
      assert.ok((await node.routes('client', '-6')).includes(`default via ${gateway6} dev eth0`));
      await reaches('client', 'server', server.ipv4[0]);
      await reaches('client', 'server', server.ipv6[0]);
      await reaches('client', 'server', 'server');
    });
  }
}

test('privileged: --subnet, --ip-range, --gateway, --aux-address, --ip and --ip6 are honoured', async () => {
  const ranges = ['--subnet', '10.201.0.0/16', '--ip-range', '10.201.5.0/24', '--gateway', '10.201.0.254'];
  const reserved = ['--aux-address', 'h1=10.201.0.9', '--aux-address', 'h2=10.201.5.0'];
  const flags = [...ranges, ...reserved, '--ipv6', '--subnet', 'fd99:8::/64'];
  await node.network('net', '--ipam-driver', 'cilium', ...flags);
  await node.container('dynamic', 'net');
  await node.container('static', 'net', '--ip', '10.201.77.7', '--ip6', 'fd99:8::77');
  assert.deepEqual((await node.inside('dynamic')).ipv4, ['10.201.5.1/32']);
  const inside = await node.inside('static');
  assert.deepEqual([inside.ipv4, inside.ipv6], [['10.201.77.7/32'], ['fd99:8::77/128']]);
  assert.deepEqual(await node.routes('static', '-4'), ['default via 10.201.0.254 dev eth0', '10.201.0.254 dev eth0']);
  await reaches('dynamic', 'static', '10.201.77.7');
  await reaches('dynamic', 'static', 'fd99:8::77');
  await node.docker('restart', '-t', '0', 'static');
  assert.deepEqual((await node.inside('static')).ipv4, ['10.201.77.7/32']);
  await reaches('dynamic', 'static', '10.201.77.7');
  const run = ['run', '--rm', '--network', 'net', '--ip'];
  assert.match(await node.refusal(...run, '10.201.77.7', 'busybox', 'true'), /10.201.77.7 is in use .*choose another/);
  assert.match(await node.refusal(...run, '10.201.0.9', 'busybox', 'true'), /auxiliary address/);
  assert.match(await node.refusal(...run, '10.201.0.254', 'busybox', 'true'), /gateway of its network/);
});

test('privileged: --subnet, --gateway and --ip work with addresses of Docker, too', async () => {
  await node.network('net', '--subnet', '10.202.0.0/24', '--gateway', '10.202.0.254');
  await node.container('server', 'net', '--ip', '10.202.0.7');
  await node.container('client', 'net');
  assert.deepEqual((await node.inside('server')).ipv4, ['10.202.0.7/24']);
  assert.ok((await node.routes('client', '-4')).includes('default via 10.202.0.254 dev eth0'));
  await reaches('client', 'server', '10.202.0.7');
});

test('privileged: --mac-address is what the container and docker inspect have', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  // The newer docker command refuses to say it to an older engine; its API takes it.
  const docker = new Docker({ socketPath: node.lab.dockerHost.slice('unix://'.length) });
  const MacAddress = '02:42:ac:11:65:43';
  const names = { name: 'server', Hostname: 'server', Labels: { id: 'server' } };
  const created = await docker.createContainer({
    ...names,
    Image: 'web',
    MacAddress,
    HostConfig: { NetworkMode: 'net' },
  });
  await created.start();
  await node.container('client', 'net');
  const inside = await node.inside('server');
  assert.equal(inside.mac, MacAddress);
  assert.equal(await node.inspect('{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}', 'server'), MacAddress);
  await reaches('client', 'server', inside.ipv4[0]);
});

for (const ipam of ['cilium', 'default'] as const) {
  test(`privileged: on an --internal network with ${ipam} IPAM containers reach each other and nobody else`, async () => {
    await node.network('net', '--internal', ...(ipam === 'cilium' ? ['--ipam-driver', 'cilium'] : []));
    await node.container('server', 'net');
    await node.container('client', 'net');
    const { ipv4, ipv6 } = await node.inside('server');
    await reaches('client', 'server', ipv4[0]);
    await reaches('client', 'server', ipv6[0]);
    for (const family of ['-4', '-6'] as const) {
      assert.ok(!(await node.routes('client', family)).some((route) => route.startsWith('default')));
    }
    assert.equal(await node.ask('client', OUTSIDE.ipv4), undefined);
    assert.equal(await node.ask('client', OUTSIDE.ipv6), undefined);
  });
}

test('privileged: a container on two networks keeps a way out when either is taken away', async () => {
  await node.network('net1', '--ipam-driver', 'cilium');
  await node.network('net2', '--subnet', '10.203.0.0/24');
  await node.container('server1', 'net1');
  await node.container('server2', 'net2');
  await node.container('both', 'net1');
  await node.docker('network', 'connect', 'net2', 'both');
  const [one, two] = [await node.inside('server1'), await node.inside('server2')];
  const all = async (): Promise<void> => {
    for (const address of [...one.ipv4, ...one.ipv6]) await reaches('both', 'server1', address);
    for (const address of [...two.ipv4, ...two.ipv6]) await reaches('both', 'server2', address);
    assert.notEqual(await node.ask('both', OUTSIDE.ipv4), undefined, 'the world');
  };
  await all();
  await node.docker('network', 'disconnect', 'net1', 'both');
  await all();
  await node.docker('network', 'connect', 'net1', 'both');
  await node.docker('network', 'disconnect', 'net2', 'both');
  await all();
  await node.docker('network', 'connect', 'net2', 'both');
  await node.docker('restart', '-t', '0', 'both');
  await all();
});

test('privileged: containers without labels reach each other, as all do without a rule', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  for (const name of ['plain1', 'plain2']) {
    await node.docker('run', '-d', '--name', name, '--hostname', name, '--network', 'net', 'web');
  }
  const { ipv4, ipv6 } = await node.inside('plain1');
  for (const address of [...ipv4, ...ipv6]) await reaches('plain2', 'plain1', address);
});

test('privileged: restarting gives new interfaces and leaves none of the old', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await node.container('server', 'net');
  await node.container('client', 'net');
  for (let round = 0; round < 3; round++) {
    await node.docker('restart', '-t', '0', 'server');
    const { ipv4, ipv6 } = await node.inside('server');
    await reaches('client', 'server', ipv4[0]);
    await reaches('client', 'server', ipv6[0]);
  }
  await eventually(async () => assert.equal((await node.links()).length, 2));
});

test('privileged: containers with a restart policy run again after Docker was stopped, and after it was killed', async () => {
  await node.network('net', '--ipam-driver', 'cilium');
  await node.container('server', 'net', '--restart', 'always');
  await node.container('client', 'net', '--restart', 'always');
  await node.container('other', 'net');
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await node.lab.stopDockerd(signal);
    await node.lab.startDockerd();
    await eventually(async () => {
      const { ipv4, ipv6 } = await node.inside('server');
      for (const address of [...ipv4, ...ipv6, 'server']) {
        assert.equal(await node.ask('client', bare(address)), 'server', `${signal} ${address}`);
      }
    }, 30_000);
    assert.equal(await node.inspect('{{.State.Running}}', 'other'), 'false');
  }
});

test('privileged: the MTU of a network is that of its interfaces', async () => {
  await node.network('net', '--ipam-driver', 'cilium', '--opt', 'com.docker.network.driver.mtu=1400');
  await node.container('server', 'net');
  assert.equal((await node.inside('server')).mtu, 1400);
});

test('privileged: published ports fail the run with what to do, unless the network ignores them', async () => {
  await node.network('net1', '--ipam-driver', 'cilium');
  const refusal = await node.refusal('run', '--rm', '-p', '8080:80', '--network', 'net1', 'busybox', 'true');
  assert.match(refusal, /80\/tcp to host port 8080.*--opt cilium.published-ports=ignore/);
  await node.network('net2', '--ipam-driver', 'cilium', '--opt', 'cilium.published-ports=ignore');
  await node.container('server', 'net2', '-p', '8080:80');
  await node.container('client', 'net2');
  await reaches('client', 'server', (await node.inside('server')).ipv4[0]);
});

const REFUSED: [string, string[], RegExp][] = [
  [
    'overlaps another',
    ['--ipam-driver', 'cilium', '--subnet', '10.204.0.0/16'],
    /10.204.0.0\/16 overlaps .*10.204.7.\S+ of/,
  ],
  ['overlaps another of ours, in addresses of Docker', ['--subnet', '10.205.7.128/25'], /overlaps .*10.205.7.\S+ of/],
  ['overlaps the wire', ['--ipam-driver', 'cilium', '--subnet', '192.168.251.0/24'], /overlaps 192.168.251.0\/24/],
  [
    'has an unknown option',
    ['--ipam-driver', 'cilium', '--opt', 'foo=bar'],
    /unknown network option "foo": this driver knows/,
  ],
  ['has an impossible MTU', ['--opt', 'com.docker.network.driver.mtu=500'], /expected a number from 1280 to 65535/],
];
for (const [what, flags, problem] of REFUSED) {
  test(`privileged: a network that ${what} is refused, and nothing of it stays`, async () => {
    await node.network('net', '--subnet', '10.204.7.0/24');
    await node.network('net-ours', '--ipam-driver', 'cilium', '--subnet', '10.205.7.0/24');
    const before = await node.leases();
    assert.match(await node.refusal('network', 'create', '-d', 'cilium', ...flags, 'bad'), problem);
    assert.deepEqual(await node.leases(), before);
  });
}

test('privileged: a pool without a free address says so, and one that is freed serves again', async () => {
  await node.network('net', '--ipam-driver', 'cilium', '--subnet', '10.205.0.0/30');
  await node.container('only', 'net');
  const again = ['run', '--rm', '--network', 'net', 'busybox', 'true'];
  assert.match(await node.refusal(...again), /no address is free in 10.205.0.0\/30.*larger --subnet/);
  await node.docker('rm', '-f', 'only');
  await node.docker(...again);
});

test('privileged: a node of a swarm has its own networks of ours, and swarm itself takes none', async (t) => {
  await node.docker('swarm', 'init', '--advertise-addr', nodeAddresses(1).ipv4);
  t.after(async () => {
    await node.docker('swarm', 'leave', '--force');
    await node.docker('network', 'rm', 'docker_gwbridge');
  });
  await node.network('net', '--ipam-driver', 'cilium');
  await node.container('server', 'net');
  await node.container('client', 'net');
  await reaches('client', 'server', 'server');
  assert.match(
    await node.refusal('network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', '--scope', 'swarm', 'bad'),
    /legacy plugin cilium of type NetworkDriver is not supported in swarm mode/,
  );
});

test('privileged: --network-scope=global is what Docker shows and keeps, from engine 26 on', async (t) => {
  const begin = async (...args: string[]): Promise<void> => {
    await node.lab.stopAgent();
    await node.lab.stopDockerd(); // an engine asks for the scope once in its life
    await node.lab.startAgent(args);
    await node.lab.startDockerd();
  };
  t.after(() => begin());
  await begin('--network-scope=global');
  if (process.env.LAB_ENGINE === undefined) {
    const refusal = await node.refusal('network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', 'bad');
    assert.match(refusal, /This node is not a swarm manager/, 'Docker 20.10 wants a swarm for it');
    assert.deepEqual(await node.leases(), {});
    return;
  }
  await node.network('net1', '--ipam-driver', 'cilium');
  await node.network('net2', '--ipam-driver', 'cilium', '--subnet', '10.206.0.0/24', '--ip-range', '10.206.0.128/25');
  await node.container('server', 'net1');
  await node.container('client', 'net1');
  await node.docker('network', 'connect', 'net2', 'client');
  await node.container('server2', 'net2');
  const all = async (): Promise<void> => {
    for (const server of ['server', 'server2']) {
      const { ipv4, ipv6 } = await node.inside(server);
      for (const address of [...ipv4, ...ipv6, server]) await reaches('client', server, address);
    }
  };
  await all();
  await node.lab.stopDockerd();
  await node.lab.startDockerd();
  for (const name of ['net1', 'net2']) assert.equal(await node.inspect('{{.Scope}}', name), 'global', name);
  await node.docker('start', 'server', 'server2', 'client');
  await all();
  const pools = Object.keys(await node.leases()).filter((id) => !id.startsWith('CiliumDriver'));
  assert.ok(pools.length === 2 && pools.every((id) => id.startsWith('CiliumGlobal')), pools.join(' '));
  await node.clean();
});

test('privileged: when all is removed nothing is left: no interface, no pool, no lease, no network', async () => {
  await eventually(async () => assert.deepEqual(await node.links(), []));
  assert.deepEqual(await node.leases(), {});
  assert.equal(await node.docker('network', 'ls', '-q', '--filter', 'driver=cilium'), '');
});
