// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { describeProblems, sourceOf, type PathSegment } from './policy-document.ts';
import { parsePolicyText } from './policy-text.ts';

const JSON_TEXT = `[
  {"endpointSelector": {"matchLabels": {"id": "a"}}},
  {
    "endpointSelector": {},
    "ingress": [
      {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"},
                              {"port": "99999"}]}]}
    ]
  }
]`;

const YAML_TEXT = `# two rules in one document, one in the next
- endpointSelector: {matchLabels: {id: a}}
- endpointSelector: {}
  ingress:
    - toPorts:
        - ports:
            - port: "80"
            - port: "99999"
---
endpointSelector:
  matchLabels: {id: b}
egress: 5
`;

const read = parsePolicyText;

test('JSON and YAML of the same rules give the same data', async () => {
  const fromJson = await read('a.json', '[{"endpointSelector":{"matchLabels":{"id":"a"}},"ingress":[{}]}]');
  const fromYaml = await read('a.yaml', '- endpointSelector: {matchLabels: {id: a}}\n  ingress: [{}]\n');
  assert.deepEqual(fromJson.items, fromYaml.items);
});

const port = ['ingress', 0, 'toPorts', 0, 'ports', 1, 'port'];
const places: [name: string, text: string, path: PathSegment[], line: number, column: number][] = [
  ['p.json', JSON_TEXT, [1, ...port], 7, 32],
  ['p.json', JSON_TEXT, [1, ...port.slice(0, -1), 'protocol'], 7, 31],
  ['p.json', JSON_TEXT, [0], 2, 3],
  ['p.json', JSON_TEXT, [1, 'egress'], 3, 3],
  ['p.json', JSON_TEXT, [9], 1, 1],
  ['one.json', '{"endpointSelector": {},\n "labels": 3}', [0, 'labels'], 2, 2],
  ['p.yaml', YAML_TEXT, [1, ...port], 8, 15],
  ['p.yaml', YAML_TEXT, [1, 'egress'], 3, 3],
  ['p.yaml', YAML_TEXT, [2, 'egress'], 12, 1],
  ['p.yaml', YAML_TEXT, [2, 'endpointSelector', 'matchLabels', 'id'], 11, 17],
  ['p.yaml', YAML_TEXT, [7], 1, 1],
];
for (const [name, text, path, line, column] of places) {
  test(`${path.join('.')} of ${name} stands in line ${line}, column ${column}`, async () => {
    assert.deepEqual((await read(name, text)).locate([path]), [{ line, column }]);
  });
}

const malformed: [name: string, text: string, message: RegExp][] = [
  [
    'a.json',
    '[\n  {"a": 1,}\n]',
    /^a\.json:2: syntax error at offset 12: a comma may not stand before "}"\n {2}\{"a": 1,\}\n {10}\^$/,
  ],
  ['a.json', '[{"a" 1}]', /^a\.json:1: syntax error at offset 6: expected ":" after the key/],
  ['a.json', '[{a: 1}]', /^a\.json:1: syntax error at offset 2: expected a key in double quotes/],
  ['a.json', '[1 2]', /^a\.json:1: syntax error at offset 3: expected "," or "\]"/],
  ['a.json', '[{"a": 1', /^a\.json:1: syntax error at offset 8: expected "," or "}", but the text ends/],
  ['a.json', '[] x', /^a\.json:1: syntax error at offset 3: nothing may follow the value/],
  ['a.json', '["abc]', /^a\.json:1: syntax error at offset 1: string without end/],
  ['a.json', '[01]', /^a\.json:1: syntax error at offset 1: expected a value/],
  ['a.json', '{"a": 1,\n "a": 2}', /^a\.json:2: syntax error at offset 10: the key "a" is given twice/],
  ['a.json', '['.repeat(300), /nested deeper than 200/],
  ['a.json', 'endpointSelector: {}', /^a\.json:1: syntax error at offset 0: expected a value/],
  ['a.yaml', 'a: 1\na: 2\n', /^a\.yaml:2:1: Map keys must be unique/],
  ['a.yml', 'a: [1\nb: 2\n', /^a\.yml:\d+:\d+: /],
  ['a.yaml', 'a: !thing 2\n', /^a\.yaml:1:4: Unresolved tag: !thing/],
  ['stdin', 'a: b: c\n', /^stdin:1:\d+: /],
];
for (const [name, text, message] of malformed) {
  test(`${JSON.stringify(text.slice(0, 30))} as ${name} is refused with its place`, async () => {
    await assert.rejects(read(name, text), (error) => {
      assert.ok(isCiliumError(error, 'InvalidArgument'));
      assert.match(error.message, message);
      return true;
    });
  });
}

test('text without a telling name is read as what it looks like', async () => {
  assert.deepEqual((await read('stdin', ' [{"a": 1}]')).items, [{ a: 1 }]);
  assert.deepEqual((await read('stdin', 'a: 1')).items, [{ a: 1 }]);
});

test('empty text holds no rules', async () => {
  for (const name of ['a.json', 'a.yaml', 'stdin']) assert.deepEqual((await read(name, ' \n')).items, [], name);
});

test('a place in a value that is not a rule at all is still a place', async () => {
  const document = await read('a.json', '\n 5');
  assert.deepEqual([document.items, document.locate([[0, 'x']])], [[5], [{ line: 2, column: 2 }]]);
});

const RESOURCES = `kind: CiliumNetworkPolicy
spec:
  ingress: []
specs:
  - endpointSelector: {}
  - endpointSelector: {}
    ingres: []
---
kind: List
items:
  - kind: CiliumCIDRGroup
  - {kind: NetworkPolicy, spec: {}}
`;

test('an import carries the lines of the rules, however deep they are', async () => {
  const lines = async (name: string, text: string) =>
    sourceOf(await read(name, text), name).items.map((item) => item.lines);
  assert.deepEqual(await lines('p.yaml', RESOURCES), [
    [2, 5, 6],
    [11, 12],
  ]);
  assert.deepEqual(await lines('p.json', JSON_TEXT), [[2], [3]]);
  assert.deepEqual(await lines('p.json', '{"kind": "CiliumNetworkPolicy",\n"specs": [\n{}, \n{}]}'), [[3, 4]]);
  assert.deepEqual(await lines('p.yaml', YAML_TEXT), [[2], [3], [10]]);
});

test('problems are told in the order of the files, with file, line, column and field', async () => {
  const documents = [await read('a.yaml', RESOURCES), await read('b.json', JSON_TEXT)];
  const texts = describeProblems(
    [
      { path: [0, 'specs', 1, 'ingres'], message: 'unknown field' },
      { path: [1, 'items', 1, 'spec', 'podSelector'], message: 'is missing' },
      { path: [3, ...port], message: 'expected a port' },
      { path: [1], message: 'is wrong' },
    ],
    documents,
  );
  assert.deepEqual(
    texts.map((text) => text.split('\n')[0]),
    [
      'a.yaml:7:5: specs[1].ingres: unknown field',
      'a.yaml:12:27: items[1].spec.podSelector: is missing',
      'a.yaml:9:1: rules[1]: is wrong',
      'b.json:7:32: rules[1].ingress[0].toPorts[0].ports[1].port: expected a port',
    ],
  );
});

test('many problems are told up to a bound', async () => {
  const document = await read('a.json', '[{}]');
  const problems = Array.from({ length: 150 }, () => ({ path: [0], message: 'wrong' }));
  const texts = describeProblems(problems, [document]);
  assert.deepEqual([texts.length, texts.at(-1)], [101, '… and 50 more']);
});
