// SPDX-License-Identifier: Apache-2.0

/** What is traced and explained is what policy maps enforce. PROPERTY_RUNS sets how many worlds are tried. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { LabelSet } from '../identity/label-set.ts';
import {
  BuiltWorld,
  parseRandom,
  randomWorlds,
  SAMPLE_PACKETS,
  type WorldPeer,
} from '../tests/conformance/random-world.ts';
import { explainFlow } from './explain-flow.ts';
import { IP_PROTOCOL } from './map-entry.ts';
import { DIRECTIONS } from './rule.ts';
import { tracePolicy, type TracedPort } from './trace.ts';
import type { FlowEnd } from './why/flow-end.ts';

const RUNS = Math.ceil(Number(process.env['PROPERTY_RUNS'] ?? 500) / 10);

const TRACED = SAMPLE_PACKETS.flatMap(({ protocol, port }) => {
  const name = (['TCP', 'UDP', 'SCTP'] as const).find((one) => IP_PROTOCOL[one] === protocol);
  return name === undefined ? [] : [{ protocol, port, traced: { port, protocol: name } satisfies TracedPort }];
});

test('trace says what is enforced, for every port and direction', () => {
  fc.assert(
    fc.property(randomWorlds, (random) => {
      const world = new BuiltWorld(random);
      world.repository.import(parseRandom(random.ruleSet));
      const passes = (real: string): boolean => real === 'allowed' || (real === 'redirect' && !random.dropsRedirects);
      const labelsOf = (peer: WorldPeer): LabelSet => world.repository.labelsOf(world.identityOf(peer))!;
      for (const subject of world.subjects) {
        for (const peer of world.peers) {
          const [own, other] = [world.repository.labelsOf(subject)!, labelsOf(peer)];
          for (const { protocol, port, traced } of TRACED) {
            const out = tracePolicy(world.repository, { from: own, to: other, ports: [traced] });
            const back = tracePolicy(world.repository, { from: other, to: own, ports: [traced] });
            for (const [direction, trace] of [
              ['egress', out.egress],
              ['ingress', back.ingress],
            ] as const) {
              const real = world.verdict(subject, direction, peer, { protocol, port });
              assert.equal(trace.verdict, passes(real) ? 'allowed' : 'denied', `${direction} ${port}/${protocol}`);
            }
          }
          const labels = tracePolicy(world.repository, { from: own, to: other, ports: [] }).egress;
          if (labels.labelVerdict === 'undecided') continue;
          const all = SAMPLE_PACKETS.map((packet) => world.verdict(subject, 'egress', peer, packet) === 'denied');
          if (labels.labelVerdict === 'denied') assert.ok(all.every(Boolean));
          else assert.ok(all.includes(false));
        }
      }
    }),
    { numRuns: RUNS },
  );
});

test('an explanation says what is enforced, and its rules are those behind the entry', () => {
  fc.assert(
    fc.property(randomWorlds, (random) => {
      const world = new BuiltWorld(random);
      const { repository } = world;
      repository.import(parseRandom(random.ruleSet));
      const endOf = (peer: WorldPeer): FlowEnd => {
        const identity = world.identityOf(peer);
        const address = 'address' in peer ? { address: peer.address } : {};
        return {
          identity,
          labels: repository.labelsOf(identity)!,
          managed: world.subjects.includes(identity),
          ...address,
        };
      };
      for (const subject of world.subjects) {
        for (const peer of world.peers) {
          for (const packet of SAMPLE_PACKETS) {
            const own = endOf({ identity: subject });
            const other = endOf(peer);
            for (const direction of DIRECTIONS) {
              const ends = direction === 'egress' ? { from: own, to: other } : { from: other, to: own };
              const found = explainFlow(repository, { ...ends, ...packet })[direction];
              assert.equal(found.verdict, world.verdict(subject, direction, peer, packet));
              const behind = new Set(found.map!.rules);
              const deciding = found.hits.filter(({ decides }) => decides).map(({ rule }) => rule);
              assert.ok([...behind].every((rule) => deciding.includes(rule)));
              assert.equal(found.map!.entry === undefined, found.cause === 'no-rule-allows');
              if (behind.size === 0)
                assert.ok(found.cause === 'setting' || found.cause === 'no-rule-allows' || found.setting);
            }
          }
        }
      }
    }),
    { numRuns: RUNS },
  );
});
