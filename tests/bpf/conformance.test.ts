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
import { ConformanceEngine, type Question } from '../conformance/engine.ts';
import { endpointLabels, PACKETS, rules } from '../conformance/random-rules.ts';
import { runCase, type PacketJudge } from '../conformance/runner.ts';
import { Bed } from './support/bed.ts';
import { kernelJudge } from './support/judge.ts';
import { inNamespace } from './support/namespace.ts';

/** Requirements on peers are of this dialect; the random rules have some. */
const LANGUAGE = { dialect: '1.1' } as const;
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 15);

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
    const peers = { near: { ip: '10.1.1.1' }, far: { ip: '2001:db8::1' }, host: { entity: 'host' } };
    const worlds = fc.tuple(
      fc.array(rules, { minLength: 1, maxLength: 6, size: 'max' }),
      endpointLabels,
      endpointLabels,
    );
    fc.assert(
      fc.property(worlds, ([ruleSet, own, other]) => {
        const engine = new ConformanceEngine(
          { endpoints: { own: { labels: own }, other: { labels: other } }, peers },
          LANGUAGE,
        );
        engine.import(engine.parse(ruleSet));
        const names = ['other', ...Object.keys(peers)];
        for (const { proto, port } of PACKETS) {
          for (const name of names) {
            judge(kernel, engine, { from: 'own', to: name, direction: 'egress', proto, port });
            judge(kernel, engine, { from: name, to: 'own', direction: 'ingress', proto, port });
          }
        }
      }),
      { numRuns: RUNS },
    );
  });
});

function judge(kernel: PacketJudge, engine: ConformanceEngine, check: Question): void {
  for (const side of engine.sidesOf(check)) {
    const expected = engine.packetVerdict(side);
    assert.equal(kernel(side, engine.entriesOf(side.subject)) ?? expected, expected, JSON.stringify(check));
  }
}
