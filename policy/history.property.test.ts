// SPDX-License-Identifier: Apache-2.0

/** The end state does not depend on the way to it, and the deltas given out on the way add up to it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity, type NumericIdentity } from '../identity/numeric-identity.ts';
import type { Prefix } from '../net/ip.ts';
import { endpointLabels, enforcements, rules } from '../tests/conformance/random-rules.ts';
import type { RuleText } from '../tests/conformance/simulator.ts';
import { WHOLE_LANGUAGE } from './language.ts';
import type { PolicyEntry, PolicyKey } from './map-entry.ts';
import { parseRules } from './parse/rule.ts';
import { PolicyRepository } from './repository.ts';
import type { EnforcementMode } from './subject-policy.ts';
import { re2 } from '../runtime/re2.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
const SLOTS = 4;

type Event =
  | { readonly kind: 'import' | 'replace'; readonly slot: number; readonly rule: RuleText }
  | { readonly kind: 'delete'; readonly slot: number }
  | { readonly kind: 'identity'; readonly slot: number; readonly labels: string[] }
  | { readonly kind: 'forget' | 'subject' | 'unsubject'; readonly slot: number }
  | { readonly kind: 'port'; readonly slot: number; readonly port: number }
  | { readonly kind: 'mode'; readonly mode: EnforcementMode }
  | { readonly kind: 'take' | 'look' };

const slot = fc.nat(SLOTS - 1);
const make = <T extends Record<string, unknown>>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(shape, { noNullPrototype: true }) as fc.Arbitrary<T>;

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: make({ kind: fc.constantFrom('import' as const, 'replace' as const), slot, rule: rules }) },
  { weight: 2, arbitrary: make({ kind: fc.constant('delete' as const), slot }) },
  { weight: 4, arbitrary: make({ kind: fc.constant('identity' as const), slot, labels: endpointLabels }) },
  {
    weight: 3,
    arbitrary: make({ kind: fc.constantFrom('subject' as const, 'forget' as const, 'unsubject' as const), slot }),
  },
  { weight: 1, arbitrary: make({ kind: fc.constant('port' as const), slot, port: fc.constantFrom(0, 80, 8080) }) },
  { weight: 1, arbitrary: make({ kind: fc.constant('mode' as const), mode: enforcements }) },
  { weight: 3, arbitrary: make({ kind: fc.constantFrom('take' as const, 'look' as const) }) },
);

/** Most histories begin with endpoints, so that rules have something to act on. */
const histories: fc.Arbitrary<Event[]> = fc
  .tuple(
    fc.array(endpointLabels, { maxLength: SLOTS, size: 'max' }),
    fc.array(event, { minLength: 5, maxLength: 40, size: 'max' }),
  )
  .map(([endpoints, events]) => [
    ...endpoints.flatMap((labels, slot): Event[] => [
      { kind: 'identity', slot, labels },
      { kind: 'subject', slot },
    ]),
    ...events,
  ]);

/** What is true after the events, without the way. Subjects stay; a forgotten identity that is one keeps its labels. */
class History {
  readonly rules = new Map<number, RuleText>();
  readonly identities = new Map<number, string[]>();
  readonly subjects = new Set<number>();
  readonly ports = new Map<number, number>();
  mode: EnforcementMode = 'default';
}

function identityOf(index: number): NumericIdentity {
  return numericIdentity(300 + index);
}

function withLabel(rule: RuleText, index: number): RuleText {
  return { ...rule, labels: [`slot=${index}`] };
}

function newRepository(): PolicyRepository {
  // A number for each prefix for ever, so that two repositories agree on them.
  const numbers = (prefix: Prefix): NumericIdentity => {
    let hash = 0x0100_0001;
    for (const char of prefix.toString()) hash = 0x0100_0000 | ((hash * 31 + char.charCodeAt(0)) & 0xff_ffff);
    return numericIdentity(hash);
  };
  return new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'always',
    cidrIdentities: { acquire: numbers, release: () => undefined },
  });
}

function apply(repository: PolicyRepository, history: History, step: Event): void {
  switch (step.kind) {
    case 'import':
    case 'replace': {
      const rule = withLabel(step.rule, step.slot);
      const replaced = step.kind === 'replace' || history.rules.has(step.slot);
      repository.import(parseRules([rule], { language: { ...WHOLE_LANGUAGE, requires: true }, regex: re2 }), {
        replace: replaced,
      });
      history.rules.set(step.slot, rule);
      return;
    }
    case 'delete':
      repository.deleteByLabels([{ source: 'any', key: 'slot', value: String(step.slot) }]);
      history.rules.delete(step.slot);
      return;
    case 'identity':
      repository.addIdentity(identityOf(step.slot), LabelSet.fromTexts(step.labels));
      history.identities.set(step.slot, step.labels);
      return;
    case 'forget':
      if (history.subjects.has(step.slot)) return;
      repository.removeIdentity(identityOf(step.slot));
      history.identities.delete(step.slot);
      return;
    case 'subject':
      if (!history.identities.has(step.slot)) return;
      repository.addSubject(identityOf(step.slot));
      history.subjects.add(step.slot);
      return;
    case 'unsubject':
      repository.removeSubject(identityOf(step.slot));
      history.subjects.delete(step.slot);
      return;
    case 'port':
      repository.setNamedPorts(
        identityOf(step.slot),
        step.port === 0 ? new Map() : new Map([['web', { port: step.port, protocol: 6 }]]),
      );
      if (step.port === 0) history.ports.delete(step.slot);
      else history.ports.set(step.slot, step.port);
      return;
    case 'mode':
      repository.setEnforcement(step.mode);
      history.mode = step.mode;
      return;
    case 'look':
      for (const subject of history.subjects) mapTexts(repository, subject);
      return;
    case 'take':
      return;
  }
}

/** The shortest way to the same state. */
function replay(history: History): PolicyRepository {
  const repository = newRepository();
  const direct = new History();
  const steps: Event[] = [
    { kind: 'mode', mode: history.mode },
    ...Array.from(history.rules, ([slot, rule]): Event => ({ kind: 'import', slot, rule })),
    ...Array.from(history.ports, ([slot, port]): Event => ({ kind: 'port', slot, port })),
    ...Array.from(history.identities, ([slot, labels]): Event => ({ kind: 'identity', slot, labels })),
    ...Array.from(history.subjects, (slot): Event => ({ kind: 'subject', slot })),
  ];
  for (const step of steps) apply(repository, direct, step);
  return repository;
}

function keyText({ identity, egress, protocol, port, bits }: PolicyKey): string {
  return `${identity} ${egress ? 'egress' : 'ingress'} ${protocol}/${port}/${bits}`;
}

/** An entry with its rules in place of the cookie, whose number does depend on the way. */
function entryText(repository: PolicyRepository, entry: PolicyEntry): string {
  const slots = repository.rulesOfCookie(entry.cookie).map(({ labels }) => labels[0]?.value);
  return `${keyText(entry)} ${entry.precedence} ${entry.proxyPort} rules ${slots.sort().join()}`;
}

function mapTexts(repository: PolicyRepository, subject: number): string[] {
  return Array.from(repository.entries(identityOf(subject)), (entry) => entryText(repository, entry)).sort();
}

/** A kernel that does as it is told. */
class Maps {
  readonly #maps = new Map<number, Map<string, PolicyEntry>>();

  follow(repository: PolicyRepository): void {
    for (const { subject, upserts, deletes } of repository.takeUpdates()) {
      const map = this.#maps.get(subject) ?? new Map<string, PolicyEntry>();
      this.#maps.set(subject, map);
      for (const entry of upserts) map.set(keyText(entry), entry);
      for (const key of deletes) assert.ok(map.delete(keyText(key)), `${keyText(key)} is deleted but was not there`);
    }
  }

  forget(subject: number): void {
    this.#maps.delete(subject);
  }

  texts(repository: PolicyRepository, subject: number): string[] {
    const map = this.#maps.get(subject) ?? new Map<string, PolicyEntry>();
    return Array.from(map.values(), (entry) => entryText(repository, entry)).sort();
  }
}

test('whatever the order of events, the maps are those of the final state, and the deltas lead there', () => {
  fc.assert(
    fc.property(histories, (events) => {
      const repository = newRepository();
      const history = new History();
      const maps = new Maps();
      for (const step of events) {
        apply(repository, history, step);
        if (step.kind === 'unsubject') maps.forget(identityOf(step.slot));
        if (step.kind === 'take') maps.follow(repository);
      }
      maps.follow(repository);
      const direct = replay(history);
      for (const subject of history.subjects) {
        const expected = mapTexts(direct, subject);
        assert.deepEqual(mapTexts(repository, subject), expected);
        assert.deepEqual(maps.texts(repository, identityOf(subject)), expected);
      }
      assert.deepEqual(repository.takeUpdates(), []);
    }),
    { numRuns: RUNS },
  );
});

test('when everything is gone nothing is left behind', () => {
  fc.assert(
    fc.property(histories, (events) => {
      const repository = newRepository();
      const history = new History();
      for (const step of events) apply(repository, history, step);
      repository.deleteAll();
      assert.deepEqual(repository.selectors(), []);
      repository.setEnforcement('always');
      for (const subject of history.subjects) {
        const left = [...repository.entries(identityOf(subject))].filter(({ identity }) => identity !== 1);
        assert.deepEqual(left, []);
      }
    }),
    { numRuns: Math.ceil(RUNS / 5) },
  );
});
