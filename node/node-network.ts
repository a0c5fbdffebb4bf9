// SPDX-License-Identifier: Apache-2.0

/**
 * What the kernel is told of the nodes: the way to each node's containers, and who the addresses of nodes are.
 *
 * - Range of another node: with tunnels routed to cilium_host, natively to the node itself if it is on one of our links,
 *   else left to the network's routers. In ipcache it has no identity: an address in it that is not known yet is nobody's,
 *   above all not the world's. So has this node's own range.
 * - Pool of a network that this node has a part of: nobody's, too, where no node has claimed it.
 * - Router of another node: remote-node, by the tunnel. Its addresses towards us: remote-node, as the network goes.
 * - Router of this node: on cilium_host, source of what the node itself sends to other nodes' containers.
 *
 * Desired and present state are compared as a whole, once for all changes that come together, and the difference is made:
 * so what an agent that was killed left behind is found like everything else. Cost: O(nodes), some 10 µs each.
 */
import type { Route, ListedRoute } from '../datapath/netlink/route.ts';
import { ROUTE_PROTOCOL } from '../datapath/netlink/route.ts';
import { RESERVED_IDENTITIES } from '../identity/numeric-identity.ts';
import type { IpcacheEntry, IpcacheVoice } from '../ipcache/ipcache.ts';
import { type IpAddress, type IpFamily, Prefix } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import { Controller, type ControllerStatus } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { addressesOf, byFamily, nodeRanges, router, tunnelEndpoint, type ByFamily, type ClusterNode } from './node.ts';

export interface NetworkLinks {
  addAddress(ifindex: number, address: IpAddress): boolean;
  listAddresses(): readonly { readonly ifindex: number; readonly address: IpAddress; readonly prefixLength: number }[];
  addRoute(route: Route): boolean;
  deleteRoute(route: Route): boolean;
  listRoutes(): readonly ListedRoute[];
}

export interface NodeNetworkOptions {
  /** The three are to be had once the datapath has started. */
  readonly links: () => NetworkLinks;
  readonly hostIfindex: () => number;
  readonly routers: () => ByFamily<IpAddress>;
  readonly mode: 'tunnel' | 'native';
  /** By which of its addresses another node is reached. */
  readonly underlay: IpFamily;
  readonly ipcache: IpcacheVoice;
  readonly local: () => ClusterNode;
  /** Whole pools of this node's networks, of which it may have a part only. */
  readonly pools: () => Iterable<Prefix>;
  readonly others: () => Iterable<ClusterNode>;
  /** This node's addresses are another's by now: nothing may pass between it and the others. */
  readonly isApart: () => boolean;
  readonly log: Logger;
  readonly clock?: Clock;
}

interface Wanted {
  readonly routes: Map<string, Route>;
  readonly entries: Map<string, { readonly prefix: Prefix; readonly entry: IpcacheEntry }>;
}

const NOBODY = RESERVED_IDENTITIES.unknown;
const REMOTE_NODE = RESERVED_IDENTITIES['remote-node'];

/** How often routes are compared with what they should be, against hands from outside. */
const COMPARE_INTERVAL_MS = 5 * 60_000;

export class NodeNetwork implements Component {
  readonly name = 'node-network';
  readonly #options: NodeNetworkOptions;
  readonly #entries = new Map<string, { readonly prefix: Prefix; readonly entry: IpcacheEntry }>();
  #wanted: Wanted = { routes: new Map(), entries: new Map() };
  /** What was said to be unreachable, to say it once. */
  readonly #unreachable = new Map<string, string>();
  /** Routes wanted at the last comparison. */
  #routed = new Set<string>();
  readonly #comparison: Controller;
  #isDue = false;
  #isStarted = false;

  constructor(options: NodeNetworkOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#comparison = new Controller({
      name: 'node-network-compare',
      run: () => Promise.resolve().then(() => this.#reconcile()),
      intervalMs: COMPARE_INTERVAL_MS,
      log,
      ...(clock && { clock }),
    });
  }

  /** Puts the router on cilium_host and does what there is to do. */
  start(): Promise<void> {
    const links = this.#options.links();
    const routers = this.#options.routers();
    for (const address of [routers[4], routers[6]]) links.addAddress(this.#options.hostIfindex(), address);
    this.#isStarted = true;
    this.#attempt();
    this.#comparison.start();
    return Promise.resolve();
  }

  /** Leaves everything as it is: packets go on. */
  async stop(): Promise<void> {
    this.#isStarted = false;
    await this.#comparison.stop();
  }

  /** Nodes or the node's own addresses have changed; what comes together is done together. */
  changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      if (this.#isStarted) this.#attempt();
    });
  }

  get status(): ControllerStatus {
    return this.#comparison.status;
  }

  /** Whether a route on cilium_host is wanted here. */
  wantsRoute(prefix: Prefix): boolean {
    return this.#wanted.routes.has(prefix.toString());
  }

  /** Whether this is an address that cilium_host has from here. */
  isRouter(address: IpAddress): boolean {
    return this.#options.routers()[address.family].equals(address);
  }

  #attempt(): void {
    try {
      this.#reconcile();
    } catch (error) {
      this.#options.log.error('Cannot follow nodes', { error });
      this.#comparison.trigger();
    }
  }

  #reconcile(): void {
    this.#wanted = this.#want();
    this.#setEntries(this.#wanted.entries);
    this.#setRoutes(this.#wanted.routes);
  }

  #want(): Wanted {
    const { local, others, pools, isApart, mode, underlay, hostIfindex, routers, links } = this.#options;
    const wanted: Wanted = { routes: new Map(), entries: new Map() };
    const apart = isApart();
    const say = (prefix: Prefix, said: IpcacheEntry): void => {
      const entry = apart ? { identity: NOBODY } : said;
      if (!wanted.entries.has(prefix.toString())) wanted.entries.set(prefix.toString(), { prefix, entry });
    };
    for (const range of nodeRanges(local())) say(range, { identity: NOBODY });
    const onLink = mode === 'native' ? onLinkNetworks(links(), hostIfindex()) : [];
    const source = routers();
    for (const node of others()) {
      const endpoint = tunnelEndpoint(node, underlay);
      for (const address of addressesOf(node, 'InternalIP')) say(Prefix.of(address), { identity: REMOTE_NODE });
      if (endpoint === undefined) {
        this.#complain(node, `it has no IPv${underlay} address`);
        for (const range of nodeRanges(node)) say(range, { identity: NOBODY });
        continue;
      }
      for (const address of Object.values(byFamily((family) => router(node, family)))) {
        if (address !== undefined) say(Prefix.of(address), { identity: REMOTE_NODE, tunnelEndpoint: endpoint });
      }
      for (const prefix of nodeRanges(node)) {
        say(prefix, { identity: NOBODY, tunnelEndpoint: endpoint });
        if (apart || wanted.routes.has(prefix.toString())) continue;
        const route =
          mode === 'tunnel'
            ? { prefix, ifindex: hostIfindex(), source: source[prefix.family] }
            : this.#nativeRoute(node, prefix, onLink, source[prefix.family]);
        if (route !== undefined) wanted.routes.set(prefix.toString(), route);
      }
    }
    const own = nodeRanges(local());
    for (const pool of pools()) if (!own.some((range) => range.contains(pool))) say(pool, { identity: NOBODY });
    return wanted;
  }

  #nativeRoute(node: ClusterNode, prefix: Prefix, onLink: readonly OnLink[], source: IpAddress): Route | undefined {
    const gateway = tunnelEndpoint(node, prefix.family);
    const device = gateway && onLink.find(({ network }) => network.contains(gateway));
    if (device !== undefined) return { prefix, ifindex: device.ifindex, gateway, source };
    this.#complain(
      node,
      `no device of this node is on one link with it: the network has to route ${prefix.toString()}`,
    );
    return undefined;
  }

  #complain({ name }: ClusterNode, reason: string): void {
    if (this.#unreachable.get(name) === reason) return;
    this.#unreachable.set(name, reason);
    this.#options.log.warn('No way to a node of our making', { node: name, reason });
  }

  /** Of two routes to one prefix the new one comes after the old one is gone: packets between are lost, not misled. */
  #setRoutes(routes: ReadonlyMap<string, Route>): void {
    const { links, hostIfindex, log } = this.#options;
    const host = hostIfindex();
    const missing = new Map(routes);
    for (const present of links().listRoutes()) {
      if (present.protocol !== ROUTE_PROTOCOL) continue;
      const text = present.prefix.toString();
      const wanted = routes.get(text);
      if (wanted !== undefined && sameRoute(wanted, present)) missing.delete(text);
      // Other routes on cilium_host are those of this node's networks.
      else if (wanted !== undefined || present.ifindex !== host || this.#routed.has(text)) links().deleteRoute(present);
    }
    this.#routed = new Set(routes.keys());
    for (const [text, route] of missing) {
      if (!links().addRoute(route)) log.warn('A route of somebody else is in the way', { prefix: text });
    }
  }

  /** Additions first, so that no address is the world's for a moment. */
  #setEntries(entries: Wanted['entries']): void {
    const { ipcache } = this.#options;
    for (const [text, wanted] of entries) {
      const present = this.#entries.get(text)?.entry;
      if (present !== undefined && sameIpcacheEntry(present, wanted.entry)) continue;
      this.#entries.set(text, wanted);
      ipcache.upsert(wanted.prefix, wanted.entry);
    }
    for (const [text, { prefix }] of this.#entries) {
      if (entries.has(text)) continue;
      this.#entries.delete(text);
      ipcache.delete(prefix);
    }
  }
}

interface OnLink {
  readonly network: Prefix;
  readonly ifindex: number;
}

/** Networks that the node's devices, other than ours, are in; the longest first. */
function onLinkNetworks(links: NetworkLinks, hostIfindex: number): OnLink[] {
  return links
    .listAddresses()
    .filter(({ ifindex, address, prefixLength }) => ifindex !== hostIfindex && prefixLength < address.bits)
    .map(({ ifindex, address, prefixLength }) => ({ ifindex, network: new Prefix(address, prefixLength) }))
    .sort((a, b) => b.network.length - a.network.length);
}

function sameRoute(a: Route, b: Route): boolean {
  return a.ifindex === b.ifindex && String(a.gateway) === String(b.gateway) && String(a.source) === String(b.source);
}

function sameIpcacheEntry(a: IpcacheEntry, b: IpcacheEntry): boolean {
  return a.identity === b.identity && String(a.tunnelEndpoint) === String(b.tunnelEndpoint);
}
