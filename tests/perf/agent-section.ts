// SPDX-License-Identifier: Apache-2.0

/** What the agent itself costs: its start, its memory, its CPU while nothing happens, its maps. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { LabNode } from '../../lab/node.ts';
import { Series } from './statistics.ts';

const MAP_FOLDER = '/sys/fs/bpf/tc/globals';
const SETTLE_MS = 3_000;
const CONTAINER_COUNTS = [0, 5, 30];

export interface AgentMeasurement {
  readonly starts: number;
  readonly idleSeconds: number;
  readonly network: string;
  readonly onProgress: (step: string) => void;
}

export interface AgentCosts {
  /** Milliseconds from the command to an answering API, with the most containers running. */
  readonly starts: readonly number[];
  /** Resident bytes by number of containers. */
  readonly residentBytes: ReadonlyMap<number, number>;
  /** Share of one CPU with the most containers running, 0..1. */
  readonly idleCpu: number;
  readonly mapBytes: ReadonlyMap<string, number>;
}

/** Expects a node without containers; leaves it so. */
export async function measureAgent(node: LabNode, options: AgentMeasurement): Promise<AgentCosts> {
  const { onProgress } = options;
  const residentBytes = new Map<number, number>();
  const containers: string[] = [];
  try {
    await restart(node);
    for (const count of CONTAINER_COUNTS) {
      onProgress(`agent: ${count} containers`);
      while (containers.length < count) {
        const label = `id=idle-${containers.length % 5}`;
        containers.push(
          await node.docker(['run', '-d', '--network', options.network, '-l', label, 'busybox', 'sleep', '2147483647']),
        );
      }
      await delay(SETTLE_MS);
      residentBytes.set(count, residentOf(agentPid(node)));
    }
    onProgress(`agent: idle for ${options.idleSeconds} s`);
    const idleCpu = await cpuShare(agentPid(node), options.idleSeconds);
    const mapBytes = await mapMemory(node);
    const starts = new Series();
    for (let round = 0; round < options.starts; round++) {
      onProgress(`agent: start ${round + 1} of ${options.starts}`);
      starts.add('start', await restart(node));
    }
    return { starts: starts.of('start'), residentBytes, idleCpu, mapBytes };
  } finally {
    if (containers.length > 0) await node.docker(['rm', '-f', ...containers]);
  }
}

async function restart(node: LabNode): Promise<number> {
  await node.stopAgent();
  const begin = performance.now();
  await node.startAgent();
  return performance.now() - begin;
}

export function agentPid(node: LabNode): number {
  const pid = node.agentPid;
  if (pid === undefined) throw new Error(`the agent of ${node.name} is not running: see ${node.agentLog}`);
  return pid;
}

export function residentOf(pid: number): number {
  return Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? NaN) * 1024;
}

async function cpuShare(pid: number, seconds: number): Promise<number> {
  const [cpu, begin] = [cpuNsOf(pid), performance.now()];
  await delay(seconds * 1000);
  return (cpuNsOf(pid) - cpu) / ((performance.now() - begin) * 1e6);
}

/** Time on CPU of all threads, in nanoseconds: /proc/PID/stat counts only in steps of 10 ms. */
export function cpuNsOf(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const times = threads.map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  );
  return times.reduce((sum, time) => sum + time, 0);
}

interface BpftoolMap {
  id: number;
  bytes_memlock: number;
}

/** Bytes by map, as the kernel accounts for them; the tries inside the policy map are one row. */
async function mapMemory(node: LabNode): Promise<Map<string, number>> {
  const bpftool = async <T>(...words: string[]) => JSON.parse(await node.exec(['bpftool', '-j', ...words])) as T;
  const bytes = new Map<string, number>();
  for (const name of (await node.exec(['ls', MAP_FOLDER])).split('\n')) {
    bytes.set(name, (await bpftool<BpftoolMap>('map', 'show', 'pinned', `${MAP_FOLDER}/${name}`)).bytes_memlock);
  }
  const slots = await bpftool<{ inner_map_id?: number }[]>('map', 'dump', 'pinned', `${MAP_FOLDER}/cilium_policy`);
  const inner = new Set(slots.map((slot) => slot.inner_map_id));
  const all = await bpftool<BpftoolMap[]>('map', 'show');
  const ours = all.filter((map) => inner.has(map.id)).map((map) => map.bytes_memlock);
  bytes.set(
    'tries in cilium_policy',
    ours.reduce((sum, each) => sum + each, 0),
  );
  return bytes;
}
