// SPDX-License-Identifier: Apache-2.0

/** Between containers, their host and the world outside, on a real engine and kernel. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { OUTSIDE, WORLD } from '../../lab/addresses.ts';
import { DockerNode } from './docker-node.ts';
import { labForTests } from './support.ts';

const NET = 'net1';
const WORLD_ADDRESSES = [WORLD.ipv4, WORLD.ipv6];
const lab = labForTests();
const node = new DockerNode(lab);

interface App {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Reads what a web server answers; undefined when nobody does. */
async function fetchFrom(where: 'host' | 'outside', address: string): Promise<string | undefined> {
  const url = `http://${address.includes(':') ? `[${address}]` : address}/`;
  const machine = where === 'host' ? lab.node(1) : lab.outside;
  const { status, stdout } = await machine.run(['timeout', '2', 'busybox', 'wget', '-q', '-O', '-', url]);
  return status === 0 ? stdout.trim() : undefined;
}

/** The address under which `container` reaches a web server, as that says. */
async function seenAs(container: string, server: string): Promise<string> {
  const url = `http://${server.includes(':') ? `[${server}]` : server}/cgi-bin/client`;
  return (await node.docker('exec', container, 'timeout', '3', 'wget', '-q', '-O', '-', url)).trim();
}

async function pings(container: string, address: string): Promise<boolean> {
  const { status } = await node.lab.run(['docker', 'exec', container, 'ping', '-c', '1', '-W', '2', address]);
  return status === 0;
}

async function app(name: string, network = NET): Promise<App> {
  const known = (await node.docker('network', 'ls', '--format', '{{.Name}}')).split('\n');
  if (!known.includes(NET)) await node.network(NET, '--ipam-driver', 'cilium');
  await node.container(name, network);
  const { ipv4, ipv6 } = await node.inside(name);
  return { ipv4: ipv4[0]!.replace(/\/.*/, ''), ipv6: ipv6[0]!.replace(/\/.*/, '') };
}

async function importRules(rules: object[]): Promise<void> {
  const file = join(node.lab.machine.dir, 'rules.json');
  writeFileSync(file, JSON.stringify(rules));
  await node.lab.cilium(['policy', 'import', file]);
}

afterEach(async () => {
  await node.lab.cilium(['policy', 'delete', '--all']);
  const containers = (await node.docker('ps', '-aq')).split('\n').filter(Boolean);
  if (containers.length > 0) await node.docker('rm', '-f', ...containers);
});

test('privileged: host and containers reach each other, whatever the reverse path filter', async () => {
  const { ipv4, ipv6 } = await app('app1');
  const host = node.lab.addresses;
  for (const all of ['0', '1', '2']) {
    for (const device of ['0', '1', '2']) {
      const settings = [`all.rp_filter=${all}`, `default.rp_filter=${device}`, `eth0.rp_filter=${device}`];
      await node.lab.exec(['sysctl', '-q', '-w', ...settings.map((setting) => `net.ipv4.conf.${setting}`)]);
      const label = `all=${all} eth0=${device}`;
      assert.equal(await fetchFrom('host', ipv4), 'app1', label);
      assert.equal(await pings('app1', host.ipv4), true, label);
      assert.equal((await seenAs('app1', WORLD.ipv4)).trim(), host.ipv4, label);
    }
  }
  assert.equal(await fetchFrom('host', ipv6), 'app1');
  assert.equal(await pings('app1', host.ipv6), true);
});

test("privileged: the world sees containers under the node's address, in both families", async () => {
  await app('app1');
  const { ipv4, ipv6 } = node.lab.addresses;
  assert.equal(await seenAs('app1', WORLD.ipv4), ipv4);
  assert.equal(await seenAs('app1', WORLD.ipv6), ipv6);
  assert.equal(await seenAs('app1', OUTSIDE.ipv4), ipv4);
  for (const address of WORLD_ADDRESSES) assert.equal(await pings('app1', address), true, address);
});

test('privileged: a rule for a prefix opens that prefix and nothing else of the world', async () => {
  await app('app1');
  await importRules([
    {
      endpointSelector: { matchLabels: { id: 'app1' } },
      egress: [{ toCIDR: [`${WORLD.ipv4}/32`] }, { toCIDR: [`${WORLD.ipv6}/128`] }],
    },
  ]);
  for (const address of WORLD_ADDRESSES) assert.equal(await node.ask('app1', address), 'outside', address);
  for (const address of [OUTSIDE.ipv4, OUTSIDE.ipv6]) assert.equal(await node.ask('app1', address), undefined, address);
});

test('privileged: whoever comes from outside is the world to policy', async () => {
  const { ipv4, ipv6 } = await app('app1');
  const host = node.lab.addresses;
  await lab.outside.exec(['ip', 'route', 'add', ipv4, 'via', host.ipv4]);
  await lab.outside.exec(['ip', '-6', 'route', 'add', ipv6, 'via', host.ipv6]);
  try {
    for (const address of [ipv4, ipv6]) assert.equal(await fetchFrom('outside', address), 'app1', address);
    const subject = { endpointSelector: { matchLabels: { id: 'app1' } } };
    await importRules([{ ...subject, ingress: [{ fromEntities: ['host'] }] }]);
    for (const address of [ipv4, ipv6]) {
      assert.equal(await fetchFrom('outside', address), undefined, address);
      assert.equal(await fetchFrom('host', address), 'app1', address);
    }
    await importRules([{ ...subject, ingress: [{ fromEntities: ['world'] }] }]);
    for (const address of [ipv4, ipv6]) assert.equal(await fetchFrom('outside', address), 'app1', address);
  } finally {
    await lab.outside.exec(['ip', 'route', 'del', ipv4]);
    await lab.outside.exec(['ip', '-6', 'route', 'del', ipv6]);
  }
});

test('privileged: a network made with --internal has neither host nor world, but itself', async () => {
  await node.network('inner', '--ipam-driver', 'cilium', '--internal');
  try {
    const first = await app('app1', 'inner');
    await app('app2', 'inner');
    assert.equal(await node.ask('app2', first.ipv4), 'app1');
    assert.equal(await node.ask('app2', first.ipv6), 'app1');
    // A container with the means to change its routes gets no further.
    const [pid, host] = [await node.inspect('{{.State.Pid}}', 'app2'), node.lab.addresses];
    const inside = ['nsenter', `--net=/proc/${pid}/ns/net`];
    await node.lab.exec([...inside, 'ip', 'route', 'add', 'default', 'dev', 'eth0']);
    for (const address of [host.ipv4, WORLD.ipv4]) assert.equal(await pings('app2', address), false, address);
    assert.equal(await fetchFrom('host', first.ipv4), undefined);
  } finally {
    await node.docker('rm', '-f', 'app1', 'app2');
    await node.docker('network', 'rm', 'inner');
  }
});

test('privileged: errors about a masqueraded flow find its container', async () => {
  await app('app1');
  // traceroute sends UDP to ports on which nobody listens: the last hop is the one whose "port unreachable" came back.
  for (const [version, address] of [
    ['-4', WORLD.ipv4],
    ['-6', WORLD.ipv6],
  ] as const) {
    const trace = ['traceroute', version, '-n', '-q', '1', '-w', '2', '-m', '3', address];
    const hops = (await node.docker('exec', 'app1', ...trace)).trim().split('\n').slice(1);
    assert.match(hops.at(-1) ?? '', new RegExp(`${address} .* ms`), hops.join('\n'));
  }
});

test('privileged: nothing of ours is ever in netfilter', async () => {
  await app('app1');
  for (const command of [['iptables-save'], ['ip6tables-save'], ['nft', 'list', 'ruleset']]) {
    const text = await node.lab.exec(command);
    assert.doesNotMatch(text, /cilium|lxc|10\.16\./i, command[0]);
  }
});
