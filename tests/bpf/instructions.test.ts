// SPDX-License-Identifier: Apache-2.0

/**
 * Size of the programs and what the verifier spends on them, against bpf-src/instructions.txt: growth is to be seen in
 * review. `UPDATE_GOLDEN=1` writes the file. Compilers and kernels differ a little, hence the tolerance.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { ElfFile } from '../../datapath/btf/elf.ts';
import { Bed, type Program, PROGRAMS, TUNNEL } from './support/bed.ts';
import { inNamespace } from './support/namespace.ts';

const GOLDEN = 'bpf-src/instructions.txt';
const INSTRUCTION_BYTES = 8;
/** The kernel refuses a program on which the verifier would spend more. */
const VERIFIER_LIMIT = 1_000_000;
const TOLERANCE = { instructions: 0.1, verified: 0.4 } as const;

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
    const beds = { '': new Bed(), '+tunnel': new Bed({}, TUNNEL) };
    const actual = Object.entries(beds).flatMap(([suffix, bed]) =>
      Object.entries(PROGRAMS).map(([name, object]) => ({
        name: `${object}${suffix} ${name}`,
        instructions: instructionsOf(object),
        verified: bed.program(name as Program).info().verifiedInstructions,
      })),
    );
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
    for (const bed of Object.values(beds)) bed.close();
  });
});
