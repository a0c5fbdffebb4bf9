// SPDX-License-Identifier: Apache-2.0

/** The end state does not depend on the way to it, and the deltas given out on the way add up to it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity, type NumericIdentity } from '../identity/numeric-identity.ts';
import { Prefix } from '../net/ip.ts';
import { GROUPS, portNames, wholeRules } from '../tests/conformance/random-language.ts';
import { endpointLabels, enforcements, rules } from '../tests/conformance/random-rules.ts';
import type { RuleText } from '../tests/conformance/simulator.ts';
import { WHOLE_LANGUAGE } from './language.ts';
import { IP_PROTOCOL, type PolicyEntry, type PolicyKey } from './map-entry.ts';
import type { CidrGroup } from './peer-selectors.ts';
import { parseRules } from './parse/rule.ts';
import { PolicyRepository } from './repository.ts';
import type { EnforcementMode } from './subject-policy.ts';
import { re2 } from '../runtime/re2.ts';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 500);
const SLOTS = 4;

type PortNames = Readonly<Record<string, { readonly port: number; readonly protocol: string }>>;
type GroupName = keyof typeof GROUPS;

const LANGUAGE = { ...WHOLE_LANGUAGE, requires: true, nodes: true };
const GROUP_NAMES = ['near', 'far', 'bare'] as const;

type Event =
  | { readonly kind: 'import' | 'replace'; readonly slot: number; readonly rule: RuleText }
  | { readonly kind: 'delete'; readonly slot: number }
  | { readonly kind: 'identity'; readonly slot: number; readonly labels: string[] }
  | { readonly kind: 'forget' | 'subject' | 'unsubject'; readonly slot: number }
  | { readonly kind: 'ports'; readonly slot: number; readonly names: PortNames }
  /** What an address is called; none: nothing any more. */
  | { readonly kind: 'answer'; readonly slot: number; readonly fqdns: string[] }
  | { readonly kind: 'group'; readonly name: GroupName; readonly from: GroupName | undefined }
  | { readonly kind: 'mode'; readonly mode: EnforcementMode }
  | { readonly kind: 'take' | 'look' };

const slot = fc.nat(SLOTS - 1);
const labels: fc.Arbitrary<string[]> = fc.oneof(
  { weight: 9, arbitrary: endpointLabels },
  {
    weight: 1,
    arbitrary: fc.constantFrom('host', 'remote-node').map((name) => [`reserved:${name}`, 'node:kind=gw']),
  },
);
const make = <T extends Record<string, unknown>>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(shape, { noNullPrototype: true }) as fc.Arbitrary<T>;

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: make({
      kind: fc.constantFrom('import' as const, 'replace' as const),
      slot,
      rule: fc.oneof(rules, wholeRules),
    }),
  },
  { weight: 2, arbitrary: make({ kind: fc.constant('delete' as const), slot }) },
  { weight: 4, arbitrary: make({ kind: fc.constant('identity' as const), slot, labels }) },
  {
    weight: 3,
    arbitrary: make({ kind: fc.constantFrom('subject' as const, 'forget' as const, 'unsubject' as const), slot }),
  },
  { weight: 1, arbitrary: make({ kind: fc.constant('ports' as const), slot, names: portNames }) },
  {
    weight: 2,
    arbitrary: make({
      kind: fc.constant('answer' as const),
      slot,
      fqdns: fc.subarray(['one.test', '*', '*.two.test', '**.two.test']),
    }),
  },
  {
    weight: 1,
    arbitrary: make({
      kind: fc.constant('group' as const),
      name: fc.constantFrom(...GROUP_NAMES),
      from: fc.constantFrom(...GROUP_NAMES, undefined),
    }),
  },
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
  readonly ports = new Map<number, PortNames>();
  readonly answers = new Map<number, string[]>();
  readonly groups = new Map<GroupName, GroupName | undefined>();
  mode: EnforcementMode = 'default';
}

function identityOf(index: number): NumericIdentity {
  return numericIdentity(300 + index);
}

/** Of an address that DNS answers name; it lies inside the prefixes of rules. */
function addressLabels(index: number, fqdns: readonly string[]): LabelSet {
  const names = fqdns.map((name) => `fqdn:${name}`);
  return LabelSet.fromTexts([`cidr:10.1.1.${index + 1}/32`, 'reserved:world-ipv4', ...names]);
}

function groupOf(name: GroupName): CidrGroup {
  const { labels = {}, cidrs }: { labels?: Record<string, string>; cidrs: readonly string[] } = GROUPS[name];
  return {
    labels: LabelSet.fromTexts(Object.entries(labels).map(([key, value]) => `cidrgroup:${key}=${value}`)),
    prefixes: cidrs.map((cidr) => Prefix.parse(cidr)),
  };
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
    hostFirewall: true,
    proxyPort: ({ priority }) => 10_000 + priority,
    cidrIdentities: { acquire: numbers, release: () => undefined },
  });
}

function apply(repository: PolicyRepository, history: History, step: Event): void {
  switch (step.kind) {
    case 'import':
    case 'replace': {
      const rule = withLabel(step.rule, step.slot);
      const replaced = step.kind === 'replace' || history.rules.has(step.slot);
      repository.import(parseRules([rule], { language: LANGUAGE, regex: re2 }), {
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
    case 'ports':
      repository.setNamedPorts(
        identityOf(step.slot),
        new Map(
          Object.entries(step.names).map(([name, { port, protocol }]) => [
            name,
            { port, protocol: IP_PROTOCOL[protocol as 'TCP'] },
          ]),
        ),
      );
      history.ports.set(step.slot, step.names);
      return;
    case 'answer': {
      const identity = numericIdentity(0x0180_0000 + step.slot);
      if (step.fqdns.length === 0) repository.removeIdentity(identity);
      else repository.addIdentity(identity, addressLabels(step.slot, step.fqdns));
      history.answers.set(step.slot, step.fqdns);
      return;
    }
    case 'group':
      repository.setCidrGroup(step.name, step.from === undefined ? undefined : groupOf(step.from));
      history.groups.set(step.name, step.from);
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
    ...Array.from(history.groups, ([name, from]): Event => ({ kind: 'group', name, from })),
    ...Array.from(history.ports, ([slot, names]): Event => ({ kind: 'ports', slot, names })),
    ...Array.from(history.answers, ([slot, fqdns]): Event => ({ kind: 'answer', slot, fqdns })),
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
