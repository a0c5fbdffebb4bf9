// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
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

test('a container is asked for until the engine lists it', async (t) => {
  let looks = 0;
  const { docker, clock } = await engine(t, (request, response) => {
    const listed = looks++ > 0;
    const Containers = listed
      ? { abc: { Name: 'app1', EndpointID: ENDPOINT_ID, IPv4Address: '', IPv6Address: '' } }
      : {};
    const network = {
      Id: NETWORK_ID,
      Name: 'net',
      Driver: 'cilium',
      IPAM: { Driver: 'cilium', Config: [] },
      Options: {},
    };
    const container = { Id: 'abc', Names: ['/app1'], Image: 'web', Labels: { id: 'app1' } };
    const isNetwork = request.url?.includes('/networks/') === true;
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(isNetwork ? { ...network, Containers } : [container]));
  });
  const found = docker.find(NETWORK_ID, ENDPOINT_ID, new AbortController().signal);
  let done = false;
  void found.finally(() => (done = true));
  while (!done) await clock.advance(15);
  assert.deepEqual(await found, { id: 'abc', name: 'app1', image: 'web', labels: { id: 'app1' } });
});
