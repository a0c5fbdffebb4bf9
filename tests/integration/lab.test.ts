// SPDX-License-Identifier: Apache-2.0

/** The lab itself, Docker Engines only. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { OUTSIDE } from '../../lab/addresses.ts';
import { output } from '../../lab/command.ts';
import type { EtcdMember } from '../../lab/etcd-member.ts';
import { Lab, type LabOptions } from '../../lab/lab.ts';
import { HOME } from '../../lab/node.ts';
import { eventually } from './support.ts';

let made = 0;

function newLab(t: TestContext, options: LabOptions = {}): Lab {
  const lab = new Lab({ name: `t-${process.pid}-lab${++made}`, agent: false, ...options });
  t.after(() => lab.down());
  return lab;
}

/** What a lab could leave on the machine. */
async function traces(lab: Lab): Promise<Record<string, unknown>> {
  return {
    processes: readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isProcessOf(lab, name)),
    groups: readdirSync('/sys/fs/cgroup', { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.includes(lab.name),
    ),
    mounts: readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .filter((line) => line.includes(lab.name)),
    links: (await output(['ip', '-br', 'link'])).split('\n'),
    filters: await output(['nft', 'list', 'ruleset']),
    run: readdirSync('/run'),
    files: existsSync(lab.dir),
  };
}

function isProcessOf(lab: Lab, pid: string): boolean {
  try {
    const isZombie = readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
    return !isZombie && readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(lab.name);
  } catch {
    return false; // has ended
  }
}

test('privileged: a lab that came and went leaves nothing', async (t) => {
  const lab = newLab(t, { nodes: 2 });
  const before = await traces(lab);
  await lab.up();
  await lab.node(1).docker(['run', '-d', '--name', 'app1', 'web']);
  await lab.down();
  assert.deepEqual(await traces(lab), before);
  await lab.down();
});

test('privileged: each node has its own engine, and outside is reached from all in both families', async (t) => {
  const lab = newLab(t, { nodes: 2 });
  await lab.up();
  for (const node of lab.nodes) {
    assert.equal(await node.docker(['info', '--format', '{{.Name}}']), node.name);
    assert.equal(await node.exec(['docker', 'info', '--format', '{{.Name}}']), node.name);
    for (const [address, client] of [
      ['192.168.251.254', node.addresses.ipv4],
      ['198.51.100.1', node.addresses.ipv4],
      ['[fd00:251::fe]', node.addresses.ipv6],
      ['[2001:db8:251::1]', node.addresses.ipv6],
    ]) {
      const url = `http://${address}`;
      assert.equal(await node.exec(['busybox', 'wget', '-q', '-O', '-', url]), 'outside', url);
      assert.equal(await node.exec(['busybox', 'wget', '-q', '-O', '-', `${url}/cgi-bin/client`]), client, url);
    }
  }
});

test('privileged: up on a lab that is up changes nothing, and starts again what has died', async (t) => {
  const lab = newLab(t);
  await lab.up();
  const node = lab.node(1);
  await node.docker(['run', '-d', '--restart', 'always', '--name', 'app1', 'web']);
  const first = lab.status();
  await new Lab({ name: lab.name }).up();
  assert.deepEqual(lab.status(), first);
  await node.killDockerd();
  assert.equal(node.dockerdPid, undefined);
  await new Lab({ name: lab.name }).up();
  assert.notEqual(node.dockerdPid, undefined);
  assert.equal(await node.docker(['ps', '-a', '--format', '{{.Names}}']), 'app1');
});

test('privileged: a lab is cleared, or completed, after its up was killed at any step', async (t) => {
  const steps = ['wire', 'outside', 'node1: namespaces', 'node1: Docker Engine'];
  for (const [index, step] of steps.entries()) {
    const lab = newLab(t);
    const before = await traces(lab);
    await killAtStep(lab, step);
    if (index % 2 === 0) {
      await lab.up();
      assert.equal(await lab.node(1).docker(['info', '--format', '{{.Name}}']), 'node1', step);
    }
    await lab.down();
    assert.deepEqual(await traces(lab), before, step);
  }
});

/** Runs `bin/lab up` and kills it as soon as it says that it is at this step. */
async function killAtStep(lab: Lab, step: string): Promise<void> {
  const command = spawn(join(HOME, 'bin/lab'), ['--name', lab.name, 'up', '--no-agent'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  command.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    if (said.includes(`${step}\n`)) command.kill('SIGKILL');
  });
  const signal = await new Promise((resolve) => command.once('exit', (_status, killedBy) => resolve(killedBy)));
  assert.equal(signal, 'SIGKILL', `up was killed at "${step}": ${said}`);
}

test('privileged: two commands cannot work on one lab at the same time', async (t) => {
  const lab = newLab(t);
  const [first, second] = await Promise.allSettled([lab.up(), new Lab({ name: lab.name }).up()]);
  assert.equal(first.status, 'fulfilled');
  assert.equal(second.status, 'rejected');
  assert.equal(isCiliumError(second.reason, 'InUse'), true);
});

test('privileged: a command in a node ends with its own status, in the caller’s folder', async (t) => {
  const lab = newLab(t);
  await lab.up();
  const result = await lab.node(1).run(['sh', '-c', 'pwd; hostname; exit 7']);
  assert.deepEqual([result.stdout, result.status], [`${process.cwd()}\nnode1\n`, 7]);
  const exec = spawn(join(HOME, 'bin/lab'), ['--name', lab.name, 'exec', '1', '--', 'sh', '-c', 'exit 9']);
  assert.equal(await new Promise((resolve) => exec.once('exit', resolve)), 9);
});

test('privileged: an etcd of three does without one member, takes it in again empty, and serves who is not cut off', async (t) => {
  const lab = newLab(t, { etcd: 3 });
  await lab.up();
  const [first, second, third] = [lab.member(1), lab.member(2), lab.member(3)];
  const node = lab.node(1);
  const reaches = async (member: EtcdMember, family: 'ipv4' | 'ipv6'): Promise<boolean> => {
    const ask = ['timeout', '1', 'busybox', 'wget', '-q', '-O', '-', `${member.urls[family]}/health`];
    return (await node.run(ask)).stdout.includes('true');
  };
  await first.etcdctl('put', 'key', 'one');
  await second.wipe();
  const put = ['--command-timeout=1s', 'put', 'key', 'two'];
  await eventually(() => first.etcdctl(...put)); // a write to a leader that has just died is lost
  await second.rejoin(first);
  assert.equal(await second.etcdctl('get', '--print-value-only', 'key'), 'two');
  third.hang();
  assert.equal(await reaches(third, 'ipv4'), false, 'one hangs');
  await eventually(async () => assert.equal(await reaches(second, 'ipv4'), true, 'it may have been the leader'));
  third.resume();
  await first.stop();
  await new Lab({ name: lab.name }).up();
  assert.notEqual(first.pid, undefined);

  const command = (...argv: string[]): Promise<string> => output([join(HOME, 'bin/lab'), '--name', lab.name, ...argv]);
  assert.equal(await command('exec', 'etcd2', '--', 'etcdctl', 'get', '--print-value-only', 'key'), 'two');
  assert.match(await command('status'), /\netcd3 +up +192\.168\.251\.103, fd00:251::103 +\d+$/);
  await command('cut', 'node1', 'etcd1');
  assert.match(await command('status'), /\n\nMACHINE +CUT OFF FROM\netcd1 +node1\nnode1 +etcd1$/);
  for (const family of ['ipv4', 'ipv6'] as const) {
    assert.equal(await reaches(first, family), false, family);
    await eventually(async () => assert.equal(await reaches(second, family), true, family));
  }
  await lab.cut('node1');
  await lab.heal('node1', 'etcd');
  await eventually(async () => assert.equal(await reaches(first, 'ipv4'), true, 'healed'));
  assert.equal((await node.run(['busybox', 'ping', '-c1', '-W1', OUTSIDE.ipv4])).status, 1, 'still cut');
  await command('heal');
  await eventually(() => node.exec(['busybox', 'ping', '-c1', '-W1', OUTSIDE.ipv4]));
  assert.throws(() => lab.cut('node1', 'node2'), { code: 'NotFound' });
});
