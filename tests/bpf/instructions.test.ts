// SPDX-License-Identifier: Apache-2.0

/**
 * Size of the programs and what the verifier spends on them, against bpf-src/instructions.txt: growth is to be seen in
 * review. `UPDATE_GOLDEN=1` writes the file. Compilers and kernels differ a little, hence the tolerance.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { ElfFile } from '../../datapath/btf/elf.ts';
import { Bed, type Program } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';

const GOLDEN = 'bpf-src/instructions.txt';
const INSTRUCTION_BYTES = 8;
/** The kernel refuses a program on which the verifier would spend more. */
const VERIFIER_LIMIT = 1_000_000;
const TOLERANCE = { instructions: 0.1, verified: 0.4 } as const;

const PROGRAMS: readonly (readonly [object: string, program: Program])[] = [
  ['bpf_lxc', 'cil_from_container'],
  ['bpf_lxc', 'cil_to_container'],
  ['bpf_host', 'cil_from_host'],
  ['bpf_netdev', 'cil_from_netdev'],
];

/** Of all functions of an object; its programs share those that are called. */
function instructionsOf(object: string): number {
  const elf = new ElfFile(readFileSync(`${process.env['BPF_OBJECTS'] ?? 'bpf-src/build'}/${object}.o`));
  const sections = [elf.section('tc'), elf.section('.text')];
  return sections.reduce((sum, section) => sum + (section?.length ?? 0), 0) / INSTRUCTION_BYTES;
}

function close(actual: number, golden: number, tolerance: number): boolean {
  return Math.abs(actual - golden) <= golden * tolerance;
}

inNamespace(import.meta.filename, () => {
  test('privileged: the programs are as large, and as hard to verify, as the golden file says', () => {
    const bed = new Bed();
    const actual = PROGRAMS.map(([object, name]) => ({
      name: `${object} ${name}`,
      instructions: instructionsOf(object),
      verified: bed.program(name).info().verifiedInstructions,
    }));
    for (const { name, verified } of actual) assert.ok(verified < VERIFIER_LIMIT / 2, `${name}: ${verified}`);
    const lines = actual.map(({ name, instructions, verified }) => `${name} ${instructions} ${verified}`);
    if (process.env['UPDATE_GOLDEN'] !== undefined) {
      const head = '# object, program, instructions of the whole object, instructions that the verifier walked';
      writeFileSync(GOLDEN, `${[head, ...lines].join('\n')}\n`);
    }
    const golden = readFileSync(GOLDEN, 'utf8').split('\n').slice(1, -1);
    assert.equal(golden.length, actual.length);
    for (const [i, { name, instructions, verified }] of actual.entries()) {
      const [object, program, size, walked] = golden[i]!.split(' ');
      assert.equal(`${object!} ${program!}`, name);
      const hint = `${lines[i]!} now, ${golden[i]!} in ${GOLDEN}; UPDATE_GOLDEN=1 writes it`;
      assert.ok(close(instructions, Number(size), TOLERANCE.instructions), hint);
      assert.ok(close(verified, Number(walked), TOLERANCE.verified), hint);
    }
    bed.close();
  });
});
