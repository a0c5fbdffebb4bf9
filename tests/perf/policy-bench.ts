// SPDX-License-Identifier: Apache-2.0

/**
 * `make bench-policy`: what rules and identities cost, from the `cilium` command to the kernel's policy maps, and in the
 * policy engine alone.
 *
 *     node tests/perf/policy-bench.ts [--only import,engine] [--quick] [--keep-docs]
 *
 * A full run writes its tables to docs/benchmarks.md; one with --only or --quick only prints them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { WORLD } from '../../lab/addresses.ts';
import { describeError } from '../../errors/cilium-error.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { IpAddress } from '../../net/ip.ts';
import { residentOf } from './agent-section.ts';
import { type Goal, goalTable } from './goals.ts';
import { KernelWatch } from './kernel-watch.ts';
import { machineFacts } from './paths.ts';
import { measureEngine, type EngineCase, type EngineRules } from './policy-engine-section.ts';
import { fillIdentities, measureJoiningIdentity } from './policy-identity-section.ts';
import { measureImports, wantedEntry } from './policy-import-section.ts';
import {
  engineTable,
  firstRuleGoal,
  identityGoals,
  importGoals,
  importTable,
  startTable,
  type ImportRuns,
} from './policy-report.ts';
import { BASE_RULE, CLIENT_PEER, RULE_KINDS, rulesOf, type RuleKind } from './policy-rules.ts';
import { writeResults } from './report.ts';
import { Series } from './statistics.ts';
import { timedCommand } from './timed-command.ts';

const DOCUMENT = join(import.meta.dirname, '../../docs/benchmarks.md');
const SECTIONS = ['import', 'engine'] as const;
const NETWORK = 'bench-net';
/** Room for all containers. */
const SUBNET = '10.16.0.0/22';
const PEERS = 10_000;
const START_AT_ONCE = 4;
const SETTLE_MS = 2_000;

interface Sizes {
  readonly rounds: number;
  readonly firsts: number;
  readonly joins: number;
  readonly engineRounds: number;
  readonly runs: readonly ImportRuns[];
  readonly engine: readonly EngineCase[];
}

const ENGINE_RULES: readonly EngineRules[] = [
  'ports',
  'CIDRs',
  'peers',
  'peers by NotIn, Exists',
  'peers by NotIn alone',
];

function engineCases(counts: readonly number[]): EngineCase[] {
  const growing = ENGINE_RULES.flatMap((rules) => counts.map((count) => ({ rules, count, endpoints: 1 })));
  const many = (['ports', 'CIDRs', 'peers'] as const).map((rules) => ({
    rules,
    count: counts.at(-1)!,
    endpoints: 300,
  }));
  return [...growing, ...many];
}

/** The first round of a run on endpoints tells only how long others wait. */
const FULL: Sizes = {
  rounds: 4,
  firsts: 9,
  joins: 9,
  engineRounds: 3,
  runs: [
    { endpoints: 1, sizes: [1, 1000, 5000, 10_000] },
    { endpoints: 100, sizes: [1, 1000, 5000, 10_000] },
    { endpoints: 300, sizes: [5000] },
  ],
  engine: engineCases([1000, 5000, 10_000]),
};

const QUICK: Sizes = {
  rounds: 2,
  firsts: 3,
  joins: 3,
  engineRounds: 1,
  runs: [
    { endpoints: 1, sizes: [1, 1000, 5000] },
    { endpoints: 20, sizes: [5000] },
  ],
  engine: engineCases([1000, 5000]),
};

interface Section {
  readonly text: string;
  readonly goals: readonly Goal[];
}

function progress(step: string): void {
  process.stderr.write(`${step}\n`);
}

/** The containers that the rules are for, and the one that they let in. */
class Containers {
  readonly #node: LabNode;
  readonly servers: IpAddress[] = [];

  constructor(node: LabNode) {
    this.#node = node;
  }

  async grow(count: number): Promise<void> {
    if (this.servers.length < count) progress(`policy: ${count} containers`);
    const numbers = Array.from({ length: count - this.servers.length }, (_, n) => this.servers.length + n);
    const worker = async (): Promise<void> => {
      for (let n = numbers.shift(); n !== undefined; n = numbers.shift()) {
        await this.run(`server${n}`, ['-l', `id=server${n}`, '-l', 'role=server']);
      }
    };
    const first = this.servers.length;
    await Promise.all(Array.from({ length: START_AT_ONCE }, worker));
    for (let n = first; n < count; n++) this.servers.push(await this.address(`server${n}`));
  }

  async run(name: string, args: readonly string[]): Promise<void> {
    await this.#node.docker(['run', '-d', '--name', name, '--hostname', name, '--network', NETWORK, ...args, 'web']);
  }

  async address(name: string): Promise<IpAddress> {
    const format = `{{(index .NetworkSettings.Networks "${NETWORK}").IPAddress}}`;
    return IpAddress.parse(await this.#node.docker(['inspect', '-f', format, name]));
  }

  /** Whether one reaches a web server. */
  async reaches(from: string, address: string): Promise<boolean> {
    const wget = ['timeout', '1', 'wget', '-q', '-O', '/dev/null', `http://${address}/`];
    return (await this.#node.run(['docker', 'exec', from, ...wget])).status === 0;
  }
}

/** What the kernel's maps say must be what packets meet, and what the command waits for. */
async function mustBeHonest(node: LabNode, containers: Containers, kind: RuleKind, watch: KernelWatch): Promise<void> {
  const [server] = containers.servers;
  const client = await containers.address('client');
  const wanted = wantedEntry(kind, { client, watch });
  const passes = () =>
    kind === 'CIDRs' ? containers.reaches('server0', WORLD.ipv4) : containers.reaches('client', server!.toString());
  const file = join(node.machine.dir, 'bench-honest.json');
  const expect = async (present: boolean): Promise<void> => {
    if (watch.has(server!, wanted) !== present) throw new Error(`${kind}: the policy map is not as the command said`);
    if ((await passes()) !== present) throw new Error(`${kind}: packets do not meet what the policy map says`);
  };
  writeFileSync(file, JSON.stringify([BASE_RULE]));
  await node.cilium(['policy', 'import', file]);
  await expect(false);
  const before = watch.count(server!);
  const count = 1000;
  writeFileSync(file, JSON.stringify(rulesOf(kind, count)));
  await node.cilium(['policy', 'import', file]);
  const added = watch.count(server!) - before;
  if (added !== count) throw new Error(`${kind}: ${added} entries came, not ${count}`);
  await expect(true);
  await node.cilium(['policy', 'delete', '--all']);
}

async function measureFirstRule(
  node: LabNode,
  containers: Containers,
  watch: KernelWatch,
  series: Series,
  rounds: number,
) {
  const client = await containers.address('client');
  const wanted = wantedEntry('ports', { client, watch });
  const file = join(node.machine.dir, 'bench-first.json');
  writeFileSync(file, JSON.stringify(rulesOf('ports', 1)));
  for (let round = 0; round < rounds; round++) {
    progress(`policy: the first rule, round ${round + 1} of ${rounds}`);
    const inForce = () => watch.waitFor(containers.servers, wanted, true);
    const times = await timedCommand(node, ['policy', 'import', file], inForce);
    series.add('first', times.sentToInForce);
    series.add('first start-up', times.untilSent);
    series.add('first whole', times.whole);
    await node.cilium(['policy', 'delete', '--all']);
  }
}

async function importSection(lab: Lab, sizes: Sizes): Promise<Section> {
  await lab.up();
  const node = lab.node(1);
  const create = ['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', '--subnet', SUBNET, NETWORK];
  await node.docker(create);
  progress(`policy: ${PEERS} identities`);
  await node.stopAgent();
  await fillIdentities(node, PEERS);
  await node.startAgent();
  const watch = new KernelWatch(node);
  try {
    return await measureOn(node, watch, sizes);
  } finally {
    watch.close();
  }
}

async function measureOn(node: LabNode, watch: KernelWatch, sizes: Sizes): Promise<Section> {
  const containers = new Containers(node);
  await containers.run('client', ['-l', `peer=${CLIENT_PEER}`]);
  await containers.grow(1);
  const client = await containers.address('client');
  const series = new Series();
  const texts: string[] = [];
  const memory: string[] = [];
  for (const kind of RULE_KINDS) await mustBeHonest(node, containers, kind, watch);
  await measureFirstRule(node, containers, watch, series, sizes.firsts);
  for (const run of sizes.runs) {
    await containers.grow(run.endpoints);
    await node.stopAgent();
    await node.startAgent();
    await delay(SETTLE_MS);
    memory.push(`${run.endpoints} endpoints ${(residentOf(node.agentPid!) / 1e6).toFixed(0)} MB`);
    const { servers } = containers;
    const { rounds } = sizes;
    await measureImports(node, series, { sizes: run.sizes, rounds, servers, client, watch, onProgress: progress });
    texts.push(importTable(series, run));
  }
  const endpoint = await endpointOf(node, client);
  await measureJoiningIdentity(node, series, {
    rounds: sizes.joins,
    rules: 1000,
    servers: containers.servers,
    newcomer: { endpoint, address: client },
    watch,
    onProgress: progress,
  });
  const limits = new Map([
    [1, 0.4],
    [100, 1],
  ]);
  const goals = sizes.runs.flatMap((run) => importGoals(series, run, limits.get(run.endpoints) ?? 1));
  const resident = `Agent after its start, ${PEERS.toLocaleString('en')} identities known, no rules: ${memory.join(', ')}.`;
  return { text: [startTable(series), ...texts, resident].join('\n\n'), goals: [firstRuleGoal(series), ...goals] };
}

async function endpointOf(node: LabNode, address: IpAddress): Promise<number> {
  const text = await node.cilium(['endpoint', 'get', `ipv4:${address.toString()}`, '-o', 'json']);
  return (JSON.parse(text) as { id: number }[])[0]!.id;
}

function engineSection(sizes: Sizes): Section {
  const series = measureEngine(sizes.engine, sizes.engineRounds, progress);
  return { text: engineTable(series, sizes.engine), goals: identityGoals(series, sizes.engine) };
}

async function heading(): Promise<string> {
  const { cpu, cpus, kernel, memoryGb } = await machineFacts();
  return `${new Date().toISOString().slice(0, 10)}, ${cpus} × ${cpu}, ${memoryGb} GB, Linux ${kernel}.`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'keep-docs': { type: 'boolean', default: false },
    },
  });
  const asked = values.only?.split(',') ?? [...SECTIONS];
  const unknown = asked.filter((section) => !(SECTIONS as readonly string[]).includes(section));
  if (unknown.length > 0) throw new Error(`--only takes some of ${SECTIONS.join(',')}, not ${unknown.join(',')}`);
  const sizes = values.quick ? QUICK : FULL;
  const sections: Section[] = [];
  if (asked.includes('import')) {
    const lab = new Lab({ name: `bench-${process.pid}`, nodes: 1, onProgress: progress });
    try {
      sections.push(await importSection(lab, sizes));
    } finally {
      await lab.down();
    }
  }
  if (asked.includes('engine')) sections.push(engineSection(sizes));
  const goals = goalTable(sections.flatMap((section) => section.goals));
  const results = [await heading(), goals, ...sections.map(({ text }) => text)].join('\n\n');
  console.log(results);
  const isFull = !values.quick && asked.length === SECTIONS.length;
  if (isFull && !values['keep-docs']) await writeResults(DOCUMENT, results, 'make bench-policy');
}

try {
  await main();
} catch (error) {
  console.error(`bench-policy: ${describeError(error)}`);
  process.exitCode = 1;
}
