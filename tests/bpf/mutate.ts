// SPDX-License-Identifier: Apache-2.0

/**
 * Shows that the packet tests notice when a check is missing: takes each of mutants.ts out of a copy of the C, builds it
 * and expects the named test file to fail. `node tests/bpf/mutate.ts [part of a name]`, as root.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Mutant, MUTANTS } from './mutants.ts';

type Outcome = 'caught' | 'survived' | 'broken';

function replaceOnce(text: string, { name, from, to }: Mutant): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`${name}: its text stands ${parts.length - 1} times in the file`);
  return parts.join(to);
}

/** Runs one mutant; `broken` when it could not be built or loaded, which proves nothing. */
function tryMutant(mutant: Mutant): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'mutant-'));
  try {
    const source = join(folder, 'bpf-src');
    cpSync('bpf-src', source, { recursive: true, filter: (path) => !path.endsWith('/build') });
    const file = join(source, mutant.file);
    writeFileSync(file, replaceOnce(readFileSync(file, 'utf8'), mutant));
    const objects = join(folder, 'build');
    const build = spawnSync('tools/build-bpf.sh', [source, objects, '-Wno-error'], { encoding: 'utf8' });
    if (build.status !== 0) {
      console.log(build.stderr);
      return 'broken';
    }
    const command = ['--test', '--test-reporter=spec', `tests/bpf/${mutant.caughtBy}.test.ts`];
    const env = { ...process.env, BPF_OBJECTS: objects };
    const { status, stdout } = spawnSync(process.execPath, command, { encoding: 'utf8', env });
    if (status === 0) return 'survived';
    return stdout.includes('AssertionError') ? 'caught' : 'broken';
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const chosen = MUTANTS.filter(({ name }) => name.includes(process.argv[2] ?? ''));
for (const mutant of chosen) replaceOnce(readFileSync(join('bpf-src', mutant.file), 'utf8'), mutant);
const failures: string[] = [];
for (const mutant of chosen) {
  const outcome = tryMutant(mutant);
  console.log(`${outcome.padEnd(8)} ${mutant.file}: ${mutant.name}`);
  if (outcome !== 'caught') failures.push(`${mutant.name}: ${outcome}`);
}
console.log(`${chosen.length - failures.length} of ${chosen.length} caught`);
if (failures.length > 0) {
  console.log(failures.join('\n'));
  process.exitCode = 1;
}
