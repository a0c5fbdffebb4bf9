// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROUTE_PROTOCOL, type ListedRoute, type Route } from '../datapath/netlink/route.ts';
import { Ipcache } from '../ipcache/ipcache.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { ManualClock } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import { NodeNetwork, type NetworkLinks } from './node-network.ts';
import { byFamily, lastUsable, type ClusterNode } from './node.ts';

const HOST = 7;
const WIRE = 2;
const BOOT = 3;
const ip = (text: string): IpAddress => IpAddress.parse(text);

function makeNode(number: number, changes: Partial<ClusterNode> = {}): ClusterNode {
  const ranges = [Prefix.parse(`10.${number}.0.0/16`), Prefix.parse(`fd0${number}::/64`)] as const;
  return {
    name: `n${number}`,
    cluster: 'default',
    addresses: [
      { type: 'InternalIP', ip: ip(`192.0.2.${number}`) },
      { type: 'InternalIP', ip: ip(`2001:db8::${number}`) },
      ...ranges.map((range) => ({ type: 'CiliumInternalIP' as const, ip: lastUsable(range) })),
    ],
    ipv4AllocCidr: ranges[0],
    ipv6AllocCidr: ranges[1],
    ipv4SecondaryAllocCidrs: [],
    ipv6SecondaryAllocCidrs: [],
    ipv4HealthIp: undefined,
    ipv6HealthIp: undefined,
    bootId: '',
    ...changes,
  };
}

/** A kernel of routes and addresses. */
class Kernel implements NetworkLinks {
  routes: ListedRoute[] = [];
  refuses = false;
  addresses = [
    { ifindex: WIRE, address: ip('192.0.2.1'), prefixLength: 24 },
    { ifindex: WIRE, address: ip('2001:db8::1'), prefixLength: 64 },
  ];

  addAddress(ifindex: number, address: IpAddress): boolean {
    this.addresses.push({ ifindex, address, prefixLength: address.bits });
    return true;
  }

  listAddresses() {
    return this.addresses;
  }

  addRoute(route: Route): boolean {
    if (this.refuses) throw new Error('ENOMEM');
    if (this.routes.some(({ prefix }) => prefix.equals(route.prefix))) return false;
    this.routes.push({ ...route, protocol: ROUTE_PROTOCOL });
    return true;
  }

  deleteRoute(route: Route): boolean {
    const before = this.routes.length;
    this.routes = this.routes.filter(
      ({ prefix, ifindex, protocol }) =>
        !(prefix.equals(route.prefix) && ifindex === route.ifindex && protocol === ROUTE_PROTOCOL),
    );
    return this.routes.length < before;
  }

  listRoutes(): ListedRoute[] {
    return this.routes;
  }

  /** "10.2.0.0/16 dev 7 via … from …", in order. */
  get texts(): string[] {
    return this.routes
      .map(({ prefix, ifindex, gateway, source }) => {
        return `${prefix.toString()} dev ${ifindex}${gateway ? ` via ${gateway.toString()}` : ''} from ${String(source)}`;
      })
      .sort();
  }
}

class World {
  readonly clock = new ManualClock();
  readonly kernel = new Kernel();
  readonly ipcache = new Ipcache();
  readonly others = new Map<string, ClusterNode>();
  readonly pools: Prefix[] = [];
  isApart = false;
  readonly network: NodeNetwork;

  constructor(mode: 'tunnel' | 'native', underlay: 4 | 6 = 4) {
    const local = makeNode(1);
    this.network = new NodeNetwork({
      links: () => this.kernel,
      hostIfindex: () => HOST,
      routers: () => byFamily((family) => lastUsable(family === 4 ? local.ipv4AllocCidr! : local.ipv6AllocCidr!)),
      mode,
      underlay,
      ipcache: this.ipcache.as('cluster'),
      local: () => local,
      pools: () => this.pools,
      others: () => this.others.values(),
      isApart: () => this.isApart,
      log: silentLogger,
      clock: this.clock,
    });
  }

  async set(...nodes: ClusterNode[]): Promise<void> {
    this.others.clear();
    for (const node of nodes) this.others.set(node.name, node);
    this.network.changed();
    await Promise.resolve();
  }

  /** "10.2.0.0/16 0 192.0.2.2": prefix, identity, tunnel endpoint. */
  get entries(): string[] {
    return Array.from(this.ipcache.entries(), ({ prefix, entry: { identity, tunnelEndpoint } }) => {
      return [prefix, identity, tunnelEndpoint ?? ''].join(' ').trim();
    });
  }
}

function check(name: string, world: World, body: (world: World) => Promise<void>): void {
  test(name, async () => {
    await body(world).finally(() => world.network.stop());
  });
}

check(
  'with tunnels ranges are routed to cilium_host, closed, and the routers are remote nodes',
  new World('tunnel'),
  async (world) => {
    await world.network.start();
    await world.set(makeNode(2));
    assert.deepEqual(world.kernel.texts, [
      '10.2.0.0/16 dev 7 from 10.1.255.254',
      'fd02::/64 dev 7 from fd01::ffff:ffff:ffff:ffff',
    ]);
    assert.deepEqual(world.entries, [
      '10.1.0.0/16 0',
      '10.2.0.0/16 0 192.0.2.2',
      '10.2.255.254/32 6 192.0.2.2',
      '192.0.2.2/32 6',
      '2001:db8::2/128 6',
      'fd01::/64 0',
      'fd02::/64 0 192.0.2.2',
      'fd02::ffff:ffff:ffff:ffff/128 6 192.0.2.2',
    ]);
    assert.ok(
      world.kernel.addresses.some(({ ifindex, address }) => ifindex === HOST && address.equals(ip('10.1.255.254'))),
    );
    assert.ok(world.network.wantsRoute(Prefix.parse('10.2.0.0/16')));
    assert.ok(world.network.isRouter(ip('10.1.255.254')));
    await world.set();
    assert.deepEqual(world.kernel.texts, []);
    assert.deepEqual(world.entries, ['10.1.0.0/16 0', 'fd01::/64 0']);
  },
);

check(
  'over IPv6 tunnels end at IPv6 addresses; a node without one is closed',
  new World('tunnel', 6),
  async (world) => {
    await world.network.start();
    const lame = makeNode(3, { addresses: [{ type: 'InternalIP', ip: ip('192.0.2.3') }] });
    await world.set(makeNode(2), lame);
    assert.ok(world.entries.includes('10.2.0.0/16 0 2001:db8::2'));
    assert.ok(world.entries.includes('10.3.0.0/16 0'));
    assert.ok(!world.network.wantsRoute(Prefix.parse('10.3.0.0/16')));
  },
);

check(
  'natively ranges are routed to nodes on one link, family by family, else left to the network',
  new World('native'),
  async (world) => {
    await world.network.start();
    const far = makeNode(3, { addresses: [{ type: 'InternalIP', ip: ip('198.51.100.3') }] });
    await world.set(makeNode(2), far);
    assert.deepEqual(world.kernel.texts, [
      '10.2.0.0/16 dev 2 via 192.0.2.2 from 10.1.255.254',
      'fd02::/64 dev 2 via 2001:db8::2 from fd01::ffff:ffff:ffff:ffff',
    ]);
    assert.ok(world.entries.includes('10.3.0.0/16 0 198.51.100.3'));
  },
);

check(
  'what an agent left behind is found: stale routes go, right ones stay, others are left alone',
  new World('tunnel'),
  async (world) => {
    const { kernel } = world;
    const source = ip('10.1.255.254');
    kernel.addRoute({ prefix: Prefix.parse('10.9.0.0/16'), ifindex: WIRE, gateway: ip('192.0.2.9'), source });
    kernel.addRoute({ prefix: Prefix.parse('10.2.0.0/16'), ifindex: WIRE, gateway: ip('192.0.2.2'), source });
    kernel.addRoute({ prefix: Prefix.parse('10.3.0.0/16'), ifindex: HOST, source });
    kernel.addRoute({ prefix: Prefix.parse('10.1.5.0/24'), ifindex: HOST, source }); // one of this node's networks
    kernel.routes.push({ prefix: Prefix.parse('10.8.0.0/16'), ifindex: WIRE, protocol: BOOT });
    await world.set(makeNode(2), makeNode(3));
    await world.network.start();
    const four = kernel.texts.filter((text) => text.startsWith('10.'));
    assert.deepEqual(four, [
      '10.1.5.0/24 dev 7 from 10.1.255.254',
      '10.2.0.0/16 dev 7 from 10.1.255.254',
      '10.3.0.0/16 dev 7 from 10.1.255.254',
      '10.8.0.0/16 dev 2 from undefined',
    ]);
  },
);

check('a route of somebody else to the same range is left alone', new World('tunnel'), async (world) => {
  world.kernel.routes.push({ prefix: Prefix.parse('10.2.0.0/16'), ifindex: WIRE, protocol: BOOT });
  await world.network.start();
  await world.set(makeNode(2));
  await world.set();
  assert.deepEqual(world.kernel.texts, ['10.2.0.0/16 dev 2 from undefined']);
});

check(
  'a node that moves to another address or range takes its routes and entries along',
  new World('native'),
  async (world) => {
    await world.network.start();
    await world.set(makeNode(2));
    const moved = makeNode(2, {
      addresses: [{ type: 'InternalIP', ip: ip('192.0.2.20') }],
      ipv4SecondaryAllocCidrs: [Prefix.parse('10.50.1.0/24')],
    });
    await world.set(moved);
    assert.deepEqual(world.kernel.texts, [
      '10.2.0.0/16 dev 2 via 192.0.2.20 from 10.1.255.254',
      '10.50.1.0/24 dev 2 via 192.0.2.20 from 10.1.255.254',
    ]);
    assert.deepEqual(world.entries, [
      '10.1.0.0/16 0',
      '10.2.0.0/16 0 192.0.2.20',
      '10.50.1.0/24 0 192.0.2.20',
      '192.0.2.20/32 6',
      'fd01::/64 0',
      'fd02::/64 0 192.0.2.20',
    ]);
  },
);

check('a subnet that nodes share is closed where nobody has claimed it', new World('tunnel'), async (world) => {
  await world.network.start();
  world.pools.push(Prefix.parse('10.50.0.0/16'), Prefix.parse('10.1.5.0/24'));
  await world.set(makeNode(2, { ipv4SecondaryAllocCidrs: [Prefix.parse('10.50.2.0/24')] }));
  assert.ok(world.entries.includes('10.50.0.0/16 0'));
  assert.ok(world.entries.includes('10.50.2.0/24 0 192.0.2.2'));
  assert.ok(!world.entries.includes('10.1.5.0/24 0'), 'in the range of this node, which is closed');
});

check(
  'a kernel that refuses is asked again, and what others change is put right',
  new World('tunnel'),
  async (world) => {
    await world.network.start();
    world.kernel.refuses = true;
    await world.set(makeNode(2), makeNode(3));
    assert.equal(world.kernel.routes.length, 0);
    world.kernel.refuses = false;
    await world.clock.advance(1_000);
    assert.equal(world.kernel.routes.length, 4);
    world.kernel.routes.splice(1, 2);
    await world.clock.advance(5 * 60_000);
    assert.equal(world.kernel.routes.length, 4);
  },
);

check(
  'a node whose addresses are another one by now keeps away from all others',
  new World('native'),
  async (world) => {
    await world.network.start();
    await world.set(makeNode(2));
    world.isApart = true;
    await world.set(makeNode(2));
    assert.deepEqual(world.kernel.texts, []);
    assert.ok(world.entries.includes('10.2.0.0/16 0'));
    assert.deepEqual(
      world.entries.filter((entry) => !entry.endsWith(' 0')),
      [],
    );
    world.isApart = false;
    await world.set(makeNode(2));
    assert.equal(world.kernel.routes.length, 2);
  },
);
