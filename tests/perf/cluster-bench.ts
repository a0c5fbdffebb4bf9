// SPDX-License-Identifier: Apache-2.0

/**
 * `make bench-cluster`: what a large cluster costs its etcd and each of its agents. The other nodes are keys in a real
 * etcd; one real agent joins them.
 *
 *     node tests/perf/cluster-bench.ts [--only join,storm] [--quick] [--keep-docs]
 *
 * A full run writes its tables to docs/benchmarks.md; one with --only or --quick only prints them.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '../../errors/cilium-error.ts';
import { Lab } from '../../lab/lab.ts';
import { ClusterPeer } from './cluster-peer-client.ts';
import { measureJoins } from './cluster-join-section.ts';
import { clusterGoals, joinTable, stormTable } from './cluster-report.ts';
import { measureStorms } from './cluster-storm-section.ts';
import { goalTable } from './goals.ts';
import { machineFacts } from './paths.ts';
import { writeResults } from './report.ts';
import { Series } from './statistics.ts';

const DOCUMENT = join(import.meta.dirname, '../../docs/benchmarks.md');
const SECTIONS = ['join', 'storm'] as const;

const FULL = { nodes: [10, 100, 1000], rounds: 5, additions: 20 };
const QUICK = { nodes: [10, 1000], rounds: 1, additions: 5 };

function progress(step: string): void {
  process.stderr.write(`cluster: ${step}\n`);
}

async function inLab(work: (lab: Lab, peer: ClusterPeer) => Promise<void>): Promise<void> {
  const lab = new Lab({ name: `bench-${process.pid}`, nodes: 1, etcd: 1, agent: false });
  try {
    await lab.up();
    const peer = ClusterPeer.start(lab.member(1));
    try {
      await work(lab, peer);
    } finally {
      peer.stop();
    }
  } finally {
    await lab.down();
  }
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
  const { nodes, rounds, additions } = values.quick ? QUICK : FULL;
  const series = new Series();
  const texts: string[] = [];
  if (asked.includes('join')) {
    for (const count of nodes) {
      const size = { nodes: count };
      await inLab((lab, peer) =>
        measureJoins(lab.node(1), peer, series, { size, rounds, additions, onProgress: progress }),
      );
    }
    texts.push(joinTable(series, nodes));
  }
  if (asked.includes('storm')) {
    await inLab((_lab, peer) => measureStorms(peer, series, rounds, progress));
    texts.push(stormTable(series));
  }
  const results = [await heading(), goalTable(clusterGoals(series, nodes)), ...texts].join('\n\n');
  console.log(results);
  const isFull = !values.quick && asked.length === SECTIONS.length;
  if (isFull && !values['keep-docs']) await writeResults(DOCUMENT, results, 'make bench-cluster');
}

try {
  await main();
} catch (error) {
  console.error(`bench-cluster: ${describeError(error)}`);
  process.exitCode = 1;
}
