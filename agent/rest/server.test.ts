// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { CiliumClient } from '../../api/client.ts';
import { FRAME_KINDS, FrameReader } from '../../api/monitor-frames.ts';
import { statusResponse, endpoint as endpointModel } from '../../api/models.ts';
import { isCiliumError, type ErrorCode } from '../../errors/cilium-error.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { FakeServices } from './fake/fake-services.ts';
import { LISTENER_BOUND_BYTES } from './monitor-stream.ts';
import { agentApi } from './routes.ts';
import { RestServer } from './server.ts';

interface Setup {
  client: CiliumClient;
  services: FakeServices;
  server: RestServer;
  socketPath: string;
}

async function setUp(t: TestContext): Promise<Setup> {
  const folder = await mkdtemp(join(tmpdir(), 'rest-'));
  const socketPath = join(folder, 'run', 'cilium.sock');
  const services = new FakeServices();
  const server = new RestServer({ socketPath, api: agentApi(services), log: silentLogger });
  await server.start();
  t.after(async () => {
    await server.stop();
    await rm(folder, { recursive: true });
  });
  return { client: new CiliumClient(socketPath), services, server, socketPath };
}

/** Sends bytes as they are and answers status and body. */
async function raw(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<{ status: number; text: string }> {
  const request = httpRequest({ socketPath, method, path, agent: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [AsyncIterable<Buffer> & { statusCode: number }];
  let text = '';
  for await (const chunk of response) text += chunk.toString();
  return { status: response.statusCode, text };
}

function failsWith(code: ErrorCode, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isCiliumError(error, code), `expected ${code}, got ${String(error)}`);
    assert.match(error.message, text);
    return true;
  };
}

test('the socket may be used by its owner and group only', async (t) => {
  const { socketPath } = await setUp(t);
  assert.equal((await stat(socketPath)).mode & 0o777, 0o660);
});

test('a socket file that a killed agent left behind is replaced', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'rest-'));
  const socketPath = join(folder, 'cilium.sock');
  await writeFile(socketPath, '');
  const server = new RestServer({ socketPath, api: agentApi(new FakeServices()), log: silentLogger });
  await server.start();
  t.after(async () => {
    await server.stop();
    await rm(folder, { recursive: true });
  });
  assert.equal((await new CiliumClient(socketPath).version()).Version, '7.8.9');
});

test('a second agent on the same socket is refused and the first goes on', async (t) => {
  const { client, socketPath, services } = await setUp(t);
  const second = new RestServer({ socketPath, api: agentApi(services), log: silentLogger });
  await assert.rejects(second.start(), failsWith('InUse', /another agent serves .*; stop it first/));
  assert.equal((await client.status()).cilium.state, 'Ok');
});

test('status and endpoints keep to their models', async (t) => {
  const { client } = await setUp(t);
  assert.deepEqual(statusResponse.parse(await client.status()), await client.status());
  for (const one of await client.endpoints()) assert.deepEqual(endpointModel.parse(one), one);
});

test('endpoints are listed by labels, all of which must be carried', async (t) => {
  const { client } = await setUp(t);
  const ids = async (...labels: string[]) => (await client.endpoints(labels)).map(({ id }) => id);
  assert.deepEqual(await ids(), [173, 29]);
  assert.deepEqual(await ids('container:id=app1', 'container:tier=web'), [173]);
  assert.deepEqual(await ids('container:id=app2', 'container:tier=web'), []);
});

test('an endpoint is found under each of its names', async (t) => {
  const { client } = await setUp(t);
  const names = ['29', 'cilium-local:29', 'container-id:c0ffee29', 'container-name:box29', 'docker-endpoint:d0c29'];
  for (const name of [...names, 'ipv4:10.11.0.87', 'ipv6:f00d:0::b08c']) {
    assert.equal((await client.endpoint(name)).id, 29, name);
  }
});

const badEndpointIds: [name: string, code: ErrorCode, text: RegExp][] = [
  ['30', 'NotFound', /endpoint 30 not found/],
  ['x', 'InvalidArgument', /"x" is not an endpoint ID/],
  ['pod-name:a', 'InvalidArgument', /unknown endpoint ID prefix "pod-name" \(known: cilium-local, .*ipv6\)/],
  ['ipv4:10.11', 'InvalidArgument', /"10.11" is not an IP address/],
  ['container-id:c0ffee', 'InvalidArgument', /fits 2 endpoints: 173, 29/],
  ['container-name:', 'InvalidArgument', /nothing after the prefix/],
];
for (const [name, code, text] of badEndpointIds) {
  test(`endpoint ID "${name}" is answered with ${code}`, async (t) => {
    const { client } = await setUp(t);
    await assert.rejects(client.endpoint(name), failsWith(code, text));
  });
}

test('the labels of an endpoint are read and replaced', async (t) => {
  const { client } = await setUp(t);
  await client.setEndpointLabels('29', { user: ['container:blue'], disabled: ['container:id=app2'] });
  const { status } = await client.endpointLabels('29');
  assert.deepEqual(status['security-relevant'], ['container:blue']);
});

test('an unknown field of a request is refused and named', async (t) => {
  const { socketPath, services } = await setUp(t);
  const { status, text } = await raw(socketPath, 'PATCH', '/v1/endpoint/29/labels', '{"user":[],"usr":[]}');
  assert.equal(status, 400);
  assert.match(text, /usr/);
  assert.deepEqual(services.endpointList[1]!.status.labels.realized.user, []);
});

test('identities are found by number and by exactly their labels', async (t) => {
  const { client } = await setUp(t);
  assert.deepEqual(
    (await client.identities()).map(({ id }) => id),
    [1, 2, 41_173, 41_029],
  );
  assert.deepEqual(await client.identity('2'), { id: 2, labels: ['reserved:world'] });
  assert.equal((await client.identities(['container:tier=web', 'container:id=app1']))[0]?.id, 41_173);
  await assert.rejects(client.identities(['container:tier=web']), failsWith('NotFound', /exactly the labels/));
  await assert.rejects(client.identity('9'), failsWith('NotFound', /identity 9 not found/));
  await assert.rejects(client.identity('nine'), failsWith('InvalidArgument', /"nine" is not an identity/));
});

const bare = { endpointSelector: {}, ingress: [{}] };
const rule = { ...bare, labels: [{ key: 'name', value: 'a', source: 'unspec' }] };

test('rules are imported as an array and as a text, and read back', async (t) => {
  const { client, socketPath } = await setUp(t);
  assert.equal((await client.importPolicy([rule])).revision, 2);
  const { status } = await raw(socketPath, 'PUT', '/v1/policy', JSON.stringify(JSON.stringify([bare])));
  assert.equal(status, 200);
  const all = await client.policy();
  assert.equal(all.revision, 3);
  assert.deepEqual(JSON.parse(all.policy), [rule, bare]);
  assert.deepEqual(JSON.parse((await client.policy(['unspec:name=a'])).policy), [rule]);
});

test('the options of an import reach the agent', async (t) => {
  const { client, services } = await setUp(t);
  await client.importPolicy([rule], { replace: true, replaceWithLabels: ['unspec:a', 'unspec:b=c'] });
  assert.deepEqual(services.imports[0]?.options, { replace: true, replaceWithLabels: ['unspec:a', 'unspec:b=c'] });
});

test('items come with the file and the lines where they were written', async (t) => {
  const { client, services } = await setUp(t);
  const sources = [{ file: '/etc/policy.yaml', items: [{ value: rule, lines: [3] }, { value: rule }] }, { items: [] }];
  assert.equal((await client.importPolicy({ sources })).policy, JSON.stringify([rule, rule], undefined, 2));
  assert.deepEqual(services.imports[0]?.sources, sources);
  for (const wrong of [{ sources: [{ items: 5 }] }, { sources: [{ items: [{ value: rule, lines: [0] }] }] }, {}]) {
    await assert.rejects(
      client.importPolicy(wrong as { sources: [] }),
      /body(: expected an array of rules or| field sources.0.items.0.lines.0)/,
    );
  }
});

test('rules of several megabytes are imported, and a body over the limit is refused by size', async (t) => {
  const { client, services, socketPath } = await setUp(t);
  const many = Array.from({ length: 40_000 }, (_, i) => ({ ...rule, description: `rule number ${i}` }));
  await client.importPolicy(many);
  assert.equal(services.rules.length, many.length);
  const { status, text } = await raw(socketPath, 'PUT', '/v1/policy', `"${'x'.repeat(65 * 1024 * 1024)}"`);
  assert.equal(status, 413);
  assert.match(text, /larger than 64 MiB/);
});

for (const [body, text] of [
  ['[', /the body is not JSON/],
  ['"["', /the text in the body is not JSON/],
  ['{}', /body: expected an array of rules/],
  ['null', /body: expected an array of rules/],
  ['"{}"', /not an array of rules/],
  ['3', /body/],
] as const) {
  test(`policy body ${body} is refused and changes nothing`, async (t) => {
    const { socketPath, services } = await setUp(t);
    const answer = await raw(socketPath, 'PUT', '/v1/policy', body);
    assert.equal(answer.status, 400);
    assert.match(answer.text, text);
    assert.equal(services.revision, 1);
  });
}

test('rules are deleted by labels, and labels that no rule carries are an error', async (t) => {
  const { client } = await setUp(t);
  await client.importPolicy([rule, bare]);
  await assert.rejects(client.deletePolicy(['unspec:name=b']), failsWith('NotFound', /no rule carries all/));
  const left = await client.deletePolicy(['unspec:name=a']);
  assert.deepEqual({ deleted: left.deleted, rules: JSON.parse(left.policy) }, { deleted: 1, rules: [bare] });
  assert.equal((await client.deletePolicy([])).deleted, 1);
});

test('configuration is read and changed; names and switches may be spelled as people do', async (t) => {
  const { client } = await setUp(t);
  await client.changeConfig({ options: { debug: 'on' }, 'policy-enforcement': 'always' });
  const { realized } = (await client.config()).status;
  assert.deepEqual([realized.options.Debug, realized['policy-enforcement']], ['Enabled', 'always']);
});

const badChanges: [options: Record<string, string>, message: RegExp][] = [
  [{ Bug: 'on' }, /unknown option "Bug" \(there are: Debug, MonitorAggregationLevel\)/],
  [{ Debug: 'perhaps' }, /option Debug is a switch: "perhaps" is neither true nor false/],
  [{ Debug: 'on', MonitorAggregationLevel: 'Sometimes' }, /cannot be "Sometimes"/],
];
for (const [options, message] of badChanges) {
  test(`the change ${JSON.stringify(options)} is refused and nothing is changed`, async (t) => {
    const { client } = await setUp(t);
    const before = await client.config();
    await assert.rejects(client.changeConfig({ options }), failsWith('InvalidArgument', message));
    assert.deepEqual(await client.config(), before);
  });
}

test('an unknown map and an unknown path are answered with 404 and JSON', async (t) => {
  const { client, socketPath } = await setUp(t);
  await assert.rejects(client.map('cilium_nothing'), failsWith('NotFound', /map cilium_nothing not found/));
  const { status, text } = await raw(socketPath, 'GET', '/v1/nothing');
  assert.equal(status, 404);
  assert.deepEqual(JSON.parse(text), {
    code: 'NotFound',
    message: 'GET /v1/nothing is not part of the API',
    details: {},
  });
});

test('an error that nobody foresaw is a 500, and the agent goes on', async (t) => {
  const { client, services } = await setUp(t);
  services.status = () => {
    throw new TypeError('surprise');
  };
  await assert.rejects(client.status(), failsWith('Internal', /request failed: surprise/));
  assert.equal((await client.version()).Version, '7.8.9');
});

test('without an agent the client says which socket it tried', async () => {
  await assert.rejects(
    new CiliumClient('/nonexistent/c.sock').status(),
    failsWith('AgentUnavailable', /\/nonexistent\/c\.sock/),
  );
});

test('an agent that does not answer in time is a timeout', async (t) => {
  const { services, socketPath } = await setUp(t);
  services.status = () => new Promise(() => undefined);
  await assert.rejects(new CiliumClient(socketPath, 20).status(), failsWith('Timeout', /timeout exceeded/));
});

test('events reach a monitor in order and as they were, and it is forgotten when it hangs up', async (t) => {
  const { client, services } = await setUp(t);
  const abort = new AbortController();
  const stream = await client.monitor(abort.signal);
  const [listener] = services.listeners;
  assert.ok(listener);
  const reused = Buffer.from([4, 5, 6]);
  listener.record(reused);
  reused.fill(0); // the bytes are the ring's: they change after the call
  listener.lost(3);
  listener.agent({ type: 'Policy updated', message: { revision: 2 } });
  const frames: [kind: number, payload: Buffer][] = [];
  const reader = new FrameReader((kind, payload) => frames.push([kind, Buffer.from(payload)]));
  for await (const chunk of stream) {
    reader.push(chunk as Buffer);
    if (frames.length === 3) break;
  }
  assert.deepEqual(
    frames.map(([kind]) => kind),
    [FRAME_KINDS.record, FRAME_KINDS.lost, FRAME_KINDS.agent],
  );
  assert.deepEqual([...frames[0]![1]], [4, 5, 6]);
  assert.equal(frames[1]![1].readBigUInt64LE(), 3n);
  assert.deepEqual(JSON.parse(frames[2]![1].toString()), { type: 'Policy updated', message: { revision: 2 } });
  abort.abort();
  while (services.listeners.size > 0) await new Promise(setImmediate);
});

test('a monitor that does not read costs a bounded amount of memory and learns what it lost', async (t) => {
  const { client, services } = await setUp(t);
  const abort = new AbortController();
  t.after(() => abort.abort());
  const stream = await client.monitor(abort.signal);
  const [listener] = services.listeners;
  assert.ok(listener);
  const record = Buffer.alloc(1000, 7);
  const sent = Math.ceil((3 * LISTENER_BOUND_BYTES) / record.length);
  for (let i = 0; i < sent; i++) listener.record(record);
  let received = 0;
  let lost = 0;
  const reader = new FrameReader((kind, payload) => {
    if (kind === FRAME_KINDS.record) received += 1;
    if (kind === FRAME_KINDS.lost) lost += Number(payload.readBigUInt64LE());
  });
  for await (const chunk of stream) {
    reader.push(chunk as Buffer);
    if (received + lost >= sent) break;
  }
  assert.equal(received + lost, sent);
  assert.ok(received * record.length <= LISTENER_BOUND_BYTES + 2 * record.length, `${received} records were kept`);
});
