// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLabel } from '../../identity/label.ts';
import { WHOLE_LANGUAGE } from '../language.ts';
import { formatPath, PolicyValidationError } from '../validation-error.ts';
import { cidrGroupToJson } from './cidr-group.ts';
import { placesIn, type PolicySource } from './policy-item.ts';
import { parseSources } from './policy-source.ts';

const SPEC = { endpointSelector: { matchLabels: { app: 'web' } }, ingress: [{}] };
const resource = (rest: object): object => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'p' },
  ...rest,
});
const GROUP = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumCIDRGroup',
  metadata: { name: 'office', labels: { site: 'north' } },
  spec: { externalCIDRs: ['192.0.2.0/24', '2001:db8::/32'] },
};
const LIST = { apiVersion: 'v1', kind: 'List', items: [resource({ spec: SPEC, specs: [SPEC, SPEC] }), GROUP] };

const parse = (sources: readonly PolicySource[]) => parseSources(sources, { language: WHOLE_LANGUAGE });
const problemsOf = (...items: unknown[]): string[] => {
  try {
    parse([{ items: items.map((value) => ({ value })) }]);
  } catch (error) {
    assert.ok(error instanceof PolicyValidationError);
    return error.problems.map(({ path }) => formatPath(path));
  }
  return [];
};

test('rules, resources and lists stand in any mix, each rule with its place', () => {
  const { rules, groups } = parse([
    {
      file: 'a.yaml',
      items: [
        { value: SPEC, lines: [3] },
        { value: LIST, lines: [10, 20, 30, 40] },
      ],
    },
    { items: [{ value: SPEC }] },
  ]);
  assert.deepEqual(
    rules.map(({ origin }) => origin),
    [
      { source: 'a.yaml', line: 3, index: 0 },
      { source: 'a.yaml', line: 10, index: 1 },
      { source: 'a.yaml', line: 20, index: 2 },
      { source: 'a.yaml', line: 30, index: 3 },
      { index: 0 },
    ],
  );
  assert.deepEqual(
    groups.map(({ name, origin }) => [name, origin.line]),
    [['office', 40]],
  );
});

test('a CIDR group is found by its labels, its kind and its name, and is printed as it can be read', () => {
  const [group] = parse([{ items: [{ value: GROUP }] }]).groups;
  assert.deepEqual(group?.labels.map(formatLabel), [
    'cidrgroup:site=north',
    'k8s:io.cilium.k8s.policy.derived-from=CiliumCIDRGroup',
    'k8s:io.cilium.k8s.policy.name=office',
  ]);
  assert.deepEqual(cidrGroupToJson(group), GROUP);
});

test('the places of an item are those of its rules and groups', () => {
  assert.deepEqual(placesIn(SPEC).map(formatPath), ['rules']);
  assert.deepEqual(placesIn(LIST).map(formatPath), [
    'items[0].spec',
    'items[0].specs[0]',
    'items[0].specs[1]',
    'items[1]',
  ]);
  for (const value of [null, 5, 'x', [], { kind: 'List' }, { kind: 5, specs: [] }]) placesIn(value);
});

test('the faults of all items are told, each with the number of its item', () => {
  assert.deepEqual(
    problemsOf({ ...SPEC, ingres: [] }, resource({ spec: { ...SPEC, ingress: [{ fromCIDR: ['x'] }] } }), {
      ...LIST,
      extra: 1,
      items: [resource({}), GROUP],
    }),
    ['rules[0].ingres', 'rules[1].spec.ingress[0].fromCIDR[0]', 'rules[2].extra', 'rules[2].items[0]'],
  );
  assert.deepEqual(problemsOf(GROUP, GROUP), ['rules[1]']);
  assert.ok(problemsOf(null, { kind: 'List', items: 5 }).includes('rules[1].kind'));
});
