// SPDX-License-Identifier: Apache-2.0

/**
 * The kernel side of the node: everything that is loaded, pinned, attached and written there goes through this class.
 *
 * `start` makes or adopts it all; `stop` only lets go of our handles: programs stay attached and maps pinned, so packets
 * flow and policy is enforced without an agent. Starting again replaces the programs one by one, each atomically. That nobody
 * else does the same meanwhile is for the caller to see to: node-lock.ts.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress, IpFamily } from '../net/ip.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { EventReader } from './events/event-reader.ts';
import type { BpfMap } from './ffi/bpf-map.ts';
import { type BpfProgram, TC_EGRESS, TC_INGRESS } from './ffi/bpf-program.ts';
import { adoptOrLoad, dropPins, pinFolders } from './loader/adoption.ts';
import { DeviceTracker } from './loader/device-tracker.ts';
import { ensureHostDevice, type HostDevice } from './loader/host-device.ts';
import { describeMap, type MapDescription, openMaps, type MapName } from './loader/map-set.ts';
import type { ObjectConfig } from './loader/object-loader.ts';
import { checkPreconditions } from './loader/preconditions.ts';
import { masqueradePorts } from './loader/masquerade-ports.ts';
import {
  DEFAULT_TUNNEL_PORT,
  ensureTunnelDevice,
  openTunnel,
  removeTunnelDevice,
  TUNNEL_DEVICE,
  type TunnelOptions,
} from './loader/tunnel-device.ts';
import { CALL_FROM_WIRE, setCall } from './maps/call-map.ts';
import { ConntrackMaps, type FlowMaps } from './maps/conntrack.ts';
import { DeviceMap } from './maps/device-map.ts';
import { EndpointMap } from './maps/endpoint-map.ts';
import { IdentityMap } from './maps/identity-map.ts';
import { IpcacheMap } from './maps/ipcache-map.ts';
import { MetricsMap } from './maps/metrics-map.ts';
import { PolicySlots } from './maps/policy-slots.ts';
import { TunnelSourceMap } from './maps/tunnel-source-map.ts';
import { Links } from './netlink/links.ts';

/** How many trace events there are; the numbers are Cilium's. */
export const AGGREGATION_LEVELS = { none: 0, low: 1, medium: 3, maximum: 4 } as const;
export type AggregationLevel = keyof typeof AGGREGATION_LEVELS;

/** Lifetimes of flows that nothing more is heard of. */
export const DEFAULT_TIMEOUTS = { tcpEstablishedS: 8000, tcpSynS: 60, tcpCloseS: 10, anyS: 60 } as const;
export type ConntrackTimeouts = { readonly [Key in keyof typeof DEFAULT_TIMEOUTS]: number };

const OBJECTS = {
  'bpf_lxc.o': ['cil_from_container', 'cil_to_container'],
  'bpf_host.o': ['cil_from_host'],
  'bpf_netdev.o': ['cil_from_netdev'],
} as const;

/** Loaded only while tunnels are on. */
const OVERLAY = { object: 'bpf_overlay.o', programs: ['cil_from_overlay', 'cil_from_wire'] } as const;

type ProgramName = (typeof OBJECTS)[keyof typeof OBJECTS][number] | (typeof OVERLAY)['programs'][number];

/** Seconds between two trace events of one direction of a flow, at aggregation medium. */
const REPORT_INTERVAL_S = 5;

/** Host sides of containers' veth pairs. */
const CONTAINER_DEVICE = /^lxc/;

export interface DatapathOptions {
  /** A BPF file system: /sys/fs/bpf. */
  readonly bpfRoot: string;
  /** Where the compiled objects are: bpf-src/build. */
  readonly objectDir: string;
  readonly aggregation: AggregationLevel;
  readonly mtu: number;
  readonly log: Logger;
  /** Size of the event ring, a power of two. @default 2 MiB */
  readonly eventsBytes?: number;
  /** Entries of maps that are to differ from the C. */
  readonly mapSizes?: Readonly<Partial<Record<MapName, number>>>;
  /** @default DEFAULT_TIMEOUTS */
  readonly timeouts?: ConntrackTimeouts;
  /** Source of the ICMP errors that the datapath answers. @default the address that was not reached */
  readonly routerAddresses?: Readonly<Partial<Record<IpFamily, IpAddress>>>;
  /** Other nodes are reached through tunnels. @default by the node's routes */
  readonly tunnel?: TunnelOptions;
}

/** Everything that exists between start and stop. */
interface Running {
  readonly links: Links;
  readonly host: HostDevice;
  readonly programs: ReadonlyMap<string, BpfProgram>;
  readonly maps: ReadonlyMap<MapName, BpfMap>;
  readonly tracker: DeviceTracker;
  readonly endpoints: EndpointMap;
  readonly ipcache: IpcacheMap;
  readonly identities: IdentityMap;
  readonly tunnelSource: TunnelSourceMap;
  readonly policy: PolicySlots;
  readonly conntrack: ConntrackMaps;
  readonly devices: DeviceMap;
  readonly metrics: MetricsMap;
  readonly events: EventReader;
}

export class Datapath implements Component {
  readonly name = 'datapath';
  readonly #options: DatapathOptions;
  #running: Running | undefined;

  constructor(options: DatapathOptions) {
    this.#options = options;
  }

  /** cilium_lxc: containers of this node, and the node's own addresses. */
  get endpoints(): EndpointMap {
    return this.#get().endpoints;
  }

  get ipcache(): IpcacheMap {
    return this.#get().ipcache;
  }

  /** Those of the cluster that the policy maps know; needed only where there are other nodes. */
  get identities(): IdentityMap {
    return this.#get().identities;
  }

  /** What ordinary packets of tunnels over IPv4 have as outer source. */
  get tunnelSource(): TunnelSourceMap {
    return this.#get().tunnelSource;
  }

  /** cilium_policy. Its `adopt` has to be called once after start. */
  get policy(): PolicySlots {
    return this.#get().policy;
  }

  get conntrack(): ConntrackMaps {
    return this.#get().conntrack;
  }

  /** cilium_devices; written by this class, which follows the node's addresses. */
  get devices(): DeviceMap {
    return this.#get().devices;
  }

  get metrics(): MetricsMap {
    return this.#get().metrics;
  }

  get links(): Links {
    return this.#get().links;
  }

  get events(): EventReader {
    return this.#get().events;
  }

  /** Index of cilium_host. */
  get hostIfindex(): number {
    return this.#get().host.ifindex;
  }

  describeMaps(): MapDescription[] {
    return [...this.#get().maps.values()].map(describeMap);
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#running !== undefined) throw new CiliumError('Internal', 'the datapath is running');
    signal.throwIfAborted();
    this.#running = await open(this.#options);
  }

  /** Lets go of all handles; the kernel goes on without us. May be called twice. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    running.events.stop();
    running.tracker.stop();
    await running.policy.close();
    await running.links.close();
    for (const handle of [...running.maps.values(), ...running.programs.values()]) handle.close();
  }

  #get(): Running {
    if (this.#running === undefined) throw new CiliumError('Internal', 'the datapath is not running');
    return this.#running;
  }
}

/** Does what `start` says, in the order in which one thing needs the other; undoes it all when something fails. */
async function open(options: DatapathOptions): Promise<Running> {
  const { bpfRoot, objectDir, log } = options;
  checkPreconditions(bpfRoot);
  const undo = new AsyncDisposableStack();
  const keep = <T extends { close(): unknown }>(resource: T): T =>
    undo.adopt(resource, async (it) => {
      await it.close();
    });
  try {
    const programs = new Map<string, BpfProgram>();
    const program = (name: ProgramName): BpfProgram => programs.get(name)!;
    const attach = (ifindex: number): void => {
      program('cil_from_container').attach(ifindex, TC_INGRESS);
      program('cil_to_container').attach(ifindex, TC_EGRESS);
    };
    const folders = pinFolders(bpfRoot);
    const links = keep(new Links(attach));
    const host = ensureHostDevice(links, options.mtu, log);
    const tunnel = options.tunnel && (await ensureTunnelDevice(links, options.tunnel, log));
    const config = buildConfig(options, host, tunnel?.ifindex ?? 0);
    const mapSizes = { ...options.mapSizes, ...(options.eventsBytes && { cilium_events: options.eventsBytes }) };
    const objects = { ...OBJECTS, ...(tunnel && { [OVERLAY.object]: OVERLAY.programs }) };
    for (const [file, programNames] of Object.entries(objects)) {
      const request = { objectPath: `${objectDir}/${file}`, programNames, ...folders, config, mapSizes, log };
      for (const [name, loaded] of adoptOrLoad(request)) {
        programs.set(name, keep(loaded));
      }
    }
    const maps = openMaps(folders.mapDir);
    for (const map of maps.values()) keep(map);
    const map = (name: MapName): BpfMap => maps.get(name)!;

    program('cil_from_host').attach(host.peerIfindex, TC_INGRESS);
    for (const link of links.list()) {
      if (link.kind === 'veth' && CONTAINER_DEVICE.test(link.name)) attach(link.ifindex);
    }
    if (tunnel !== undefined) {
      openTunnel(links, tunnel.ifindex, program('cil_from_overlay'));
      setCall(map('cilium_calls'), CALL_FROM_WIRE, program('cil_from_wire'));
    } else {
      if (await removeTunnelDevice(links)) log.info('Removed device, tunnels are off', { interface: TUNNEL_DEVICE });
      setCall(map('cilium_calls'), CALL_FROM_WIRE, undefined);
      dropPins(OVERLAY.object, OVERLAY.programs, folders);
    }
    const devices = new DeviceMap(map('cilium_devices'));
    const tracker = new DeviceTracker({ links, devices, program: program('cil_from_netdev'), log });
    undo.defer(() => tracker.stop());
    tracker.start();
    const flows: Record<IpFamily, FlowMaps> = {
      4: {
        tcp: map('cilium_ct4_tcp'),
        any: map('cilium_ct4_any'),
        snat: map('cilium_snat4'),
        fragments: map('cilium_ipv4_frag_datagrams'),
      },
      6: {
        tcp: map('cilium_ct6_tcp'),
        any: map('cilium_ct6_any'),
        snat: map('cilium_snat6'),
        fragments: map('cilium_ipv6_frag_datagrams'),
      },
    };
    const running: Running = {
      links,
      host,
      programs,
      maps,
      tracker,
      devices,
      endpoints: new EndpointMap(map('cilium_lxc')),
      ipcache: new IpcacheMap(map('cilium_ipcache')),
      identities: new IdentityMap(map('cilium_identities')),
      tunnelSource: new TunnelSourceMap(map('cilium_tunnel_source')),
      policy: new PolicySlots(map('cilium_policy'), log),
      conntrack: new ConntrackMaps(flows),
      metrics: new MetricsMap(map('cilium_metrics')),
      events: new EventReader(map('cilium_events')),
    };
    undo.move();
    return running;
  } finally {
    await undo.disposeAsync();
  }
}

/** Values of the CONFIG variables of bpf-src/lib/config.h. */
function buildConfig(options: DatapathOptions, host: HostDevice, tunnelIfindex: number): ObjectConfig {
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  const ports = masqueradePorts();
  return {
    host_ifindex: host.ifindex,
    host_mac: host.mac.bytes,
    router_ipv4: options.routerAddresses?.[4]?.bytes ?? new Uint8Array(4),
    router_ipv6: options.routerAddresses?.[6]?.bytes ?? new Uint8Array(16),
    tunnel_ifindex: tunnelIfindex,
    tunnel_mtu: options.tunnel?.mtu ?? 0,
    tunnel_port: options.tunnel === undefined ? 0 : (options.tunnel.port ?? DEFAULT_TUNNEL_PORT),
    aggregation: AGGREGATION_LEVELS[options.aggregation],
    report_interval_s: REPORT_INTERVAL_S,
    ct_tcp_established_s: timeouts.tcpEstablishedS,
    ct_tcp_syn_s: timeouts.tcpSynS,
    ct_close_s: timeouts.tcpCloseS,
    ct_any_s: timeouts.anyS,
    snat_port_min1: ports.lower.first,
    snat_port_max1: ports.lower.last,
    snat_port_min2: ports.upper.first,
    snat_port_max2: ports.upper.last,
  };
}
