// SPDX-License-Identifier: Apache-2.0

/**
 * Other nodes around a bed with TUNNEL, and both ends of the tunnel: packets that count as having come through it, the
 * same as frames on the wire, and the frames that leave.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BpfProgram, TC_INGRESS } from '../../../datapath/ffi/bpf-program.ts';
import { loadObject } from '../../../datapath/loader/object-loader.ts';
import { IpAddress, type IpFamily, Prefix } from '../../../net/ip.ts';
import { silentLogger } from '../../../runtime/logger.ts';
import { HOST_ENDPOINT } from '../../../datapath/maps/endpoint-map.ts';
import { type Bed, FAMILIES, NODE, prefixOf, type Result, ROUTER, type Station, TUNNEL } from './bed.ts';
import { addressText } from './dissect.ts';
import { run } from './namespace.ts';
import { ETH, ETHERTYPE, packet, PROTOCOL, udp } from './packet.ts';

/** Its addresses towards other nodes. */
export type Node = Readonly<Record<IpFamily, string>>;

export const NODE_2: Node = { 4: '192.0.2.2', 6: '2001:db8::2' };
export const NODE_3: Node = { 4: '192.0.2.3', 6: '2001:db8::3' };
/** No node of the cluster. */
export const STRANGER: Node = { 4: '192.0.2.66', 6: '2001:db8::66' };
const NEIGHBOUR_MAC = '02:00:00:00:08:01';

export interface RemoteStation extends Station {
  readonly identity: number;
  readonly node: Node;
}

const remote = (v4: string, v6: string, identity: number, node: Node): RemoteStation => ({
  ...{ mac: '02:00:00:00:07:01', hostMac: '02:00:00:00:07:02', 4: v4, 6: v6 },
  ...{ identity, node },
});

export const REMOTE_NODE = 6;
export const R = remote('10.0.2.1', 'fd00:2::1', 2001, NODE_2);
export const S = remote('10.0.3.1', 'fd00:3::1', 3001, NODE_3);
/** Where the stack of node 2 speaks from. */
export const ROUTER_2 = remote('10.0.2.254', 'fd00:2::fe', REMOTE_NODE, NODE_2);
/** Of node 2's range; ipcache knows the range only, the policy maps know the identity. */
export const NEW = remote('10.0.2.77', 'fd00:2::77', 2077, NODE_2);

const RANGES_2: Readonly<Record<IpFamily, string>> = { 4: '10.0.2.0/24', 6: 'fd00:2::/64' };
const UNKNOWN_IDENTITY = 0;
const VXLAN_HEADER = 8;
const FRAME_BYTES = 2052;

/** What came out on the wire. */
export interface OuterFrame {
  readonly src: string;
  readonly dst: string;
  readonly ttl: number;
  /** What IPv4 routers may not cut up. */
  readonly dontFragment: boolean;
  readonly port: number;
  readonly vni: number;
  /** Of the UDP header. */
  readonly checksum: number;
  readonly inner: Buffer;
}

/** Writes where other nodes' containers live; `underlay`: the family between the nodes. */
export function tellNodes({ ipcache, identities }: Bed, underlay: IpFamily, skipTunnel = false): void {
  identities.replace([R, S, NEW].map(({ identity }) => identity));
  for (const family of FAMILIES) {
    for (const { identity, node, ...end } of [R, S, ROUTER_2]) {
      const tunnelEndpoint = IpAddress.parse(node[underlay]);
      ipcache.update(prefixOf(end[family]), { identity, tunnelEndpoint, skipTunnel });
    }
    const range = { identity: UNKNOWN_IDENTITY, tunnelEndpoint: IpAddress.parse(NODE_2[underlay]), skipTunnel };
    ipcache.update(Prefix.parse(RANGES_2[family]), range);
    for (const node of [NODE_2, NODE_3]) ipcache.update(prefixOf(node[family]), { identity: REMOTE_NODE });
  }
}

/** Makes `node`, or this one's router, an address of the node itself. */
export function tellRouter({ endpoints }: Bed, present: boolean): void {
  for (const family of FAMILIES) {
    const address = IpAddress.parse(ROUTER[family]);
    if (present) endpoints.update(address, HOST_ENDPOINT);
    else endpoints.delete(address);
  }
}

export class Tunnel {
  readonly #bed: Bed;
  readonly #programs: ReadonlyMap<string, BpfProgram>;

  constructor(bed: Bed) {
    this.#bed = bed;
    this.#programs = loadPrograms(bed.mapDir);
    for (const node of [NODE_2, NODE_3]) {
      for (const family of FAMILIES) {
        run('ip', 'neighbour', 'replace', node[family], 'lladdr', NEIGHBOUR_MAC, 'dev', 'ext', 'nud', 'permanent');
      }
    }
    const calls = bed.map('cilium_test_calls');
    calls.update(uint32(0), uint32(bed.program('cil_from_overlay').fd));
    calls.close();
  }

  /** A packet that a node sent through the tunnel. */
  receive(sent: Buffer, node: string, vni: number, gsoSize = 0): Result {
    const address = IpAddress.parse(node);
    const outer = Buffer.alloc(24);
    outer.writeUInt32LE(vni, 0);
    outer.writeUInt32LE(address.family === 6 ? 1 : 0, 4);
    if (address.family === 6) outer.set(address.bytes, 8);
    else outer.writeUInt32LE(Buffer.from(address.bytes).readUInt32BE(), 8);
    const map = this.#bed.map('cilium_test_outer');
    map.update(uint32(0), outer);
    map.close();
    return this.#bed.runProgram(this.#program('cil_test_through'), sent, this.#bed.vxlan, gsoSize);
  }

  /** Really receives a frame on device `ext`; what it makes leave on the wire. */
  receiveFrame(frame: Buffer): OuterFrame | undefined {
    this.#bed.program('cil_from_overlay').attach(this.#bed.vxlan, TC_INGRESS);
    return this.#exchange(frame, 'ext_peer');
  }

  /** Really sends a packet through a program at device `name`; what leaves on the wire. */
  transmit(sent: Buffer, name: string, program: 'cil_from_container' | 'cil_from_host'): OuterFrame | undefined {
    this.#bed.program(program).attach(ifindex(name), TC_INGRESS);
    return this.#exchange(sent, `${name}_peer`);
  }

  close(): void {
    for (const program of this.#programs.values()) program.close();
  }

  #exchange(sent: Buffer, device: string): OuterFrame | undefined {
    this.#program('cil_test_capture').attach(ifindex('ext_peer'), TC_INGRESS);
    const map = this.#bed.map('cilium_test_frame');
    const frame = Buffer.alloc(FRAME_BYTES);
    map.update(uint32(0), frame);
    this.#inject(sent, device);
    map.lookup(uint32(0), frame);
    map.close();
    const length = frame.readUInt32LE();
    return length === 0 ? undefined : dissectOuter(frame.subarray(4, 4 + length));
  }

  #inject(frame: Buffer, device: string): void {
    const context = Buffer.alloc(192);
    context.writeUInt32LE(ifindex(device), 48); // cb[0]
    const { retval } = this.#program('cil_test_inject').testRun({ packet: frame, context });
    assert.equal(retval, 0, 'injected');
  }

  #program(name: string): BpfProgram {
    return this.#programs.get(name)!;
  }
}

function loadPrograms(mapDir: string): Map<string, BpfProgram> {
  const folder = mkdtempSync(join(tmpdir(), 'tunnel-test-'));
  try {
    const { status, stderr } = spawnSync('tools/build-bpf.sh', ['tests/bpf/programs', folder], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    const programDir = `${mapDir}_test`;
    mkdirSync(programDir);
    const objectPath = `${folder}/bpf_tunnel.o`;
    return loadObject({ objectPath, mapDir, programDir, config: {}, mapSizes: {}, log: silentLogger });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The frame in which a node would send `inner`. */
export function wrap(inner: Buffer, from: string, vni: number): Buffer {
  const header = Buffer.alloc(VXLAN_HEADER);
  header[0] = 0x08;
  header.writeUInt32BE((vni << 8) >>> 0, 4);
  const payload = udp(40_000, TUNNEL.port, Buffer.concat([header, inner]));
  const dstMac = run('cat', '/sys/class/net/ext/address').trim();
  const outer = { srcMac: NEIGHBOUR_MAC, dstMac, src: from, dst: NODE[IpAddress.parse(from).family] };
  const frame = packet(outer, payload);
  if (frame.readUInt16BE(12) === ETHERTYPE.ipv4) frame.writeUInt16BE(0, ETH + 26); // as VXLAN devices do
  return frame;
}

/** A packet that has been wrapped on its way to the wire, as it was; others unchanged. */
export function inside(result: Result): Result {
  const { packet: frame } = result;
  // The Ethernet header is made anew where the packet leaves, so its type may still be that of the packet inside.
  const isWrapped =
    frame[ETH]! >> 4 === 4 && frame[ETH + 9] === PROTOCOL.udp && frame.readUInt16BE(ETH + 22) === TUNNEL.port;
  return isWrapped ? { ...result, packet: frame.subarray(ETH + 20 + 8 + VXLAN_HEADER) } : result;
}

function dissectOuter(frame: Buffer): OuterFrame {
  const family = frame.readUInt16BE(12) === 0x0800 ? 4 : 6;
  const at = ETH + (family === 4 ? 20 : 40);
  const [src, dst] = family === 4 ? [26, 30] : [22, 38];
  const bytes = family === 4 ? 4 : 16;
  return {
    src: addressText(frame.subarray(src, src + bytes)),
    dst: addressText(frame.subarray(dst, dst + bytes)),
    ttl: frame[family === 4 ? 22 : 21]!,
    dontFragment: family === 4 && (frame[20]! & 0x40) !== 0,
    port: frame.readUInt16BE(at + 2),
    checksum: frame.readUInt16BE(at + 6),
    vni: frame.readUInt32BE(at + 8 + 4) >>> 8,
    inner: frame.subarray(at + 8 + VXLAN_HEADER),
  };
}

function ifindex(name: string): number {
  return Number(run('cat', `/sys/class/net/${name}/ifindex`));
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}
