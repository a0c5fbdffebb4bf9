// SPDX-License-Identifier: Apache-2.0

/** Everything that containers may leave behind on a node, in a form that two moments can be compared in. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';

const MAP_FOLDER = '/sys/fs/bpf/tc/globals';
/** Maps whose contents are counters, a ring, or room to work in. */
const MAPS_WITHOUT_STATE = ['cilium_metrics', 'cilium_events', 'cilium_scratch'];
/** As /proc/net/unix writes it. */
const CONNECTED = '03';
/** Maps whose keys say all: their values carry times. */
const MAPS_WITH_TIMES = /_(ct|snat)[46]|_frag_/;

export type Snapshot = Record<string, readonly string[]>;

/** Lines by what they are about, sorted. */
export async function snapshotOf(node: LabNode): Promise<Snapshot> {
  const lines = async (...argv: string[]) => (await node.exec(argv)).split('\n').filter(Boolean).sort();
  return {
    links: (await lines('ip', '-o', 'link')).map((line) => line.split(': ')[1]!),
    addresses: (await lines('ip', '-o', 'addr')).map((line) => line.split(/\s+/).slice(1, 4).join(' ')),
    routes: [
      ...(await lines('ip', 'route', 'show', 'table', 'all')),
      ...(await lines('ip', '-6', 'route', 'show', 'table', 'all')),
    ],
    rules: [...(await lines('ip', 'rule')), ...(await lines('ip', '-6', 'rule'))],
    // Whom the node itself spoke to on the wire is no business of ours.
    neighbours: (await lines('ip', 'neigh')).filter((line) => !line.includes(' dev eth0 ')),
    pinned: await lines('find', '/sys/fs/bpf'),
    ...(await mapEntries(node)),
    ...(await kernelObjects(node)),
    descriptors: descriptorKinds(node.agentPid),
    leases: await leases(node),
    stateFiles: await lines('find', join(node.machine.dir, 'cilium'), '-type', 'f'),
  };
}

async function bpftool<T>(node: LabNode, ...words: string[]): Promise<T> {
  return JSON.parse(await node.exec(['bpftool', '-j', ...words])) as T;
}

async function mapEntries(node: LabNode): Promise<Snapshot> {
  const snapshot: Snapshot = {};
  for (const name of (await node.exec(['ls', MAP_FOLDER])).split('\n')) {
    if (MAPS_WITHOUT_STATE.includes(name)) continue;
    const path = `${MAP_FOLDER}/${name}`;
    const entries = await bpftool<{ key: string[]; value?: string[] }[]>(node, 'map', 'dump', 'pinned', path);
    const keys = entries.map(({ key }) => key.join(' ')).sort();
    if (name === 'cilium_policy') snapshot[name] = [`${keys.length} slots`];
    else if (MAPS_WITH_TIMES.test(name)) snapshot[name] = keys;
    else snapshot[name] = entries.map(({ key, value }) => `${key.join(' ')}: ${(value ?? []).join(' ')}`).sort();
  }
  return snapshot;
}

/** How many programs, maps and links of each name the kernel holds; they are the machine's, so only when it is ours alone. */
async function kernelObjects(node: LabNode): Promise<Snapshot> {
  if (Lab.names().length > 1) return {};
  const snapshot: Snapshot = {};
  for (const kind of ['prog', 'map', 'link']) {
    const objects = await bpftool<{ name?: string; type: string }[]>(node, kind, 'show');
    snapshot[kind] = tally(objects.map(({ name, type }) => `${type} ${name ?? ''}`));
  }
  return snapshot;
}

/** What the process's open descriptors are; connections that others have opened to it, and may keep, are left out. */
function descriptorKinds(pid: number | undefined): string[] {
  if (pid === undefined) throw new Error('the agent is not running');
  const folder = `/proc/${pid}/fd`;
  const accepted = acceptedSockets(pid);
  const targets = readdirSync(folder).flatMap((name) => {
    try {
      return [readlinkSync(join(folder, name))];
    } catch {
      return []; // closed meanwhile
    }
  });
  const own = targets.filter((target) => !accepted.has(target));
  return tally(own.map((target) => target.replace(/:\[\d+\]$/, '')));
}

/** Unix sockets that are connected and have a path: what accept() gives. */
function acceptedSockets(pid: number): Set<string> {
  const rows = readFileSync(`/proc/${pid}/net/unix`, 'utf8').trim().split('\n').slice(1);
  const fields = rows.map((row) => row.trim().split(/\s+/));
  const accepted = fields.filter(([, , , , , state, , path]) => state === CONNECTED && path !== undefined);
  return new Set(accepted.map(([, , , , , , inode]) => `socket:[${inode!}]`));
}

async function leases(node: LabNode): Promise<string[]> {
  const status = JSON.parse(await node.cilium(['status', '-o', 'json'])) as {
    ipam: { allocations: Record<string, string> };
  };
  return Object.entries(status.ipam.allocations)
    .map(([address, owner]) => `${address} ${owner}`)
    .sort();
}

function tally(names: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} × ${name}`).sort();
}

/** What a person sees when two snapshots differ: lines that came and lines that went. */
export function differences(before: Snapshot, after: Snapshot): string[] {
  return Object.keys(before).flatMap((topic) => {
    const [old, now] = [before[topic] ?? [], after[topic] ?? []];
    return [
      ...now.filter((line) => !old.includes(line)).map((line) => `${topic}: + ${line}`),
      ...old.filter((line) => !now.includes(line)).map((line) => `${topic}: - ${line}`),
    ];
  });
}
