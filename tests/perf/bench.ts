// SPDX-License-Identifier: Apache-2.0

/**
 * `make bench`: everything that docs/benchmarks.md reports, in one run on one lab.
 *
 *     node tests/perf/bench.ts [--only traffic,cross,run,agent] [--quick] [--no-agent] [--keep-docs]
 *
 * Sections that are compared with each other are interleaved: round by round every path and network has its turn.
 * A full run writes its tables to docs/benchmarks.md, and so does one with --only cross, to a place of their own; others
 * only print them.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '../../errors/cilium-error.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { measureAgent } from './agent-section.ts';
import { measureCrossNode } from './cross-node-section.ts';
import { measureJoins } from './join-section.ts';
import {
  bareBridge,
  bareVeth,
  bareVethWithDnsRules,
  containerPath,
  machineFacts,
  type Path,
  withoutDnsRules,
} from './paths.ts';
import { agentGoals, type Goal, goalTable, runGoals, trafficGoals } from './goals.ts';
import { importPolicy, mustBeEnforced, policyEnds } from './policy.ts';
import { agentTable, runTable, trafficTables, writeResults } from './report.ts';
import { measureRuns } from './run-section.ts';
import { measureTraffic } from './traffic-section.ts';

const DOCUMENT = join(import.meta.dirname, '../../docs/benchmarks.md');
const SECTIONS = ['traffic', 'cross', 'run', 'agent'] as const;
type SectionName = (typeof SECTIONS)[number];

/** What writes the tables across nodes: they need labs of their own, and stand on their own. */
const CROSS_COMMAND = 'make bench BENCH="--only cross"';

const FULL = { trafficRounds: 9, trafficSeconds: 0.8, runRounds: 15, joins: 50, agentStarts: 9, idleSeconds: 20 };
const QUICK: typeof FULL = {
  trafficRounds: 3,
  trafficSeconds: 0.2,
  runRounds: 3,
  joins: 5,
  agentStarts: 3,
  idleSeconds: 3,
};

/** Docker networks of the node, by the names they get there. */
const NETWORKS = { user: 'user-bridge', dual: 'dual-bridge', cilium: 'cilium-net' };
interface Settings {
  sections: readonly SectionName[];
  sizes: typeof FULL;
  agent: boolean;
  /** Sections whose tables go to the document. */
  written: readonly SectionName[];
}

function parseSettings(): Settings {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'no-agent': { type: 'boolean', default: false },
      'keep-docs': { type: 'boolean', default: false },
    },
  });
  const asked = values.only?.split(',') ?? [...SECTIONS];
  const sections = SECTIONS.filter((section) => asked.includes(section));
  if (sections.length !== asked.length)
    throw new Error(`--only takes some of ${SECTIONS.join(',')}, not ${asked.join(',')}`);
  const agent = !values['no-agent'];
  const counts = agent && !values.quick && !values['keep-docs'];
  const written = sections.length === SECTIONS.length ? SECTIONS : sections.filter((section) => section === 'cross');
  return { sections, sizes: values.quick ? QUICK : FULL, agent, written: counts ? written : [] };
}

function progress(step: string): void {
  process.stderr.write(`${step}\n`);
}

async function makeNetworks(node: LabNode, agent: boolean): Promise<void> {
  await node.docker(['network', 'create', NETWORKS.user]);
  await node.docker(['network', 'create', '--ipv6', '--subnet', 'fd97::/64', NETWORKS.dual]);
  if (agent) await node.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', NETWORKS.cilium]);
}

const PATH_NAMES = {
  base: 'bare veth pair',
  baseWithDns: "bare veth pair, Docker's DNS rules",
  bridge: 'Docker, dual-stack bridge',
  policy: 'cilium, L4 policy both ways',
  policyWithoutDns: "the same, without Docker's DNS rules",
};

const BASES = { base: PATH_NAMES.base, short: 'bare', stream: PATH_NAMES.bridge };

/** Adds to `paths` one by one, so that the caller can remove those that stand when a later one fails. */
async function makePaths(node: LabNode, agent: boolean, paths: Path[]): Promise<void> {
  paths.push(await bareVeth(), await bareVethWithDnsRules(), await bareBridge());
  paths.push(await containerPath(node, 'Docker, default bridge', { network: 'bridge' }));
  paths.push(await containerPath(node, PATH_NAMES.bridge, { network: NETWORKS.dual }));
  if (!agent) return;
  paths.push(await containerPath(node, 'cilium, no policy', { network: NETWORKS.cilium }));
  const enforced = await containerPath(node, PATH_NAMES.policy, policyEnds(NETWORKS.cilium));
  paths.push(enforced);
  await importPolicy(node);
  await mustBeEnforced(enforced);
  const pure = await containerPath(node, PATH_NAMES.policyWithoutDns, policyEnds(NETWORKS.cilium));
  paths.push(await withoutDnsRules(pure));
}

/** What one section has to say. */
interface Section {
  readonly text: string;
  readonly goals: readonly Goal[];
}

async function trafficSection(node: LabNode, settings: Settings): Promise<Section> {
  const paths: Path[] = [];
  const { trafficRounds: rounds, trafficSeconds: seconds } = settings.sizes;
  // Events cost something only while somebody reads them.
  const monitor = settings.agent ? node.spawn(['cilium', 'monitor', '-v'], { stdio: 'ignore' }) : undefined;
  try {
    await makePaths(node, settings.agent, paths);
    const series = await measureTraffic(paths, { rounds, seconds, onProgress: progress });
    const text = `n = ${rounds} rounds of ${seconds} s\n\n${trafficTables(paths, series, BASES)}`;
    return { text, goals: settings.agent ? trafficGoals(series, PATH_NAMES) : [] };
  } finally {
    monitor?.kill();
    for (const path of paths) await path.remove();
  }
}

/** On labs of its own. */
function crossSection(settings: Settings): Promise<Section> {
  const { trafficRounds: rounds, trafficSeconds: seconds } = settings.sizes;
  return measureCrossNode({ rounds, seconds, onProgress: progress });
}

async function runSection(node: LabNode, settings: Settings): Promise<Section> {
  const networks = [
    { name: 'none', title: 'no network' },
    { name: 'bridge', title: 'default bridge' },
    { name: NETWORKS.user, title: 'user-defined bridge' },
    { name: NETWORKS.dual, title: 'user-defined dual-stack bridge' },
    ...(settings.agent ? [{ name: NETWORKS.cilium, title: 'cilium' }] : []),
  ];
  const rounds = settings.sizes.runRounds;
  const names = networks.map(({ name }) => name);
  const series = await measureRuns(node, names, { rounds, onProgress: progress });
  const text = `n = ${rounds}\n\n${runTable(networks, series, NETWORKS.dual)}`;
  return { text, goals: settings.agent ? runGoals(series, NETWORKS.cilium, NETWORKS.dual) : [] };
}

async function agentSection(node: LabNode, settings: Settings): Promise<Section> {
  const costs = await measureAgent(node, {
    starts: settings.sizes.agentStarts,
    idleSeconds: settings.sizes.idleSeconds,
    network: NETWORKS.cilium,
    onProgress: progress,
  });
  const { joins: containers } = settings.sizes;
  const joins = await measureJoins(node, { containers, network: NETWORKS.cilium, onProgress: progress });
  return { text: agentTable(costs, joins), goals: agentGoals(costs, joins) };
}

async function heading(node: LabNode): Promise<string> {
  const { cpu, cpus, kernel, memoryGb } = await machineFacts();
  const engine = await node.docker(['version', '-f', '{{.Server.Version}}']);
  return `${new Date().toISOString().slice(0, 10)}, ${cpus} × ${cpu}, ${memoryGb} GB, Linux ${kernel}, Docker ${engine}.`;
}

async function report(node: LabNode, sections: readonly Section[]): Promise<string> {
  const goals = goalTable(sections.flatMap((section) => section.goals));
  return [await heading(node), goals, ...sections.map(({ text }) => text)].join('\n\n');
}

async function main(): Promise<void> {
  const settings = parseSettings();
  const lab = new Lab({ name: `bench-${process.pid}`, nodes: 1, agent: settings.agent, onProgress: progress });
  try {
    await lab.up();
    const node = lab.node(1);
    await makeNetworks(node, settings.agent);
    const sections: Section[] = [];
    if (settings.sections.includes('traffic')) sections.push(await trafficSection(node, settings));
    if (settings.sections.includes('run')) sections.push(await runSection(node, settings));
    if (settings.sections.includes('agent') && settings.agent) sections.push(await agentSection(node, settings));
    const results = await report(node, sections);
    if (sections.length > 0) console.log(results);
    if (settings.written.includes('run')) await writeResults(DOCUMENT, results);
    if (!settings.sections.includes('cross') || !settings.agent) return;
    const across = await report(node, [await crossSection(settings)]);
    console.log(across);
    if (settings.written.includes('cross')) await writeResults(DOCUMENT, across, CROSS_COMMAND);
  } finally {
    await lab.down();
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${describeError(error)}`);
  process.exitCode = 1;
}
