// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { DockerEngine } from './docker.ts';

const NETWORK_ID = 'n'.repeat(64);
const ENDPOINT_ID = 'e'.repeat(64);

/** An engine whose answers are the test's. */
async function engine(
  t: TestContext,
  answer: RequestListener,
  silenceMs?: number,
): Promise<{ docker: DockerEngine; clock: ManualClock }> {
  const folder = await temporaryFolder('docker');
  const socketPath = join(folder, 'docker.sock');
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
  const clock = new ManualClock();
  return { docker: new DockerEngine(socketPath, clock, silenceMs), clock };
}

test('whoever asks for a container stops waiting when told so, though the engine never answers', async (t) => {
  const asked = Promise.withResolvers<undefined>();
  const { docker } = await engine(t, () => asked.resolve(undefined));
  const late = new AbortController();
  const found = docker.find(NETWORK_ID, ENDPOINT_ID, late.signal);
  await asked.promise;
  late.abort();
  assert.equal(await found, undefined);
});

test('an engine that never answers is unavailable after a while', async (t) => {
  const { docker } = await engine(t, () => undefined, 10);
  await assert.rejects(docker.version(), { code: 'DockerUnavailable' });
});

const NETWORK = {
  Id: NETWORK_ID,
  Name: 'net',
  Driver: 'cilium',
  IPAM: { Driver: 'cilium', Config: [] },
  Options: {},
};
const CONTAINER = { Id: 'abc', Names: ['/app1'], Image: 'web', Labels: { id: 'app1' } };
const FOUND = { id: 'abc', name: 'app1', image: 'web', labels: { id: 'app1' }, network: 'net' };
const CONTAINERS = { abc: { Name: 'app1', EndpointID: ENDPOINT_ID, IPv4Address: '', IPv6Address: '' } };

/** Answers with the network and its endpoints, and with containers; remembers what was asked. */
function answering(asked: string[], endpoints: () => object, containers: (url: string) => object[]): RequestListener {
  return (request, response) => {
    const url = decodeURIComponent(request.url ?? '');
    const isNetwork = url.includes('/networks/');
    asked.push(isNetwork ? 'network' : url.includes('limit=') ? 'recent' : 'named');
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(isNetwork ? { ...NETWORK, Containers: endpoints() } : containers(url)));
  };
}

test('a container is asked for until the engine lists it', async (t) => {
  let looks = 0;
  const asked: string[] = [];
  const listener = answering(
    asked,
    () => (looks++ > 0 ? CONTAINERS : {}),
    () => [CONTAINER],
  );
  const { docker, clock } = await engine(t, listener);
  const found = docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal);
  let done = false;
  void found.finally(() => (done = true));
  while (!done) await clock.advance(15);
  assert.deepEqual(await found, FOUND);
});

test('of a container that was foreseen only its name is asked for', async (t) => {
  const asked: string[] = [];
  const { docker } = await engine(
    t,
    answering(
      asked,
      () => CONTAINERS,
      () => [CONTAINER],
    ),
  );
  docker.foresee(ENDPOINT_ID);
  while (asked.length === 0) await setImmediate();
  assert.deepEqual(await docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal), FOUND);
  assert.deepEqual(asked, ['recent', 'network']);
});

test('a container that is older than those made last is asked for by its name', async (t) => {
  const asked: string[] = [];
  const young = { ...CONTAINER, Id: 'def', Names: ['/app10'] };
  const listener = answering(
    asked,
    () => CONTAINERS,
    (url) => (url.includes('limit=') ? [young] : [CONTAINER]),
  );
  const { docker } = await engine(t, listener);
  assert.deepEqual(await docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal), FOUND);
  assert.deepEqual(asked.sort(), ['named', 'network', 'recent']);
});

test('a question asked ahead in vain is asked again', async (t) => {
  const asked: string[] = [];
  const answers = answering(
    asked,
    () => CONTAINERS,
    () => [CONTAINER],
  );
  const { docker } = await engine(t, (request, response) => {
    if (request.url?.includes('limit=') === true) request.socket.destroy();
    else answers(request, response);
  });
  docker.foresee(ENDPOINT_ID);
  assert.deepEqual(await docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal), FOUND);
  assert.deepEqual(asked, ['network', 'named']);
});

test("a network's name is asked for once, and again when the network was gone", async (t) => {
  const asked: string[] = [];
  let isGone = false;
  const answers = answering(
    asked,
    () => CONTAINERS,
    () => [CONTAINER],
  );
  const { docker } = await engine(t, (request, response) => {
    if (isGone) response.writeHead(404).end('{}');
    else answers(request, response);
  });
  await docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal);
  assert.equal(await docker.networkName(NETWORK_ID), 'net');
  assert.equal(asked.filter((question) => question === 'network').length, 1);
  isGone = true;
  assert.equal(await docker.network(NETWORK_ID), undefined);
  await assert.rejects(docker.networkName(NETWORK_ID), { code: 'NotFound' });
});
