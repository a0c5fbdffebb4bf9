// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps cil_from_netdev on every device of the node that leads outside, and a record of the addresses it masquerades with.
 *
 * Such a device has a global address, is an Ethernet one (the programs read its header), and is neither lo nor ours. Changes are followed through netlink, folded:
 * a burst costs one look at all devices.
 */
import type { IpFamily } from '../../net/ip.ts';
import { describeError } from '../../errors/cilium-error.ts';
import type { Logger } from '../../runtime/logger.ts';
import { isErrno } from '../ffi/errno.ts';
import { type BpfProgram, detachProgram, TC_INGRESS } from '../ffi/bpf-program.ts';
import type { DeviceInfo, DeviceMap } from '../maps/device-map.ts';
import { type InterfaceAddress, SCOPE_GLOBAL } from '../netlink/address.ts';
import type { Link } from '../netlink/link.ts';
import type { Links, Unsubscribe } from '../netlink/links.ts';

/** lo, cilium_host and its kin, host sides and not yet moved container sides of our veth pairs. */
const NOT_OUTSIDE = /^(lo$|cilium_|lxc|tmp)/;

/** How long changes are gathered before the devices are looked at. */
const GATHER_MS = 50;

export interface DeviceTrackerDeps {
  readonly links: Pick<Links, 'list' | 'listAddresses' | 'onAddressChange'>;
  readonly devices: Pick<DeviceMap, 'update' | 'delete' | 'entries'>;
  readonly program: Pick<BpfProgram, 'attach'>;
  readonly log: Logger;
}

export class DeviceTracker {
  readonly #deps: DeviceTrackerDeps;
  /** What the kernel has: the record of each device, as text to compare. */
  readonly #known = new Map<number, string>();
  #subscription: Unsubscribe | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: DeviceTrackerDeps) {
    this.#deps = deps;
  }

  /** Takes over what an earlier agent left, puts the present program everywhere, and follows changes from now on. */
  start(): void {
    this.#subscription = this.#deps.links.onAddressChange(() => this.#schedule());
    for (const { ifindex } of this.#deps.devices.entries()) this.#known.set(ifindex, '');
    this.refresh();
  }

  /** Stops following; programs and records stay. May be called twice. */
  stop(): void {
    this.#subscription?.close();
    this.#subscription = undefined;
    clearTimeout(this.#timer);
  }

  /** Looks at the devices now and changes what differs. */
  refresh(): void {
    const { links, devices, program, log } = this.#deps;
    const present = new Map(links.list().map((link) => [link.ifindex, link]));
    const wanted = outsideDevices(present, links.listAddresses());
    for (const [ifindex, info] of wanted) {
      const text = `${info.ipv4?.toString() ?? ''} ${info.ipv6?.toString() ?? ''}`;
      if (this.#known.get(ifindex) === text) continue;
      if (!this.#attach(ifindex, program)) continue;
      devices.update(ifindex, info);
      this.#known.set(ifindex, text);
      log.info('Watch device', { interface: present.get(ifindex)!.name, ipAddr: text.trim() });
    }
    for (const ifindex of this.#known.keys()) {
      if (wanted.has(ifindex)) continue;
      devices.delete(ifindex);
      if (present.has(ifindex)) detachProgram(ifindex, TC_INGRESS);
      this.#known.delete(ifindex);
    }
  }

  /** False when the device went away meanwhile. */
  #attach(ifindex: number, program: Pick<BpfProgram, 'attach'>): boolean {
    try {
      program.attach(ifindex, TC_INGRESS);
      return true;
    } catch (error) {
      if (isErrno(error, 'ENODEV', 'EINVAL')) return false;
      throw error;
    }
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      try {
        this.refresh();
      } catch (error) {
        this.#deps.log.error('Cannot follow devices', { error: describeError(error) });
      }
    }, GATHER_MS).unref();
  }
}

/** The devices that lead outside, and the first settled global address of each family. */
export function outsideDevices(
  links: ReadonlyMap<number, Pick<Link, 'name' | 'mac'>>,
  addresses: readonly InterfaceAddress[],
): Map<number, DeviceInfo> {
  const devices = new Map<number, DeviceInfo>();
  for (const { ifindex, address, scope, unsettled } of addresses) {
    const link = links.get(ifindex);
    if (link?.mac === undefined || NOT_OUTSIDE.test(link.name) || scope !== SCOPE_GLOBAL || unsettled) continue;
    const info = devices.get(ifindex) ?? {};
    const field = FIELDS[address.family];
    if (info[field] === undefined) devices.set(ifindex, { ...info, [field]: address });
  }
  return devices;
}

const FIELDS = { 4: 'ipv4', 6: 'ipv6' } as const satisfies Record<IpFamily, keyof DeviceInfo>;
