// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Endpoint, type ContainerNames as Names } from '../endpoint/endpoint.ts';
import type { EndpointListener } from '../endpoint/endpoint-manager.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import { IpAddress } from '../net/ip.ts';
import { MacAddress } from '../net/mac.ts';
import { ManualClock, settle } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { ContainerNames } from './container-names.ts';
import type { NamesOnNetwork } from './docker-names.ts';

const MAC = MacAddress.parse('02:00:00:00:00:01');

/** A Docker with containers in a Map, and endpoints that remember what they are called. */
class World {
  readonly clock = new ManualClock();
  /** Container -> names on its networks. */
  readonly docker = new Map<string, NamesOnNetwork[]>();
  readonly asked: string[] = [];
  /** Containers that are being started: Docker does not answer yet. */
  readonly starting = new Map<string, Promise<void>>();
  isAway = false;
  follows = 0;
  #renamed: (id: string) => void = () => undefined;
  #breakStream: () => void = () => undefined;
  readonly endpoints: Endpoint[] = [];
  readonly #listeners: EndpointListener[] = [];
  readonly names: ContainerNames;

  constructor(t: TestContext) {
    this.names = new ContainerNames({
      docker: {
        ofContainer: async (id) => {
          this.asked.push(id);
          await this.starting.get(id);
          this.#refuseIfAway();
          return this.docker.get(id) ?? [];
        },
        running: () => {
          this.asked.push('all');
          this.#refuseIfAway();
          return Promise.resolve(new Map([...this.docker].map(([id, [first]]) => [id, first!.name])));
        },
        followRenames: async (begun, renamed, signal) => {
          this.#refuseIfAway();
          this.follows++;
          this.#renamed = renamed;
          begun();
          await new Promise<void>((resolve) => {
            this.#breakStream = resolve;
            signal.addEventListener('abort', () => resolve());
          });
        },
      },
      endpoints: {
        list: () => [...this.endpoints],
        rename: (dockerEndpointId, called) => {
          this.#rename(dockerEndpointId, called);
          return Promise.resolve();
        },
        onChange: (listener) => this.#listeners.push(listener),
      },
      log: silentLogger,
      clock: this.clock,
    });
    t.after(() => this.names.stop());
  }

  /** An endpoint of a container, as it is after Join. */
  join(id: string, name: string, endpointId = `ep-${id}`): Endpoint {
    const endpoint = new Endpoint(
      {
        id: this.endpoints.length + 1,
        dockerEndpointId: endpointId,
        networkId: 'n',
        ifName: 'lxc1',
        ifindex: 1,
        hostMac: MAC,
        mac: MAC,
        mtu: 1500,
        internal: false,
        ipv4: IpAddress.parse('10.1.0.1'),
        ipv6: undefined,
      },
      'creating',
      0,
    );
    endpoint.identify({ container: { id, name, image: 'i', labels: {}, network: 'net' }, labels: '', identity: 300 });
    this.endpoints.push(endpoint);
    for (const listener of this.#listeners) listener('created', endpoint);
    return endpoint;
  }

  called(id: string, name: string, ...aliases: string[]): void {
    this.docker.set(id, [{ dockerEndpointId: `ep-${id}`, name, network: 'net', aliases }]);
  }

  renameEvent(id: string): void {
    this.#renamed(id);
  }

  breakStream(): void {
    this.#breakStream();
  }

  #rename(dockerEndpointId: string, called: Names): void {
    const endpoint = this.endpoints.find(({ facts }) => facts.dockerEndpointId === dockerEndpointId);
    const identity = endpoint?.identity;
    if (identity) endpoint.identify({ ...identity, container: { ...identity.container, ...called } });
  }

  #refuseIfAway(): void {
    if (this.isAway) throw new CiliumError('DockerUnavailable', 'ask Docker');
  }
}

function called(endpoint: Endpoint): unknown {
  const { name, aliases } = endpoint.identity!.container;
  return [name, aliases];
}

test('aliases are asked for once when a container starts, and one that starts slowly holds up no other', async (t) => {
  const world = new World(t);
  await world.names.start();
  await settle();
  const slow = Promise.withResolvers<undefined>();
  world.starting.set('c1', slow.promise);
  world.called('c1', 'app1', 'web');
  world.called('c2', 'app2', 'db');
  const first = world.join('c1', 'app1');
  const second = world.join('c2', 'app2');
  await settle();
  assert.deepEqual(
    [called(first), called(second)],
    [
      ['app1', undefined],
      ['app2', ['db']],
    ],
  );
  slow.resolve(undefined);
  await settle();
  assert.deepEqual(called(first), ['app1', ['web']]);
  assert.deepEqual(world.asked, ['all', 'c1', 'c2']);
});

test('a container on two networks has the names of each', async (t) => {
  const world = new World(t);
  await world.names.start();
  world.docker.set('c1', [
    { dockerEndpointId: 'ep-a', name: 'app1', network: 'a', aliases: ['x'] },
    { dockerEndpointId: 'ep-b', name: 'app1', network: 'b', aliases: ['y'] },
  ]);
  const [a, b] = [world.join('c1', 'app1', 'ep-a'), world.join('c1', 'app1', 'ep-b')];
  await settle();
  assert.deepEqual([a.identity?.container.network, called(a)], ['a', ['app1', ['x']]]);
  assert.deepEqual([b.identity?.container.network, called(b)], ['b', ['app1', ['y']]]);
});

test('a new name is heard of', async (t) => {
  const world = new World(t);
  world.called('c1', 'app1');
  const endpoint = world.join('c1', 'app1');
  await world.names.start();
  await settle();
  world.called('c1', 'new');
  world.renameEvent('c1');
  world.renameEvent('not ours');
  await settle();
  assert.deepEqual(called(endpoint), ['new', []]);
  assert.ok(!world.asked.includes('not ours'));
});

test('after a gap in the events all names are compared, and only those asked for that differ', async (t) => {
  const world = new World(t);
  world.called('c1', 'app1');
  world.called('c2', 'app2');
  world.join('c1', 'app1');
  const second = world.join('c2', 'app2');
  await world.names.start();
  await settle();
  world.isAway = true;
  world.breakStream();
  await settle();
  world.called('c2', 'renamed meanwhile');
  world.asked.length = 0;
  world.isAway = false;
  while (world.follows < 2) await world.clock.advance(1_000);
  await settle();
  assert.deepEqual(called(second), ['renamed meanwhile', []]);
  assert.deepEqual(world.asked, ['all', 'c2']);
});

test('an agent that starts before Docker learns the names when it is there', async (t) => {
  const world = new World(t);
  world.isAway = true;
  world.called('c1', 'app1', 'web');
  const endpoint = world.join('c1', 'app1');
  await world.names.start();
  await settle();
  assert.ok(world.names.status.consecutiveFailures > 0);
  world.isAway = false;
  while (endpoint.identity?.container.aliases === undefined) await world.clock.advance(1_000);
  assert.deepEqual(called(endpoint), ['app1', ['web']]);
});

test('a question that failed is asked again', async (t) => {
  const world = new World(t);
  await world.names.start();
  await settle();
  world.called('c1', 'app1', 'web');
  world.docker.set('c1', []); // Docker has not noted the endpoint yet
  const endpoint = world.join('c1', 'app1');
  await settle();
  assert.deepEqual(called(endpoint), ['app1', undefined]);
  world.called('c1', 'app1', 'web');
  while (endpoint.identity?.container.aliases === undefined) await world.clock.advance(1_000);
  assert.deepEqual(called(endpoint), ['app1', ['web']]);
  while (world.names.status.consecutiveFailures > 0) await world.clock.advance(1_000);
});
