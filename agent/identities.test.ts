// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerInfo } from '../endpoint/endpoint.ts';
import { LabelFilter, VOLATILE_DOCKER_PATTERNS } from '../identity/label-filter.ts';
import { Prefix } from '../net/ip.ts';
import { PORT_LABEL_PATTERN } from '../policy/named-ports.ts';
import { silentLogger } from '../runtime/logger.ts';
import { re2 } from '../runtime/re2.ts';
import { CidrIdentities, Identities, isIdentityLabels, type GlobalAllocator } from './identities.ts';
import { PortNames } from './named-ports.ts';

const NO_CHANGES = { added: [], disabled: [] };

class Allocator implements GlobalAllocator {
  readonly users = new Map<string, number>();
  #listener: (event: { type: 'upsert' | 'delete'; id: number; labels: string }) => void = () => undefined;

  allocate(labels: string): Promise<number> {
    this.users.set(labels, (this.users.get(labels) ?? 0) + 1);
    return Promise.resolve(300 + [...this.users.keys()].indexOf(labels));
  }

  restore(labels: string, id: number): Promise<number> {
    return labels.includes('old') ? this.allocate(labels).then(() => id) : this.allocate(labels);
  }

  release(labels: string): void {
    this.users.set(labels, this.users.get(labels)! - 1);
  }

  onChange(listener: (event: { type: 'upsert' | 'delete'; id: number; labels: string }) => void): void {
    this.#listener = listener;
  }

  move: (move: { labels: string; to: number }) => Promise<void> = () => Promise.resolve();

  onMove(listener: (move: { labels: string; to: number }) => Promise<void>): void {
    this.move = listener;
  }

  list(): { id: number; labels: string }[] {
    return [{ id: 999, labels: 'container:id=elsewhere;' }];
  }

  tell(event: { type: 'upsert' | 'delete'; id: number; labels: string }): void {
    this.#listener(event);
  }
}

function setUp(
  networkName?: (id: string) => Promise<string>,
  patterns: string[] = [],
): {
  identities: Identities;
  allocator: Allocator;
  known: Map<number, string>;
  syncs: () => number;
  /** Port names that count, with their numbers. */
  portNames: Map<number, string>;
} {
  const allocator = new Allocator();
  const known = new Map<number, string>();
  const portNames = new Map<number, string>();
  let syncs = 0;
  const identities = new Identities({
    allocator,
    filter: new LabelFilter({ builtIn: [...VOLATILE_DOCKER_PATTERNS, PORT_LABEL_PATTERN], patterns, regex: re2 }),
    consumer: {
      addIdentity: (id, labels) => void known.set(id, labels.toString()),
      removeIdentity: (id) => void known.delete(id),
    },
    portNames: new PortNames({
      consumer: {
        setNamedPorts: (id, ports) => {
          if (ports.size === 0) portNames.delete(id);
          else portNames.set(id, Array.from(ports, ([name, { port }]) => `${name}=${port}`).join());
        },
      },
      log: silentLogger,
    }),
    syncPolicy: () => syncs++,
    networkName,
  });
  return { identities, allocator, known, syncs: () => syncs, portNames };
}

function container(labels: Record<string, string>): ContainerInfo {
  return { id: 'c1', name: 'app', image: 'web', labels };
}

test('an identity is known to the repository before it is answered', async () => {
  const { identities, known } = setUp();
  const { identity, labels } = await identities.acquire(container({ id: 'app1' }), NO_CHANGES, 'n1');
  assert.equal(labels, 'container:id=app1;');
  assert.equal(known.get(identity), labels);
});

test('volatile labels of Compose make no identity of their own', async () => {
  const { identities } = setUp();
  const labels = { id: 'app1', 'com.docker.compose.config-hash': 'abc', 'com.docker.compose.service': 'web' };
  const first = await identities.acquire(container(labels), NO_CHANGES, 'n1');
  const second = await identities.acquire(
    container({ ...labels, 'com.docker.compose.config-hash': 'def' }),
    NO_CHANGES,
    'n1',
  );
  assert.equal(second.identity, first.identity);
  assert.match(first.labels, /compose\.service=web/);
});

test("labels of Kubernetes' own keys have it as source", async () => {
  const { identities } = setUp();
  const labels = { id: 'app1', 'io.kubernetes.pod.namespace': 'shop' };
  const acquired = await identities.acquire(container(labels), NO_CHANGES, 'n1');
  assert.equal(acquired.labels, 'container:id=app1;k8s:io.kubernetes.pod.namespace=shop;');
});

test('containers without labels share an identity of their own, which is not init', async () => {
  const { identities, allocator } = setUp();
  const { identity, labels } = await identities.acquire(container({}), NO_CHANGES, 'n1');
  assert.equal(labels, 'docker:unlabelled=;');
  assert.ok(identity >= 256);
  await identities.release(labels);
  assert.equal(allocator.users.get(labels), 0);
});

test('labels set by hand are added and taken away', async () => {
  const { identities } = setUp();
  const changes = { added: ['container:tier=web'], disabled: ['container:id=app1'] };
  const { labels } = await identities.acquire(container({ id: 'app1', team: 'a' }), changes, 'n1');
  assert.equal(labels, 'container:team=a;container:tier=web;');
});

test('the name of the network becomes a label where that is asked for', async () => {
  const { identities } = setUp((id) => Promise.resolve(`name-of-${id}`));
  const { labels } = await identities.acquire(container({ id: 'app1' }), NO_CHANGES, 'n1');
  assert.equal(labels, 'container:id=app1;docker:network=name-of-n1;');
});

test('names of ports count as long as an endpoint has them', async () => {
  const { identities, portNames, syncs } = setUp(undefined, ['id']);
  const labels = { id: 'app1', ignored: '1', 'io.cilium.port.http': '8080/tcp' };
  const first = await identities.acquire(container(labels), NO_CHANGES, 'n1');
  assert.equal(first.labels, 'container:id=app1;container:io.cilium.port.http=8080/tcp;', 'whatever --labels names');
  await identities.reacquire(first.labels, first.identity);
  assert.deepEqual([...portNames], [[first.identity, 'http=8080']]);
  await identities.release(first.labels);
  assert.equal(portNames.size, 1);
  assert.equal(syncs(), 0);
  await identities.release(first.labels);
  assert.equal(portNames.size, 0);
  assert.equal(syncs(), 1, 'what the names opened is closed at once');
});

test('a container whose label names no port does not start', async () => {
  const { identities, allocator, portNames } = setUp();
  await assert.rejects(identities.acquire(container({ 'io.cilium.port.http': '80 80' }), NO_CHANGES, 'n1'), {
    code: 'InvalidArgument',
    message: /^label "container:io\.cilium\.port\.http=80 80": expected a port .*; correct the label/,
  });
  assert.equal(allocator.users.size, 0);
  assert.equal(await identities.reacquire('container:io.cilium.port.http=old;', 4711), 4711);
  assert.equal(portNames.size, 0, 'one that runs already is left alone');
});

test('labels whose number changes take their port names along before endpoints are told', async () => {
  const { identities, allocator, portNames, syncs } = setUp(undefined, ['id']);
  identities.follow();
  const { identity, labels } = await identities.acquire(
    container({ 'io.cilium.port.http': '8080/tcp' }),
    NO_CHANGES,
    'n1',
  );
  const told: unknown[] = [];
  identities.onMove((...move) => {
    told.push([...move, [...portNames], syncs()]);
    return Promise.resolve();
  });
  await allocator.move({ labels, to: identity + 7 });
  assert.deepEqual(told, [[labels, identity + 7, [[identity + 7, 'http=8080']], 1]]);
  await identities.release(labels);
  assert.equal(portNames.size, 0);
});

for (const [text, expected] of [
  ['container:id=app1;', true],
  ['container:id=app1;container:tier=;', true],
  ['', false],
  ['bad', false],
  [';', false],
  ['container:id=app1', false],
  ['container:tier=;container:id=app1;', false],
  ['reserved:host=;', false],
  ['{"json":1}', false],
] as const) {
  test(`${JSON.stringify(text)} ${expected ? 'is' : 'is not'} what nodes share identities for`, () => {
    assert.equal(isIdentityLabels(text), expected);
  });
}

test('identities of other nodes come and go, each change followed by a sync of policy', () => {
  const { identities, allocator, known, syncs } = setUp();
  identities.follow();
  assert.equal(known.get(999), 'container:id=elsewhere;');
  allocator.tell({ type: 'upsert', id: 500, labels: 'container:id=far;' });
  assert.equal(known.get(500), 'container:id=far;');
  allocator.tell({ type: 'delete', id: 500, labels: 'container:id=far;' });
  assert.equal(known.has(500), false);
  assert.equal(syncs(), 2);
});

test('a prefix has its identity in ipcache only from publish on, and loses it at once', () => {
  const entries = new Map<string, number>();
  const released: string[] = [];
  const cidrs = new CidrIdentities(
    { acquire: () => 0x01000001, release: (labels) => void released.push(labels) },
    {
      upsert: (prefix, { identity }) => void entries.set(prefix.toString(), identity),
      delete: (prefix) => void entries.delete(prefix.toString()),
    },
  );
  const prefix = Prefix.parse('10.1.0.0/16');
  cidrs.acquire(prefix);
  assert.equal(entries.size, 0);
  cidrs.publish();
  assert.deepEqual([...entries], [['10.1.0.0/16', 0x01000001]]);
  cidrs.release(prefix);
  assert.equal(entries.size, 0);
  assert.equal(released.length, 1);
});

test('all of a family is the world itself', () => {
  const never = (): never => assert.fail('not to be called');
  const cidrs = new CidrIdentities({ acquire: never, release: never }, { upsert: never, delete: never });
  assert.equal(cidrs.acquire(Prefix.parse('0.0.0.0/0')), 9);
  cidrs.publish();
  cidrs.release(Prefix.parse('0.0.0.0/0'));
});
