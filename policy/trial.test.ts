// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LabelSet } from '../identity/label-set.ts';
import { numericIdentity } from '../identity/numeric-identity.ts';
import { Prefix } from '../net/ip.ts';
import { parseRules } from './parse/rule.ts';
import { PolicyRepository } from './repository.ts';
import type { Rule } from './rule.ts';
import { policiesAfter } from './trial.ts';

const WEB = numericIdentity(1001);
const DB = numericIdentity(1002);
const group = (...prefixes: string[]) => ({
  labels: LabelSet.EMPTY,
  prefixes: prefixes.map((text) => Prefix.parse(text)),
});

const rulesFor = (id: string, ...peers: object[]): Rule[] =>
  parseRules(peers.map((peer) => ({ endpointSelector: { matchLabels: { id } }, egress: [peer] })));

function repository(): PolicyRepository {
  let last = 0x01000000;
  const made = new PolicyRepository({
    enforcement: 'default',
    allowLocalhost: 'auto',
    cidrIdentities: { acquire: () => numericIdentity(++last), release: () => undefined },
  });
  for (const [id, label] of [
    [WEB, 'container:id=web'],
    [DB, 'container:id=db'],
  ] as const) {
    made.addIdentity(id, LabelSet.fromTexts([label]));
    made.addSubject(id);
  }
  made.setCidrGroup('g', group('10.0.0.0/8'));
  made.import([
    ...rulesFor('web', { toCIDRSet: [{ cidrGroupRef: 'g' }] }),
    ...rulesFor('db', { toCIDR: ['10.1.0.0/16'] }),
  ]);
  made.takeUpdates();
  return made;
}

test('the sizes are those that the change then gives, for the subjects that it concerns', () => {
  const made = repository();
  const added = rulesFor('web', { toCIDR: ['192.0.2.0/24', '10.1.0.0/16', '198.51.100.0/24'] });
  const removed = made.rules().slice(0, 1);
  const groups = new Map([['g', group('10.0.0.0/8', '172.16.0.0/12')]]);
  for (const change of [
    { added, removed: [], groups: new Map<string, undefined>() },
    { added: [], removed, groups: new Map<string, undefined>() },
    { added, removed, groups },
    { added: [], removed: [], groups },
    { added: [], removed: [], groups: new Map([['g', undefined]]) },
  ]) {
    const before = [...made.entries(WEB)];
    const [policy, ...others] = policiesAfter(made.view(), change);
    assert.deepEqual([policy?.subjects, others], [[WEB], []]);
    assert.deepEqual([...made.entries(WEB)], before);
    const real = repository();
    real.setCidrGroups([...change.groups]);
    real.import(change.added, { replaceRules: new Set(change.removed.map(() => real.rules()[0]!)) });
    assert.equal(policy?.entries, [...real.entries(WEB)].length);
  }
});

test('a change that concerns nobody makes no policy', () => {
  assert.deepEqual(
    policiesAfter(repository().view(), { added: rulesFor('none', {}), removed: [], groups: new Map() }),
    [],
  );
});
