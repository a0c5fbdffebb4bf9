// SPDX-License-Identifier: Apache-2.0

/** What is simulated is what happens: two real repositories, before and after, are compared packet by packet. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Label } from '../identity/label.ts';
import {
  BuiltWorld,
  groupOf,
  parseRandom,
  RANDOM_GROUP,
  randomWorlds,
  SAMPLE_PACKETS,
  type WorldPeer,
} from '../tests/conformance/random-world.ts';
import { rules } from '../tests/conformance/random-rules.ts';
import { DIRECTIONS, type Rule } from './rule.ts';
import { simulateImport, type PolicyChange, type PolicyDifference } from './simulation.ts';
import type { SimulatedFlow } from './why/subject-change.ts';

const RUNS = Math.ceil(Number(process.env['PROPERTY_RUNS'] ?? 500) / 5);

const UNITS: readonly Label[] = ['1', '2', '3'].map((value) => ({ source: 'x', key: 'unit', value }));

const unit = fc.constantFrom(...UNITS);

const changes = fc.oneof(
  unit.map((label) => ({ kind: 'delete' as const, label })),
  fc.record(
    {
      kind: fc.constant('import' as const),
      ruleSet: fc.array(rules, { minLength: 1, maxLength: 3 }),
      label: unit,
      replace: fc.boolean(),
      replaceWith: fc.option(unit),
      group: fc.option(fc.constantFrom(['192.0.2.0/25', '10.1.0.0/16'], ['10.1.1.0/24'], [])),
    },
    { noNullPrototype: true },
  ),
);

test('what is simulated is what happens', () => {
  fc.assert(
    fc.property(randomWorlds, fc.array(unit, { minLength: 6, maxLength: 6 }), changes, (random, units, change) => {
      const [before, after] = [new BuiltWorld(random), new BuiltWorld(random)];
      const stored = parseRandom(random.ruleSet).map((rule, index) => labelled(rule, units[index]!));
      for (const { repository } of [before, after]) repository.import(stored);
      before.repository.takeUpdates();
      const state = stateOf(before);
      const simulated = simulateImport(before.repository, changeOf(change), { flows: flowsOf(before) });
      assert.deepEqual([before.repository.takeUpdates(), stateOf(before)], [[], state]);
      makeReal(after, changeOf(change));

      const judged = new Map(simulated.flows.map(({ flow, ...verdicts }) => [flow.key, verdicts]));
      for (const flow of flowsOf(before)) {
        const [old, now] = [before, after].map((world) => world.verdict(flow.subject, flow.direction, flow.real, flow));
        assert.deepEqual(judged.get(flow.key), old === now ? undefined : { before: old, after: now }, flow.key);
        const difference = simulated.differences.find(
          ({ direction, subjects }) => direction === flow.direction && subjects.includes(flow.subject),
        );
        const shown = difference === undefined ? undefined : shownChange(difference, after, flow);
        assert.deepEqual(shown, old === now ? undefined : { before: old, after: now }, `shown ${flow.key}`);
      }
    }),
    { numRuns: RUNS },
  );
});

function stateOf({ repository }: BuiltWorld): unknown {
  const identities = Array.from(repository.view().peers.identities(), ([id]) => id);
  return [repository.revision, repository.rules(), repository.selectors(), repository.subjectSelectors(), identities];
}

function changeOf(change: typeof changes extends fc.Arbitrary<infer T> ? T : never): PolicyChange {
  if (change.kind === 'delete') return { deleteLabels: [change.label] };
  const add = parseRandom(change.ruleSet).map((rule) => labelled(rule, change.label));
  const replaceWithLabels = change.replaceWith === null ? {} : { replaceWithLabels: [change.replaceWith] };
  const groups = change.group === null ? {} : { groups: [[RANDOM_GROUP, groupOf(...change.group)] as const] };
  return { add, options: { replace: change.replace, ...replaceWithLabels }, ...groups };
}

function makeReal({ repository }: BuiltWorld, change: PolicyChange): void {
  if ('add' in change) {
    repository.setCidrGroups(change.groups ?? []);
    repository.import(change.add, change.options);
  } else repository.deleteByLabels(change.deleteLabels);
}

function labelled(rule: Rule, label: Label): Rule {
  return { ...rule, labels: [label] };
}

interface TestFlow extends SimulatedFlow {
  readonly key: string;
  readonly real: WorldPeer;
}

function flowsOf(world: BuiltWorld): TestFlow[] {
  return world.subjects.flatMap((subject) =>
    world.peers.flatMap((real, index) =>
      DIRECTIONS.flatMap((direction) =>
        SAMPLE_PACKETS.map((packet) => ({
          subject,
          direction,
          peer: world.identityOf(real),
          peerAddress: 'address' in real ? real.address : undefined,
          ...packet,
          key: `${subject} ${direction} ${'address' in real ? real.address.toString() : index} ${packet.protocol}/${packet.port}`,
          real,
        })),
      ),
    ),
  );
}

/** As a person reads it: the group that names the peer, the narrowest prefix first, else that of all others. */
function shownChange(
  { groups }: PolicyDifference,
  after: BuiltWorld,
  { real, peer, protocol, port }: TestFlow,
): object | undefined {
  const labels = after.repository.labelsOf(after.identityOf(real))!;
  const naming = groups.flatMap((group) =>
    group.peers
      .filter(
        (one) => one.kind === 'others' || (one.kind === 'prefix' ? one.labels.equals(labels) : one.identity === peer),
      )
      .map((one) => ({ group, length: one.kind === 'others' ? -1 : (one.labels.prefixes[0]?.length ?? 0) })),
  );
  const group = naming.sort((a, b) => b.length - a.length)[0]?.group;
  const found = group?.changes.find(
    (change) =>
      (change.protocol === undefined ? !change.exceptProtocols.includes(protocol) : change.protocol === protocol) &&
      change.firstPort <= port &&
      port <= change.lastPort,
  );
  return found && { before: found.before, after: found.after };
}
