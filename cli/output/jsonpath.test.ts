// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonpath } from './jsonpath.ts';

const VALUE = {
  name: 'node 1',
  count: 3,
  nothing: null,
  'dotted.key': 'd',
  list: [
    { id: 7, state: 'ready', ips: ['10.0.0.7', 'fd00::7'] },
    { id: 29, state: 'not-ready', ips: ['10.0.0.29'], extra: { id: 1 } },
    { id: 173, state: 'ready', ips: [] },
  ],
};

const cases: [template: string, expected: string][] = [
  ['{.name}', 'node 1'],
  ['.count', '3'],
  ['count', '3'],
  ['{$.count}', '3'],
  ['{.missing}', ''],
  ['{.missing.deeper[0]}', ''],
  ['{.nothing}', 'null'],
  ["{['dotted.key']}", 'd'],
  ['{.dotted\\.key}', 'd'],
  ['{.list[0].id}', '7'],
  ['{.list[-1].id}', '173'],
  ['{.list[9].id}', ''],
  ['{.list[*].id}', '7 29 173'],
  ['{.list[0:2].id}', '7 29'],
  ['{.list[1:].id}', '29 173'],
  ['{.list[::2].id}', '7 173'],
  ['{.list[-2:].id}', '29 173'],
  ['{.list[0,2].id}', '7 173'],
  ["{.list[0]['id','state']}", '7 ready'],
  ['{.list[0].ips}', '["10.0.0.7","fd00::7"]'],
  ['{..id}', '7 29 1 173'],
  ['{..ips[0]}', '10.0.0.7 10.0.0.29'],
  ['{.list[?(@.state=="ready")].id}', '7 173'],
  ["{.list[?(@.state!='ready')].id}", '29'],
  ['{.list[?(@.id>7)].id}', '29 173'],
  ['{.list[?(@.id <= 29)].id}', '7 29'],
  ['{.list[?(@.extra)].id}', '29'],
  ['{.list[?(@.extra.id==1)].id}', '29'],
  ['{.list[?(@.ips[0])].id}', '7 29'],
  ['{.list[?(@.id>"7")].id}', ''],
  ['id={.list[0].id}, count={.count}!', 'id=7, count=3!'],
  ['{range .list[*]}{.id}{"\\t"}{.state}{"\\n"}{end}', '7\tready\n29\tnot-ready\n173\tready\n'],
  ['{range .list[*]}{range .ips[*]}{@} {end};{end}', '10.0.0.7 fd00::7 ;10.0.0.29 ;;'],
  ['{.list[1].extra.*}', '1'],
  ['{.name}{"\\n"}{.count}', 'node 1\n3'],
];
for (const [template, expected] of cases) {
  test(`${template} gives ${JSON.stringify(expected)}`, () => {
    assert.equal(jsonpath(template, VALUE), expected);
  });
}

test('the root may be an array', () => {
  assert.equal(jsonpath('{[*].id}', VALUE.list), '7 29 173');
  assert.equal(jsonpath('[0].id', VALUE.list), '7');
});

test('the value itself is {@}, {$} or {.}', () => {
  for (const template of ['{@}', '{$}', '{.}']) assert.equal(jsonpath(template, { a: [1] }), '{"a":[1]}', template);
});

const bad: [template: string, message: RegExp][] = [
  ['{.a', /expected a path/],
  ['{.list[}', /expected an index, a slice, "\*" or a quoted key at character 8/],
  ['{range .a}', /"range" without "end"/],
  ['{end}', /"end" without "range"/],
  ['{.list[?(@.a==)]}', /expected a path/],
  ['{.list[::0]}', /step of a slice/],
];
for (const [template, message] of bad) {
  test(`${template} is refused`, () => {
    assert.throws(() => jsonpath(template, VALUE), { code: 'InvalidArgument', message });
  });
}
