// SPDX-License-Identifier: Apache-2.0

/** Containers of two nodes, through tunnels and by routes, beside the kernel's own devices; interleaved round by round. */
import type { ChildProcess } from 'node:child_process';
import { CiliumError } from '../../errors/cilium-error.ts';
import { eventually } from '../support/eventually.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { Traffic } from '../traffic/traffic.ts';
import { crossNodeGoals, type Goal } from './goals.ts';
import { nodesPath, type Path, withoutDnsRules } from './paths.ts';
import { importPolicy, mustBeEnforced, policyEnds } from './policy.ts';
import { rawRouted, rawVxlan, rawWire } from './raw-paths.ts';
import { trafficTables } from './report.ts';
import { measureTraffic } from './traffic-section.ts';

const NETWORK = 'cilium-net';

export interface CrossNodeMeasurement {
  readonly rounds: number;
  readonly seconds: number;
  readonly onProgress: (step: string) => void;
}

/** Two labs of two nodes and an etcd each, one for each routing mode; gone when this returns. */
export async function measureCrossNode(options: CrossNodeMeasurement): Promise<{ text: string; goals: Goal[] }> {
  const { rounds, seconds, onProgress } = options;
  const lab = (mode: 'tunnel' | 'native') =>
    new Lab({
      name: `bench-${mode}-${process.pid}`,
      nodes: 2,
      agentArgs: [`--routing-mode=${mode}`],
      onProgress: (step) => onProgress(`${mode}: ${step}`),
    });
  const labs = { tunnel: lab('tunnel'), native: lab('native') };
  const paths: Path[] = [];
  const monitors: ChildProcess[] = [];
  try {
    const vxlan = await rawVxlan();
    paths.push(vxlan);
    for (const make of [rawWire, () => rawRouted(true), () => rawRouted(false)]) paths.push(await make());
    const overlay = await ciliumPath(labs.tunnel, 'cilium VXLAN, L4 policy both ways', paths);
    await ciliumPath(labs.native, 'cilium native routing, L4 policy both ways', paths);
    // Events cost something only while somebody reads them.
    for (const node of Object.values(labs).flatMap(({ nodes }) => nodes)) {
      monitors.push(node.spawn(['cilium', 'monitor', '-v'], { stdio: 'ignore' }));
    }
    const series = await measureTraffic(paths, { rounds, seconds, onProgress });
    const why = await overlayRefusal(labs.tunnel.node(1));
    const text = [
      `n = ${rounds} rounds of ${seconds} s; containers without Docker's DNS rules`,
      trafficTables(paths, series, { base: vxlan.name, short: 'raw VXLAN', stream: vxlan.name }),
      `Docker's overlay without swarm: \`docker network create -d overlay\` says "${why}".`,
    ].join('\n\n');
    return { text, goals: crossNodeGoals(series, { vxlan: vxlan.name, overlay: overlay.name }) };
  } finally {
    for (const monitor of monitors) monitor.kill();
    for (const path of paths) await path.remove();
    for (const one of Object.values(labs)) await one.down();
  }
}

/** Adds the path to `paths` as soon as it has something to remove. */
async function ciliumPath(lab: Lab, name: string, paths: Path[]): Promise<Path> {
  await lab.up();
  const nodes = [lab.node(1), lab.node(2)] as const;
  for (const node of nodes) {
    await node.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', NETWORK]);
    await importPolicy(node);
  }
  const path = await nodesPath(nodes, name, policyEnds(NETWORK));
  paths.push(path);
  await mustReach(path);
  await mustBeEnforced(path);
  await withoutDnsRules(path); // those of IPv4; the path serves both families
  return path;
}

/** The news of a container take their time to the other node. */
async function mustReach(path: Path): Promise<void> {
  const server = await Traffic.start(path.server, 'server');
  try {
    for (const addr of Object.values(path.addresses)) {
      await eventually(`${path.name} reaches ${addr}`, async () => {
        const { failed, count, lastError } = await Traffic.run(path.client, 'crr', { addr, duration: 0.2 });
        if (count === 0 || failed > 0) throw new Error(`${failed} of ${count} connections: ${lastError}`);
      });
    }
  } finally {
    await server.stop();
  }
}

/** What Docker says when it is asked for an overlay network without swarm. */
async function overlayRefusal(node: LabNode): Promise<string> {
  const { status, stderr } = await node.run(['docker', 'network', 'create', '-d', 'overlay', 'overlay-net']);
  if (status === 0) throw new CiliumError('Internal', "Docker's overlay can be had without swarm now: measure it");
  return stderr
    .trim()
    .split('\n')[0]!
    .replace(/^Error response from daemon: /, '');
}
