// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { eventually } from '../tests/support/eventually.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { DockerNames } from './docker-names.ts';

/** An engine whose answers are the test's. */
async function engine(t: TestContext, answer: RequestListener): Promise<DockerNames> {
  const folder = await temporaryFolder('docker');
  const socketPath = join(folder, 'docker.sock');
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return new DockerNames(socketPath);
}

function answering(answers: Readonly<Record<string, unknown>>): RequestListener {
  return (request, response) => {
    const found = Object.entries(answers).find(([path]) => request.url?.includes(path));
    response.setHeader('Content-Type', 'application/json');
    if (found) response.end(JSON.stringify(found[1]));
    else response.writeHead(404).end('{"message":"no such container"}');
  };
}

test('names of a container are those of old engines and of new ones, network by network', async (t) => {
  const docker = await engine(
    t,
    answering({
      '/containers/old/json': {
        Name: '/app1',
        Config: { Hostname: 'host1' },
        NetworkSettings: {
          Networks: {
            net1: { EndpointID: 'e1', Aliases: ['web', '0123456789ab', 'host1'] },
            net2: { EndpointID: 'e2', Aliases: null },
            gone: { EndpointID: '', Aliases: ['x'] },
          },
        },
      },
      '/containers/new/json': {
        Name: '/app2',
        Config: { Hostname: '0123456789ab' },
        NetworkSettings: {
          Networks: { net1: { EndpointID: 'e3', Aliases: ['web'], DNSNames: ['app2', 'web', '0123456789ab'] } },
        },
      },
    }),
  );
  assert.deepEqual(await docker.ofContainer('old'), [
    { dockerEndpointId: 'e1', name: 'app1', network: 'net1', aliases: ['0123456789ab', 'host1', 'web'] },
    { dockerEndpointId: 'e2', name: 'app1', network: 'net2', aliases: ['host1'] },
  ]);
  assert.deepEqual(await docker.ofContainer('new'), [
    { dockerEndpointId: 'e3', name: 'app2', network: 'net1', aliases: ['0123456789ab', 'app2', 'web'] },
  ]);
  assert.deepEqual(await docker.ofContainer('nobody'), []);
});

test('of the names in a list a container has one of its own', async (t) => {
  const containers = [
    { Id: 'c1', Names: ['/linked/db', '/app1'] },
    { Id: 'c2', Names: null },
  ];
  const docker = await engine(t, answering({ '/containers/json': containers }));
  assert.deepEqual(
    [...(await docker.running())],
    [
      ['c1', 'app1'],
      ['c2', ''],
    ],
  );
});

test('renames are told as they come, in pieces and with what is no event between them, until told to end', async (t) => {
  const urls: string[] = [];
  const docker = await engine(t, (request, response) => {
    urls.push(decodeURIComponent(request.url ?? ''));
    response.write('{"Type":"container","Action":"rename","Actor":{"ID":"c1"}}\n{"Actor":');
    setImmediate(() => response.write('{"ID":"c2"}}\nnot JSON\n{"other":1}\n{"Actor":{"ID":"c3"}}\n'));
  });
  const renamed: string[] = [];
  let begun = 0;
  const stop = new AbortController();
  const following = docker.followRenames(
    () => begun++,
    (id) => renamed.push(id),
    stop.signal,
  );
  await eventually('three are told', () => renamed.length === 3);
  assert.deepEqual([renamed, begun], [['c1', 'c2', 'c3'], 1]);
  assert.match(urls[0] ?? '', /"type":\["container"\],"event":\["rename"\]/);
  stop.abort();
  await following;
});

test('an engine that goes away ends the events with an error, and one that is away says so', async (t) => {
  const docker = await engine(t, (_request, response) => {
    response.write('\n');
    setImmediate(() => response.destroy());
  });
  const { signal } = new AbortController();
  const nothing = (): undefined => undefined;
  await assert.rejects(docker.followRenames(nothing, nothing, signal), { code: 'DockerUnavailable' });
  const nowhere = new DockerNames('/nonexistent/docker.sock');
  await assert.rejects(nowhere.running(), { code: 'DockerUnavailable' });
  await assert.rejects(nowhere.ofContainer('c1'), { code: 'DockerUnavailable' });
  await assert.rejects(nowhere.followRenames(nothing, nothing, signal), { code: 'DockerUnavailable' });
});
