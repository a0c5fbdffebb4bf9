// SPDX-License-Identifier: Apache-2.0

/**
 * The node's devices, addresses and routes, as the rest of the agent sees them.
 *
 * All is synchronous but `deleteLink`, which waits for a grace period on a worker thread, one at a time.
 */
import type { IpAddress } from '../../net/ip.ts';
import type { MacAddress } from '../../net/mac.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { SerialQueue } from '../../runtime/serial-queue.ts';
import { isErrno } from '../ffi/errno.ts';
import * as addresses from './address.ts';
import * as links from './link.ts';
import { RouteSocket, RouteSubscription } from './route-socket.ts';
import * as routes from './route.ts';
import { addVxlan, type VxlanRequest } from './vxlan.ts';

const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV6_IFADDR = 0x100;

/** Deletions waiting at most; each takes 10-30 ms. */
const MAX_QUEUED_DELETIONS = 4096;

export interface VethRequest {
  readonly hostName: string;
  readonly peerName: string;
  readonly hostMac: MacAddress;
  readonly peerMac: MacAddress;
  readonly mtu: number;
  /** Shown by `ip link`; at most 255 bytes. */
  readonly alias?: string;
}

export interface VethPair {
  readonly hostIfindex: number;
  readonly peerIfindex: number;
}

export interface Unsubscribe {
  close(): void;
}

export class Links {
  readonly #socket: RouteSocket;
  /** Used by one deletion at a time: see `RouteSocket.requestAsync`. */
  readonly #slowSocket: RouteSocket;
  readonly #slowQueue = new SerialQueue('link deletion', MAX_QUEUED_DELETIONS);
  readonly #attach: (hostIfindex: number) => void;

  /** @param attach puts the container programs on the host side of a new pair, before it is up */
  constructor(attach: (hostIfindex: number) => void) {
    this.#attach = attach;
    this.#socket = new RouteSocket();
    try {
      this.#slowSocket = new RouteSocket();
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** Waits for the deletions that are under way. */
  async close(): Promise<void> {
    await this.#slowQueue.drain();
    this.#socket.close();
    this.#slowSocket.close();
  }

  /** The pair of a container: programs attached, host side up, peer down and in this namespace. Throws EEXIST when a name is taken. */
  createVeth(request: VethRequest): VethPair {
    const { hostName, peerName, hostMac, peerMac, mtu, alias } = request;
    links.addVeth(this.#socket, { name: hostName, mac: hostMac, mtu }, { name: peerName, mac: peerMac, mtu });
    try {
      const hostIfindex = this.#ifindex(hostName);
      const peerIfindex = this.#ifindex(peerName);
      this.#attach(hostIfindex);
      const change = { up: true, generateAddresses: false };
      links.changeLink(this.#socket, hostIfindex, alias === undefined ? change : { ...change, alias });
      return { hostIfindex, peerIfindex };
    } catch (error) {
      void this.deleteLink(hostName).catch(() => undefined);
      throw error;
    }
  }

  /** Deletes a device, of a veth both ends; false when it was not there. */
  deleteLink(name: string): Promise<boolean> {
    return this.#slowQueue.run(async () => {
      try {
        await this.#slowSocket.requestAsync(`delete device ${name}`, links.deleteLinkMessage(name));
        return true;
      } catch (error) {
        if (isErrno(error, 'ENODEV')) return false;
        throw error;
      }
    });
  }

  getLink(name: string): links.Link | undefined {
    return links.getLink(this.#socket, name);
  }

  list(): links.Link[] {
    return links.listLinks(this.#socket);
  }

  /** A pair without programs, both ends down. */
  addPlainVeth(host: links.VethEnd, peer: links.VethEnd): void {
    links.addVeth(this.#socket, host, peer);
  }

  /** An external VXLAN device, down. */
  addVxlan(request: VxlanRequest): void {
    addVxlan(this.#socket, request);
  }

  change(ifindex: number, change: links.LinkChange): void {
    links.changeLink(this.#socket, ifindex, change);
  }

  /** Adds a global address, usable at once, without a route to its prefix; false when it was there. */
  addAddress(ifindex: number, address: IpAddress, prefixLength: number = address.bits): boolean {
    return addresses.addAddress(this.#socket, ifindex, address, prefixLength);
  }

  /** False when the device did not have it. */
  deleteAddress(ifindex: number, address: IpAddress, prefixLength: number = address.bits): boolean {
    return addresses.deleteAddress(this.#socket, ifindex, address, prefixLength);
  }

  /** Of one device, or of all. */
  listAddresses(ifindex?: number): addresses.InterfaceAddress[] {
    return addresses.listAddresses(this.#socket, ifindex);
  }

  /** Adds a route of global scope, marked as ours; false when there is one to the same prefix. */
  addRoute(route: routes.Route): boolean {
    return routes.addRoute(this.#socket, route);
  }

  /** False when there was no such route of ours. */
  deleteRoute(route: routes.Route): boolean {
    return routes.deleteRoute(this.#socket, route);
  }

  listRoutes(): routes.ListedRoute[] {
    return routes.listRoutes(this.#socket);
  }

  /** Calls `listener` after addresses of this namespace changed; it reads the present ones itself. */
  onAddressChange(listener: () => void): Unsubscribe {
    return new RouteSubscription(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, listener);
  }

  #ifindex(name: string): number {
    const link = this.getLink(name);
    if (link === undefined) throw new CiliumError('NotFound', `device ${name} vanished while it was set up`);
    return link.ifindex;
  }
}
