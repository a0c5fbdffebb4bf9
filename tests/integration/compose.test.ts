// SPDX-License-Identifier: Apache-2.0

/**
 * The application of examples/compose, as its README runs it: by docker-compose 1.29 on the system's engine, by
 * `docker compose` 2 on the newer ones.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { enginePath } from '../../lab/engine.ts';
import { HOME } from '../../lab/node.ts';
import { DockerNode } from './docker-node.ts';
import { eventually, labForTests } from './support.ts';

const { LAB_ENGINE: engine } = process.env;
const EXAMPLE = join(HOME, 'examples/compose');

const lab = labForTests();
const node = new DockerNode(lab);

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
  const images = { FRONTEND_IMAGE: 'web', BACKEND_IMAGE: 'web' };
  const command = [...composeCommand(), '-p', 'shop', '-f', join(EXAMPLE, 'docker-compose.yml'), ...args];
  return node.lab.exec(command, { env: { ...node.lab.environment(), ...images } });
}

/** Names that the running containers of a service answer with: their short ids. */
async function containers(service: string): Promise<string[]> {
  const filter = ['--filter', `label=com.docker.compose.service=${service}`];
  return (await node.docker('ps', '-q', ...filter)).split('\n').filter(Boolean);
}

async function only(service: string): Promise<string> {
  const [container = '', ...more] = await containers(service);
  assert.deepEqual(more, [], service);
  return container;
}

async function address(container: string): Promise<string> {
  return (await node.inside(container)).ipv4[0]!.replace(/\/.*/, '');
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
    assert.equal(
      await node.ask(
        backends.find((other) => other !== backend)!,
        to,
      ),
      undefined,
      'each other',
    );
  }
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

test('privileged: down leaves nothing', async () => {
  await compose('down', '-t', '0');
  assert.equal(await node.docker('ps', '-aq'), '');
  assert.equal(await node.docker('network', 'ls', '-q', '--filter', 'driver=cilium'), '');
  assert.deepEqual(await node.leases(), {});
  await eventually(async () => assert.deepEqual(await node.links(), []));
  assert.deepEqual(JSON.parse(await node.lab.cilium(['endpoint', 'list', '-o', 'json'])), []);
});
