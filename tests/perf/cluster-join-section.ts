// SPDX-License-Identifier: Apache-2.0

/** A real agent joins a cluster that is there already: until its kernel knows every address, and what that costs. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BpfMap } from '../../datapath/ffi/bpf-map.ts';
import { decodeIpcacheInfo, encodeIpcacheKey, IPCACHE_INFO, IPCACHE_KEY } from '../../datapath/maps/ipcache-map.ts';
import type { LabNode } from '../../lab/node.ts';
import { type IpAddress, Prefix } from '../../net/ip.ts';
import { agentPid, cpuNsOf, residentOf } from './agent-section.ts';
import type { ClusterPeer, Requests } from './cluster-peer-client.ts';
import { addressOf, ENDPOINTS_PER_NODE, hostOf, identityOf, type SimulatedSize } from './cluster-simulation.ts';
import { monotonicMs } from './monotonic.ts';
import type { Series } from './statistics.ts';

const IPCACHE = 'sys/fs/bpf/tc/globals/cilium_ipcache';
const POLL_MS = 5;
const TIMEOUT_MS = 120_000;
/** Then memory is what the agent keeps, and requests are those of the join. */
const SETTLE_MS = 5_000;
/** Looked at until all are there; then all addresses are. */
const SAMPLES = 97;

export type JoinFigure =
  'complete' | 'cpu' | 'resident' | 'peak' | 'settled cpu' | 'ranges' | 'requests' | 'megabytes' | 'addition';

export function joinSeries({ nodes }: SimulatedSize, figure: JoinFigure): string {
  return `join of ${nodes}: ${figure}`;
}

export interface JoinMeasurement {
  readonly size: SimulatedSize;
  readonly rounds: number;
  /** How many endpoints are added afterwards, one by one. */
  readonly additions: number;
  readonly onProgress: (step: string) => void;
}

/** Expects a node whose agent has never run. */
export async function measureJoins(
  node: LabNode,
  peer: ClusterPeer,
  series: Series,
  { size, rounds, additions, onProgress }: JoinMeasurement,
): Promise<void> {
  onProgress(`${size.nodes} nodes: fill etcd`);
  const keys = await peer.fill(size);
  onProgress(`${size.nodes} nodes: ${keys} keys`);
  for (let round = 0; round < rounds; round++) {
    onProgress(`${size.nodes} nodes: an agent joins, round ${round + 1} of ${rounds}`);
    if (round > 0) await forgetAgent(node);
    await measureJoin(node, peer, series, size);
  }
  const map = openIpcache(node)!;
  try {
    for (let n = 0; n < additions; n++) {
      const [simulated, endpoint] = [n % size.nodes, ENDPOINTS_PER_NODE + n];
      const at = await peer.add(size, simulated, endpoint);
      const wanted = { address: addressOf(simulated, endpoint), identity: identityOf(size, simulated, endpoint) };
      while (!isThere(map, size, simulated, endpoint)) {
        if (monotonicMs() > at + TIMEOUT_MS) throw new Error(`${String(wanted.address)} does not arrive`);
        await delay(1);
      }
      series.add(joinSeries(size, 'addition'), Math.max(monotonicMs() - at, 0));
    }
  } finally {
    map.close();
  }
  await node.stopAgent();
}

async function measureJoin(node: LabNode, peer: ClusterPeer, series: Series, size: SimulatedSize): Promise<void> {
  const before = await peer.requests();
  const begin = monotonicMs();
  const started = node.startAgent();
  const complete = (await whenComplete(node, size)) - begin;
  const add = (figure: JoinFigure, value: number): void => series.add(joinSeries(size, figure), value);
  add('complete', complete);
  await started;
  const pid = agentPid(node);
  add('cpu', cpuNsOf(pid) / 1e6);
  await delay(SETTLE_MS);
  add('settled cpu', cpuNsOf(pid) / 1e6);
  add('resident', residentOf(pid));
  add('peak', peakOf(pid));
  const after = await peer.requests();
  const more = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0);
  add('ranges', more('KV.Range'));
  add('requests', allRequests(after) - allRequests(before));
  add('megabytes', more('bytes sent') / 1e6);
}

function allRequests(requests: Requests): number {
  return Object.entries(requests).reduce((sum, [name, count]) => (name.includes('.') ? sum + count : sum), 0);
}

/** As if the node were new. */
async function forgetAgent(node: LabNode): Promise<void> {
  await node.stopAgent();
  rmSync(join(node.machine.dir, 'cilium'), { recursive: true, force: true });
  const links = ['cilium_host', 'cilium_vxlan'].map((link) => `ip link delete ${link}`);
  await node.exec(['sh', '-c', [...links, 'rm -r /sys/fs/bpf/tc'].join('\n')]);
}

/** When all addresses of all nodes were in the kernel, each with its identity and its node. */
async function whenComplete(node: LabNode, size: SimulatedSize): Promise<number> {
  const limit = monotonicMs() + TIMEOUT_MS;
  const total = size.nodes * ENDPOINTS_PER_NODE;
  const all = Array.from({ length: total }, (_unused, n) => n);
  const samples = all.filter((n) => n % Math.ceil(total / SAMPLES) === 0 || n === total - 1);
  for (let map = openIpcache(node); ; map ??= openIpcache(node)) {
    const lacks = (n: number): boolean => map === undefined || !hasEndpoint(map, size, n);
    const now = monotonicMs();
    if (!samples.some(lacks) && !all.some(lacks)) {
      map?.close();
      return now;
    }
    if (now > limit) throw new Error(`addresses are missing in the kernel: see ${node.agentLog}`);
    await delay(POLL_MS);
  }
}

function hasEndpoint(map: BpfMap, size: SimulatedSize, n: number): boolean {
  return isThere(map, size, Math.floor(n / ENDPOINTS_PER_NODE), n % ENDPOINTS_PER_NODE);
}

function isThere(map: BpfMap, size: SimulatedSize, node: number, endpoint: number): boolean {
  const found = lookUp(map, addressOf(node, endpoint));
  if (found?.identity !== identityOf(size, node, endpoint)) return false;
  return found.tunnelEndpoint?.equals(hostOf(node)) === true;
}

function lookUp(map: BpfMap, address: IpAddress): ReturnType<typeof decodeIpcacheInfo> | undefined {
  const key = Buffer.alloc(IPCACHE_KEY.size);
  const value = Buffer.alloc(IPCACHE_INFO.size);
  encodeIpcacheKey(Prefix.of(address), key);
  return map.lookup(key, value) ? decodeIpcacheInfo(value) : undefined;
}

function openIpcache(node: LabNode): BpfMap | undefined {
  return BpfMap.openPinned('cilium_ipcache', join(node.machine.root, IPCACHE));
}

function peakOf(pid: number): number {
  return Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? NaN) * 1024;
}
