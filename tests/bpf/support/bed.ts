// SPDX-License-Identifier: Apache-2.0

/**
 * The programs loaded for a test, with a small world around them: containers A, B and C of this node (C on an internal
 * network), the node itself, and a device `ext` to the outside with a default route and masquerade. With TUNNEL other
 * nodes are reached through the device `vxlan`, without by routes.
 *
 * Runs inside the namespaces of namespace.ts. `BPF_OBJECTS` names another build of the programs (see mutate.ts).
 */
import { mkdirSync } from 'node:fs';
import { IpAddress, type IpFamily, Prefix } from '../../../net/ip.ts';
import { MacAddress } from '../../../net/mac.ts';
import { silentLogger } from '../../../runtime/logger.ts';
import { BpfMap } from '../../../datapath/ffi/bpf-map.ts';
import type { BpfProgram } from '../../../datapath/ffi/bpf-program.ts';
import { loadObject, type ObjectConfig } from '../../../datapath/loader/object-loader.ts';
import { type DatapathEvent, decodeEvent } from '../../../datapath/events/records.ts';
import { EventReader } from '../../../datapath/events/event-reader.ts';
import { CALL_FROM_WIRE, setCall } from '../../../datapath/maps/call-map.ts';
import { DeviceMap } from '../../../datapath/maps/device-map.ts';
import { type EndpointInfo, EndpointMap, HOST_ENDPOINT } from '../../../datapath/maps/endpoint-map.ts';
import { IdentityMap } from '../../../datapath/maps/identity-map.ts';
import { IpcacheMap } from '../../../datapath/maps/ipcache-map.ts';
import { MetricsMap } from '../../../datapath/maps/metrics-map.ts';
import {
  createPolicyTrie,
  encodePolicyKeys,
  encodePolicyValues,
  type PolicyEntry,
} from '../../../datapath/maps/policy-map.ts';
import { TunnelSourceMap } from '../../../datapath/maps/tunnel-source-map.ts';
import { run } from './namespace.ts';
import type { Ends } from './packet.ts';

export const ACTION = { ok: 0, drop: 2, redirect: 7 } as const;
export const ALLOW = 0xffffff01;
export const DENY = 0xffffffff;

export const IDENTITY = { host: 1, worldIpv4: 9, worldIpv6: 10, a: 1001, b: 1002, c: 1003 } as const;

/** One end of packets, with an address of each family. */
export interface Station {
  readonly mac: string;
  readonly hostMac: string;
  readonly 4: string;
  readonly 6: string;
}

export interface Container extends Station {
  readonly id: number;
  readonly identity: number;
  readonly slot: number;
  readonly mtu: number;
  readonly internal: boolean;
  ifindex: number;
}

const container = (n: number, letter: 'a' | 'b' | 'c', facts: Partial<Container> = {}): Container => ({
  mac: `02:00:00:00:01:0${n}`,
  hostMac: `02:00:00:00:02:0${n}`,
  4: `10.0.1.${n}`,
  6: `fd00:1::${n}`,
  id: 100 + n,
  identity: IDENTITY[letter],
  slot: n,
  mtu: 1500,
  internal: false,
  ifindex: 0,
  ...facts,
});

const far = (v4: string, v6: string): Station => ({ mac: '02:00:00:00:09:01', hostMac: EXT_MAC, 4: v4, 6: v6 });

export const EXT_MAC = '02:00:00:00:03:01';
export const HOST_MAC = '02:00:00:00:04:01';
export const ROUTER = { 4: '10.0.1.254', 6: 'fd00:1::fe' } as const;

/** Also what the device masquerades with. */
export const NODE: Station = { mac: HOST_MAC, hostMac: HOST_MAC, 4: '192.0.2.1', 6: '2001:db8::1' };
export const WORLD: Station = far('198.51.100.7', '2001:db8:7::7');
export const OTHER: Station = far('198.51.100.8', '2001:db8:7::8');

export const FAMILIES: readonly IpFamily[] = [4, 6];

export function worldIdentity(family: IpFamily): number {
  return family === 4 ? IDENTITY.worldIpv4 : IDENTITY.worldIpv6;
}

export interface Result {
  /** TC_ACT_* of ACTION. */
  readonly action: number;
  readonly packet: Buffer;
  readonly events: readonly DatapathEvent[];
  /** Of the only drop event; undefined when there is none. */
  readonly dropReason: number | undefined;
  /** Where the packet goes according to the trace event; undefined when there is none. */
  readonly target: number | undefined;
}

export const PROGRAMS = {
  cil_from_container: 'bpf_lxc',
  cil_to_container: 'bpf_lxc',
  cil_from_host: 'bpf_host',
  cil_from_netdev: 'bpf_netdev',
  cil_from_overlay: 'bpf_overlay',
  cil_from_wire: 'bpf_overlay',
} as const;
export type Program = keyof typeof PROGRAMS;

/** As a bed's second argument. With `direct` ordinary packets of IPv4 tunnels pass by the device. */
export const TUNNEL = { port: 8472, mtu: 1500 } as const;
export const DIRECT_TUNNEL = { ...TUNNEL, direct: true } as const;

let beds = 0;

export class Bed {
  readonly a = container(1, 'a');
  readonly b = container(2, 'b', { mtu: 1400 });
  readonly c = container(3, 'c', { internal: true });
  readonly endpoints: EndpointMap;
  readonly ipcache: IpcacheMap;
  readonly identities: IdentityMap;
  readonly devices: DeviceMap;
  readonly metrics: MetricsMap;
  readonly ext: number;
  readonly host: number;
  readonly vxlan: number;
  /** Where this bed's maps are pinned. */
  readonly mapDir: string;
  readonly #programs = new Map<string, BpfProgram>();
  readonly #tries = new Map<number, BpfMap>();
  readonly #reader: EventReader;
  #events: DatapathEvent[] = [];

  /** `config` on top of: every packet traced. */
  constructor(config: ObjectConfig = {}, tunnel?: typeof TUNNEL & { readonly direct?: true }) {
    if (beds++ === 0) makeDevices();
    this.ext = ifindexOf('ext');
    this.host = ifindexOf('host');
    this.vxlan = ifindexOf('vxlan');
    for (const [letter, end] of Object.entries({ a: this.a, b: this.b, c: this.c }))
      end.ifindex = ifindexOf(`lxc_${letter}`);
    this.mapDir = `/sys/fs/bpf/maps${beds}`;
    const programDir = `/sys/fs/bpf/programs${beds}`;
    for (const folder of [this.mapDir, programDir]) mkdirSync(folder);
    const objects = process.env['BPF_OBJECTS'] ?? 'bpf-src/build';
    const tunnelConfig = tunnel && { tunnel_ifindex: this.vxlan, tunnel_mtu: tunnel.mtu, tunnel_port: tunnel.port };
    for (const name of new Set(Object.values(PROGRAMS))) {
      const programs = loadObject({
        objectPath: `${objects}/${name}.o`,
        mapDir: this.mapDir,
        programDir,
        config: { ...defaults(this.host), ...tunnelConfig, ...config },
        mapSizes: {},
        log: silentLogger,
      });
      for (const [program, handle] of programs) this.#programs.set(program, handle);
    }
    if (tunnel?.direct) this.#passByDevice();
    this.endpoints = new EndpointMap(this.map('cilium_lxc'));
    this.ipcache = new IpcacheMap(this.map('cilium_ipcache'));
    this.identities = new IdentityMap(this.map('cilium_identities'));
    this.devices = new DeviceMap(this.map('cilium_devices'));
    this.metrics = new MetricsMap(this.map('cilium_metrics'));
    this.#reader = new EventReader(this.map('cilium_events'));
    this.#reader.start((records) => {
      for (const record of records) {
        const event = decodeEvent(Buffer.from(record));
        if (event !== undefined) this.#events.push(event);
      }
    });
    this.#populate();
  }

  map(name: string): BpfMap {
    const map = BpfMap.openPinned(name, `${this.mapDir}/${name}`);
    if (map === undefined) throw new Error(`no map ${name}`);
    return map;
  }

  program(name: Program): BpfProgram {
    const program = this.#programs.get(name);
    if (program === undefined) throw new Error(`no program ${name}`);
    return program;
  }

  /** What the policy of a container allows from now on; everything when nothing is given. */
  policy(end: Container, entries: readonly PolicyEntry[] = [allow({ egress: true }), allow({ egress: false })]): void {
    const trie = this.#tries.get(end.slot)!;
    const old = [...trie.entries()].map(({ key }) => Buffer.from(key));
    for (const key of old) trie.delete(key);
    trie.updateBatch(encodePolicyKeys(entries), encodePolicyValues(entries), entries.length);
  }

  setEndpoint(end: Container, changes: Partial<EndpointInfo> = {}): void {
    const info: EndpointInfo = {
      ifindex: end.ifindex,
      identity: end.identity,
      policySlot: end.slot,
      id: end.id,
      mtu: end.mtu,
      mac: MacAddress.parse(end.mac),
      hostMac: MacAddress.parse(end.hostMac),
      internal: end.internal,
      host: false,
      ...changes,
    };
    for (const family of FAMILIES) this.endpoints.update(IpAddress.parse(end[family]), info);
  }

  /** Runs a program on a packet that came in at (or leaves by) device `ifindex`. */
  run(name: Program, packet: Buffer, ifindex: number, gsoSize = 0): Result {
    return this.runProgram(this.program(name), packet, ifindex, gsoSize);
  }

  runProgram(program: BpfProgram, packet: Buffer, ifindex: number, gsoSize = 0): Result {
    this.takeEvents();
    const context = Buffer.alloc(SKB_BYTES);
    context.writeUInt32LE(ifindex, SKB_IFINDEX);
    context.writeUInt32LE(gsoSize, SKB_GSO_SIZE);
    const { retval, data } = program.testRun({ packet, context });
    const events = this.takeEvents();
    const drops = events.filter((event) => event.type === 'drop');
    if (drops.length > 1) throw new Error(`${drops.length} drop events for one packet`);
    const trace = events.findLast((event) => event.type === 'trace');
    return { action: retval, packet: data, events, dropReason: drops[0]?.reason, target: trace?.ifindex };
  }

  /** Those since the last call. */
  takeEvents(): DatapathEvent[] {
    this.#reader.drain();
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** A packet of a container. */
  send(from: Container, packet: Buffer, gsoSize = 0): Result {
    return this.run('cil_from_container', packet, from.ifindex, gsoSize);
  }

  receive(to: Container, packet: Buffer): Result {
    return this.run('cil_to_container', packet, to.ifindex);
  }

  fromHost(packet: Buffer): Result {
    return this.run('cil_from_host', packet, this.host);
  }

  fromOutside(packet: Buffer): Result {
    return this.run('cil_from_netdev', packet, this.ext);
  }

  /** Makes the node's addresses known. */
  restoreNode(): void {
    for (const family of FAMILIES) {
      this.endpoints.update(IpAddress.parse(NODE[family]), HOST_ENDPOINT);
      this.ipcache.update(prefixOf(NODE[family]), { identity: IDENTITY.host });
    }
  }

  /** Forgets all flows. */
  flush(): void {
    for (const name of FLOW_MAPS) {
      const map = this.map(name);
      for (const key of [...map.entries()].map((entry) => Buffer.from(entry.key))) map.delete(key);
      map.close();
    }
  }

  close(): void {
    this.#reader.stop();
    for (const handle of [...this.#programs.values(), ...this.#tries.values()]) handle.close();
  }

  #passByDevice(): void {
    const calls = this.map('cilium_calls');
    setCall(calls, CALL_FROM_WIRE, this.program('cil_from_wire'));
    calls.close();
    const source = this.map('cilium_tunnel_source');
    new TunnelSourceMap(source).set(IpAddress.parse(NODE[4]));
    source.close();
  }

  #populate(): void {
    const outer = this.map('cilium_policy');
    const key = Buffer.alloc(4);
    const value = Buffer.alloc(4);
    for (const end of [this.a, this.b, this.c]) {
      const trie = createPolicyTrie(16_384);
      key.writeUInt32LE(end.slot);
      value.writeUInt32LE(trie.fd);
      outer.update(key, value);
      this.#tries.set(end.slot, trie);
      this.policy(end);
      this.setEndpoint(end);
      for (const family of FAMILIES) this.ipcache.update(prefixOf(end[family]), { identity: end.identity });
    }
    outer.close();
    this.restoreNode();
    this.ipcache.update(Prefix.parse('0.0.0.0/0'), { identity: IDENTITY.worldIpv4 });
    this.ipcache.update(Prefix.parse('::/0'), { identity: IDENTITY.worldIpv6 });
    this.devices.update(this.ext, { ipv4: IpAddress.parse(NODE[4]), ipv6: IpAddress.parse(NODE[6]) });
  }
}

/** An entry that allows; without more, everything of one direction. */
export function allow(entry: Partial<PolicyEntry> & { egress: boolean }): PolicyEntry {
  const bits = entry.protocol === undefined ? 0 : entry.port === undefined ? 8 : 24;
  return {
    identity: 0,
    protocol: 0,
    port: 0,
    bits,
    deny: false,
    proxyPort: 0,
    precedence: entry.deny === true ? DENY : ALLOW,
    cookie: 0,
    ...entry,
  };
}

export function prefixOf(address: string): Prefix {
  return Prefix.of(IpAddress.parse(address));
}

/** Addresses of a packet from one end to another. */
export function ends(from: Station, to: Station, family: IpFamily): Ends {
  return { srcMac: from.mac, dstMac: from.hostMac, src: from[family], dst: to[family] };
}

const SKB_BYTES = 192;
const SKB_IFINDEX = 40;
const SKB_GSO_SIZE = 176;

const FLOW_MAPS = [
  ...['cilium_ct4_tcp', 'cilium_ct4_any', 'cilium_ct6_tcp', 'cilium_ct6_any', 'cilium_snat4', 'cilium_snat6'],
  ...['cilium_ipv4_frag_datagrams', 'cilium_ipv6_frag_datagrams'],
];

function defaults(host: number): ObjectConfig {
  return {
    host_ifindex: host,
    host_mac: MacAddress.parse(HOST_MAC).bytes,
    router_ipv4: IpAddress.parse(ROUTER[4]).bytes,
    router_ipv6: IpAddress.parse(ROUTER[6]).bytes,
    tunnel_ifindex: 0,
    tunnel_mtu: 0,
    tunnel_port: 0,
    aggregation: 0,
    report_interval_s: 5,
    ct_tcp_established_s: 8000,
    ct_tcp_syn_s: 60,
    ct_any_s: 60,
    ct_close_s: 10,
    snat_port_min1: 20_000,
    snat_port_max1: 29_999,
    snat_port_min2: 61_000,
    snat_port_max2: 65_535,
  };
}

function ifindexOf(name: string): number {
  return Number(run('cat', `/sys/class/net/${name}/ifindex`));
}

/** A veth for each container, one for cilium_host and one to the outside; forwarding is on for cilium_host only. */
function makeDevices(): void {
  run('mount', '-t', 'sysfs', 'sysfs', '/sys');
  run('mount', '-t', 'bpf', 'bpf', '/sys/fs/bpf');
  run('ip', 'link', 'set', 'lo', 'up');
  for (const name of ['lxc_a', 'lxc_b', 'lxc_c', 'host', 'ext']) {
    run('ip', 'link', 'add', 'dev', name, 'type', 'veth', 'peer', 'name', `${name}_peer`);
    run('ip', 'link', 'set', `${name}_peer`, 'up');
    run('sysctl', '-qw', `net.ipv6.conf.${name}.accept_dad=0`, `net.ipv6.conf.${name}.addr_gen_mode=1`);
    run('ip', 'link', 'set', name, 'up');
  }
  run('ip', 'link', 'add', 'dev', 'vxlan', 'type', 'vxlan', 'external', 'dstport', `${TUNNEL.port}`);
  run('ip', 'link', 'set', 'vxlan', 'up');
  run('sysctl', '-qw', 'net.ipv4.conf.host.forwarding=1', 'net.ipv6.conf.host.forwarding=1');
  run('ip', 'address', 'add', `${NODE[4]}/24`, 'dev', 'ext');
  run('ip', 'address', 'add', `${NODE[6]}/64`, 'dev', 'ext', 'nodad');
  run('ip', 'route', 'add', 'default', 'via', '192.0.2.254');
  run('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::fe');
  run('ip', 'route', 'add', '10.0.1.0/24', 'dev', 'host');
  run('ip', '-6', 'route', 'add', 'fd00:1::/64', 'dev', 'host');
}
