// SPDX-License-Identifier: Apache-2.0

/** The engine against the plain simulator in the whole language. PROPERTY_RUNS sets how many rule sets are tried. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { languageSamples, LanguageWorld, type LanguageCheck } from '../tests/conformance/language-world.ts';
import { simulate, simulateRequest } from '../tests/conformance/simulator.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
/** Of the questions of a world one in so many is asked, others each time. */
const STRIDE = 5;

test('in the whole language every packet and request is judged as the simulator judges it', () => {
  fc.assert(
    fc.property(languageSamples, fc.nat(STRIDE - 1), (sample, offset) => {
      const world = new LanguageWorld(sample);
      let number = offset;
      for (const check of world.checks()) {
        if (number++ % STRIDE > 0) continue;
        assert.equal(world.engine.verdict(check.question), expected(check), JSON.stringify(check.question));
      }
    }),
    { numRuns: RUNS },
  );
});

function expected({ simulation, subject, direction, peer, packet, request }: LanguageCheck): string {
  const verdict = simulate(simulation, subject, direction, peer, packet);
  if (request === undefined || verdict !== 'redirect') return verdict;
  return simulateRequest(simulation, subject, direction, peer, packet, request) ? 'allowed' : 'l7-denied';
}
