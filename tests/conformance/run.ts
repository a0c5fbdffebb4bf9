// SPDX-License-Identifier: Apache-2.0

/**
 * `node tests/conformance/run.ts [DIR]`: runs every case file of a folder, prints what fails, then the count.
 *
 * With DATAPATH=1, as root: the packets of the cases run through the BPF programs too, in namespaces of their own.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { loadCases } from './case-files.ts';
import { runCase, type Difference, type PacketJudge } from './runner.ts';

/** Set in the process that runs inside the namespaces. */
const INSIDE = 'CILIUM_CONFORMANCE_NAMESPACE';

const path = process.argv[2] ?? join(import.meta.dirname, 'policy');
const wantsKernel = !['', '0', undefined].includes(process.env['DATAPATH']);

if (wantsKernel && process.env[INSIDE] === undefined) {
  const command = ['--net', '--mount', process.execPath, ...process.execArgv, import.meta.filename, path];
  const { status, error } = spawnSync('unshare', command, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  if (error !== undefined) console.error(`DATAPATH=1: ${error.message}`);
  process.exitCode = status ?? 1;
} else {
  process.exitCode = run(wantsKernel ? await kernel() : undefined);
}

async function kernel(): Promise<PacketJudge> {
  const [{ Bed }, { kernelJudge }] = await Promise.all([
    import('../bpf/support/bed.ts'),
    import('../bpf/support/judge.ts'),
  ]);
  return kernelJudge(new Bed());
}

/** The exit status; a folder without any case is no success. */
function run(judge: PacketJudge | undefined): number {
  let passed = 0;
  let failed = 0;
  for (const { file, cases, problem } of loadCases(path)) {
    if (problem !== undefined) {
      failed++;
      console.log(`${file}: ${problem}`);
    }
    for (const test of cases) {
      const differences = runCase(test, judge);
      if (differences.length === 0) passed++;
      else failed++;
      // What is no object at all has no id either.
      const { id, name } = Object(test) as Partial<typeof test>;
      for (const difference of differences) print(`${file} ${id} (${name})`, difference);
    }
  }
  if (passed + failed === 0) console.log(`no case files in ${path}`);
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

function print(title: string, { what, expected, found }: Difference): void {
  console.log(`${title}\n  ${what}\n  expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
}
