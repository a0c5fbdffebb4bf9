// SPDX-License-Identifier: Apache-2.0

/** A suggested rule allows its flow and nothing else, and nothing can be left out of it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { parseLabel } from '../identity/label.ts';
import { EndpointSelector } from '../identity/selector.ts';
import {
  BuiltWorld,
  parseRandom,
  randomWorlds,
  SAMPLE_PACKETS,
  type WorldPeer,
} from '../tests/conformance/random-world.ts';
import { explainFlow, type FlowExplanation } from './explain-flow.ts';
import { parseRules } from './parse/rule.ts';
import type { Entry, Rule } from './rule.ts';
import type { Obstacle } from './suggestion.ts';
import type { FlowEnd } from './why/flow-end.ts';
import { narrowSelector } from './why/narrow.ts';

const RUNS = Math.ceil(Number(process.env['PROPERTY_RUNS'] ?? 500) / 5);
const FLOWS = 4;

test('a suggested rule allows its flow and nothing else', () => {
  fc.assert(
    fc.property(randomWorlds, fc.infiniteStream(fc.nat()), (random, numbers) => {
      const world = new BuiltWorld(random);
      world.repository.import(parseRandom(random.ruleSet));
      const flows = world.subjects.flatMap((subject) =>
        world.peers.flatMap((peer) =>
          SAMPLE_PACKETS.flatMap((packet) => [
            { from: { identity: subject }, to: peer, packet },
            { from: peer, to: { identity: subject }, packet },
          ]),
        ),
      );
      for (let count = 0; count < FLOWS; count++) checkFlow(world, flows[numbers.next().value! % flows.length]!);
    }),
    { numRuns: RUNS },
  );
});

interface Flow {
  readonly from: WorldPeer;
  readonly to: WorldPeer;
  readonly packet: (typeof SAMPLE_PACKETS)[number];
}

function checkFlow(world: BuiltWorld, flow: Flow): void {
  const { repository } = world;
  const { suggestion } = explain(world, flow);
  if (suggestion === undefined) return;
  assert.deepEqual(suggestion.impossible, []);
  const before = verdicts(world, flow);
  const stored = repository.rules();
  const mended = stored.map((rule) => suggestion.remove.reduce(without, rule));
  const rules = parseRules(suggestion.rules);
  repository.import(mended, { replaceWithLabels: [] });
  if (suggestion.remove.length > 0 && rules.length > 0) assert.equal(explain(world, flow).verdict, 'denied');
  repository.import(rules);
  const after = explain(world, flow);
  assert.notEqual(after.verdict, 'denied');
  assert.equal(after.suggestion, undefined);
  if (suggestion.remove.length === 0 && suggestion.wider.length === 0) assert.deepEqual(verdicts(world, flow), before);
  for (const rule of rules) {
    repository.import(
      rules.filter((other) => other !== rule),
      { replaceWithLabels: [parseLabel(suggestion.label)] },
    );
    assert.equal(explain(world, flow).verdict, 'denied', 'one rule is too many');
  }
  repository.import(stored, { replaceWithLabels: [] });
  assert.deepEqual(verdicts(world, flow), before);
}

function explain(world: BuiltWorld, { from, to, packet }: Flow): FlowExplanation {
  const endOf = (peer: WorldPeer): FlowEnd => {
    const identity = world.identityOf(peer);
    const address = 'address' in peer ? { address: peer.address } : {};
    const labels = world.repository.labelsOf(identity)!;
    return { identity, labels, managed: world.subjects.includes(identity), ...address };
  };
  return explainFlow(world.repository, { from: endOf(from), to: endOf(to), ...packet });
}

/** Of everything but the flow itself. */
function verdicts(world: BuiltWorld, { from, to, packet }: Flow): string[] {
  return world.subjects.flatMap((identity) =>
    world.peers.flatMap((peer) =>
      SAMPLE_PACKETS.flatMap((other) => {
        const is = (one: WorldPeer, another: WorldPeer): boolean => JSON.stringify(one) === JSON.stringify(another);
        const asked = other === packet;
        return [
          asked && is({ identity }, from) && is(peer, to) ? '' : world.verdict(identity, 'egress', peer, other),
          asked && is({ identity }, to) && is(peer, from) ? '' : world.verdict(identity, 'ingress', peer, other),
        ];
      }),
    ),
  );
}

function without(rule: Rule, { kind, section, entry, portRule, rule: wanted }: Obstacle): Rule {
  if (rule.origin !== wanted.origin) return rule;
  const list = rule.entries[section].map((one, index): Entry => {
    if (index !== entry) return one;
    if (kind === 'requires') return { ...one, requires: [] };
    if (portRule === undefined) return { peers: [] };
    return { ...one, toPorts: one.toPorts!.map((ports, place) => (place === portRule ? { ports: [] } : ports)) };
  });
  return { ...rule, entries: { ...rule.entries, [section]: list } };
}

const labelSets = fc
  .uniqueArray(
    fc.tuple(fc.constantFrom('app', 'env', 'tier', 'com.x/y', 'a b'), fc.constantFrom('1', '2', '', 'x y')),
    { minLength: 1, maxLength: 4, selector: ([key]) => key },
  )
  .map((pairs) => LabelSet.of(pairs.map(([key, value]) => ({ source: 'container', key, value }))));

test('the narrowest selector selects its labels, none that can be told apart, and needs each requirement', () => {
  fc.assert(
    fc.property(labelSets, fc.array(labelSets, { maxLength: 8 }), (labels, others) => {
      const found = narrowSelector(labels, others);
      if (found === undefined) {
        assert.ok([...labels].every(({ key }) => key === 'a b'));
        return;
      }
      const { selector, alsoSelects } = found;
      assert.ok(selector.matches(labels));
      const selected = others.filter((other) => !other.equals(labels) && selector.matches(other));
      assert.deepEqual(selected.map(String).sort(), alsoSelects.map(String).sort());
      for (const left of selector.requirements) {
        const rest = selector.requirements.filter((requirement) => requirement !== left);
        const wider = others.filter((other) => !other.equals(labels) && new EndpointSelector(rest).matches(other));
        const positive = rest.some(({ operator }) => operator !== 'DoesNotExist');
        assert.ok(!positive || wider.length > selected.length);
      }
    }),
    { numRuns: RUNS * 5 },
  );
});
