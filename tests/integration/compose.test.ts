// SPDX-License-Identifier: Apache-2.0

/**
 * The application of examples/compose, as its README runs it: by docker-compose 1.29 on the system's engine, by
 * `docker compose` 2 on the newer ones; on one node, and then spread over two.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { nameServer } from '../../lab/addresses.ts';
import { enginePath } from '../../lab/engine.ts';
import { HOME } from '../../lab/node.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const { LAB_ENGINE: engine } = process.env;
const EXAMPLE = join(HOME, 'examples/compose');

const lab = labForTests({ nodes: 2 });
const node = new DockerNode(lab);
const second = new DockerNode(lab, 2);

/** The command that people with this engine have. */
function composeCommand(): string[] {
  if (engine === undefined) return ['docker-compose'];
  // A plug-in of the docker command, found in the user's folder for these.
  const plugins = join(lab.dir, 'docker-config/cli-plugins');
  if (!existsSync(plugins)) {
    const program = enginePath(engine)
      .map((folder) => join(folder, 'docker-compose'))
      .find(existsSync);
    assert.ok(program, `engine ${engine} has a Compose`);
    mkdirSync(plugins, { recursive: true });
    symlinkSync(program, join(plugins, 'docker-compose'));
  }
  return ['docker', '--config', join(lab.dir, 'docker-config'), 'compose'];
}

function compose(...args: string[]): Promise<string> {
  return composeOn(node, ...args);
}

function composeOn({ lab: place }: DockerNode, ...args: string[]): Promise<string> {
  const images = { FRONTEND_IMAGE: 'web', BACKEND_IMAGE: 'web' };
  const command = [...composeCommand(), '-p', 'shop', '-f', join(EXAMPLE, 'docker-compose.yml'), ...args];
  return place.exec(command, { env: { ...place.environment(), ...images } });
}

/** Names that the running containers of a service answer with: their short ids. */
async function containers(service: string, on = node): Promise<string[]> {
  const filter = ['--filter', `label=com.docker.compose.service=${service}`];
  return (await on.docker('ps', '-q', ...filter)).split('\n').filter(Boolean);
}

async function only(service: string, on = node): Promise<string> {
  const [container = '', ...more] = await containers(service, on);
  assert.deepEqual(more, [], service);
  return container;
}

async function address(container: string, on = node): Promise<string> {
  return (await on.inside(container)).ipv4[0]!.replace(/\/.*/, '');
}

/** How many identities the containers of each service have. */
async function identities(): Promise<Record<string, number>> {
  const endpoints = JSON.parse(await node.lab.cilium(['endpoint', 'list', '-o', 'json'])) as {
    status: { identity: { id: number; labels: string[] } };
  }[];
  const found = new Map<string, Set<number>>();
  for (const { id, labels } of endpoints.map(({ status }) => status.identity)) {
    const service = labels.find((label) => label.startsWith('container:tier='))?.split('=')[1] ?? 'another';
    found.set(service, (found.get(service) ?? new Set()).add(id));
  }
  return Object.fromEntries([...found].map(([service, ids]) => [service, ids.size]));
}

test('privileged: compose brings both services up, and one reaches the other by its name', async () => {
  await compose('up', '-d');
  const version = await node.lab.exec([...composeCommand(), 'version', '--short']);
  assert.match(version, engine === undefined ? /^1\.29\./ : /^v?2\./);
  const [frontend, backend] = [await only('frontend'), await only('backend')];
  assert.equal(await node.ask(frontend, 'backend'), backend);
  assert.equal(await node.ask(backend, 'frontend'), frontend);
  assert.equal(await node.ask(frontend, 'backend', 8080), backend, 'no policy yet');
});

test('privileged: policy speaks of the labels in the compose file', async () => {
  await node.docker('run', '-d', '--name', 'stranger', '--network', 'shop_shop', 'web');
  assert.notEqual(await node.ask('stranger', 'backend'), undefined, 'no policy yet');
  await node.lab.cilium(['policy', 'import', join(EXAMPLE, 'policy.json')]);
  const [frontend, backend] = [await only('frontend'), await only('backend')];
  assert.equal(await node.ask(frontend, 'backend'), backend);
  assert.equal(await node.ask(frontend, 'backend', 8080), undefined, 'another port');
  assert.equal(await node.ask('stranger', 'backend'), undefined, 'another container');
  assert.equal(await node.ask('stranger', 'frontend'), frontend, 'no rule is for the frontend');
});

test('privileged: a service that is scaled has one identity, and its new containers are under policy', async () => {
  await compose('up', '-d', '--scale', 'backend=3', '--scale', 'frontend=2');
  const [frontends, backends] = [await containers('frontend'), await containers('backend')];
  assert.deepEqual([frontends.length, backends.length], [2, 3]);
  assert.deepEqual(await identities(), { frontend: 1, backend: 1, another: 1 });
  for (const backend of backends) {
    const to = await address(backend);
    for (const frontend of frontends) assert.equal(await node.ask(frontend, to), backend);
  }
  assert.equal(await node.ask(backends[0]!, await address(backends[1]!)), undefined, 'each other');
  const answer = await node.docker('exec', frontends[0]!, 'nslookup', 'backend');
  for (const backend of backends) assert.ok(answer.includes(await address(backend)), answer);
  await node.docker('rm', '-f', 'stranger');
});

test('privileged: a service made anew with other settings keeps its identity', async () => {
  const before = await node.lab.cilium(['identity', 'list', '-o', 'json']);
  await compose('up', '-d', '--force-recreate', '--scale', 'backend=1', '--scale', 'frontend=1', '-t', '0');
  const [frontend, backend] = [await only('frontend'), await only('backend')];
  assert.equal(await node.ask(frontend, 'backend'), backend);
  assert.deepEqual(JSON.parse(await node.lab.cilium(['identity', 'list', '-o', 'json'])), JSON.parse(before));
});

async function checkNothingIsLeft(on: DockerNode): Promise<void> {
  assert.equal(await on.docker('ps', '-aq'), '');
  assert.equal(await on.docker('network', 'ls', '-q', '--filter', 'driver=cilium'), '');
  assert.deepEqual(await on.leases(), {});
  await eventually(async () => assert.deepEqual(await on.links(), []));
  assert.deepEqual(JSON.parse(await on.lab.cilium(['endpoint', 'list', '-o', 'json'])), []);
}

test('privileged: down leaves nothing', async () => {
  await compose('down', '-t', '0');
  await checkNothingIsLeft(node);
});

let addressesBefore = '';

/** Keys of all addresses that the nodes have told each other. */
function sharedAddresses(): Promise<string> {
  return lab.member(1).etcdctl('get', '--prefix', '--keys-only', 'cilium/state/ip/v1/');
}

test('privileged: the services on two nodes find each other by name, under the same policy', async () => {
  addressesBefore = await sharedAddresses();
  await second.lab.cilium(['policy', 'import', join(EXAMPLE, 'policy.json')]);
  await composeOn(node, 'up', '-d', '--scale', 'backend=2', 'backend');
  await composeOn(second, 'up', '-d', 'frontend');
  const backends = await containers('backend');
  const frontend = await only('frontend', second);
  await eventually(async () => {
    const answer = await second.docker('exec', frontend, 'nslookup', 'backend');
    for (const backend of backends) assert.ok(answer.includes(await address(backend)), answer);
  });
  for (const backend of backends) {
    const to = await address(backend);
    await eventually(async () => assert.equal(await second.ask(frontend, to), backend, 'by address'));
  }
  assert.equal(await second.ask(frontend, await address(backends[0]!), 8080), undefined, 'another port');
  assert.ok(backends.includes((await second.ask(frontend, 'backend')) ?? ''), 'by name');
  const daemonJson = ['--file', join(second.lab.machine.dir, 'docker.json'), '--resolv-conf', '/nonexistent'];
  const told = await second.lab.cilium(['docker-dns', ...daemonJson]);
  assert.match(told, new RegExp(`dns is ${nameServer(2)};`), 'what an install says is what the lab says');
  await second.docker('run', '-d', '--name', 'stranger', '--network', 'shop_shop', 'web');
  assert.equal(await second.ask('stranger', 'backend'), undefined, 'another container of that node');
  // Nobody has said anything about the frontend, so the backend may ask it.
  await eventually(async () => assert.equal(await node.ask(backends[0]!, 'frontend'), frontend));
});

test('privileged: down on both nodes leaves nothing, and the names are gone', async () => {
  const frontend = await only('frontend', second);
  await composeOn(node, 'down', '-t', '0');
  await eventually(async () => {
    const { stdout } = await second.lab.run(['docker', 'exec', frontend, 'timeout', '5', 'nslookup', 'backend']);
    assert.match(stdout, /can't find backend/);
  });
  await second.docker('rm', '-f', 'stranger');
  await composeOn(second, 'down', '-t', '0');
  for (const one of [node, second]) await checkNothingIsLeft(one);
  await eventually(async () => assert.equal(await sharedAddresses(), addressesBefore));
});
