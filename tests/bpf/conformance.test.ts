// SPDX-License-Identifier: Apache-2.0

/**
 * The engine and the kernel agree: every packet of the conformance cases runs through the compiled programs, with the
 * policy maps that the engine makes and, for peers outside, their identity from the ipcache map.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadCases } from '../conformance/case-files.ts';
import type { ConformanceEngine, Question } from '../conformance/engine.ts';
import { languageSamples, LanguageWorld } from '../conformance/language-world.ts';
import { runCase, type PacketJudge } from '../conformance/runner.ts';
import { Bed } from './support/bed.ts';
import { kernelJudge } from './support/judge.ts';
import { inNamespace } from './support/namespace.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 15);
/** Of the packets of a world one in so many; no multiple of how many each peer gets. */
const STRIDE = 17;

inNamespace(import.meta.filename, () => {
  const kernel = kernelJudge(new Bed());
  for (const { file, cases } of loadCases(join(import.meta.dirname, '../conformance/policy'))) {
    const judged = cases.filter(({ kind }) => kind === 'evaluate' || kind === 'repository');
    if (judged.length === 0) continue;
    test(`privileged: the kernel judges the packets of ${file} as the engine does`, () => {
      for (const one of judged) assert.deepEqual(runCase(one, kernel), [], `${one.id} ${one.name}`);
    });
  }

  test('privileged: the kernel judges packets by random rules as the engine does', () => {
    fc.assert(
      fc.property(languageSamples, fc.nat(STRIDE - 1), (sample, offset) => {
        const world = new LanguageWorld(sample);
        let number = offset;
        for (const { question, request } of world.checks())
          if (request === undefined && number++ % STRIDE === 0) judge(kernel, world.engine, question);
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  });
});

function judge(kernel: PacketJudge, engine: ConformanceEngine, check: Question): void {
  for (const side of engine.sidesOf(check)) {
    const expected = engine.packetVerdict(side);
    assert.equal(kernel(side, engine.entriesOf(side.subject)) ?? expected, expected, JSON.stringify(check));
  }
}
