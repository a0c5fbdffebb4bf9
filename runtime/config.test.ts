// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { isCiliumError } from '../errors/cilium-error.ts';
import { describeOptions, loadOptions, option } from './config.ts';

const table = {
  stateDir: option({ schema: z.string().min(1), default: '/var/lib/cilium', description: 'Where state is kept.' }),
  mtu: option({ schema: z.int().min(1280).max(65535), default: 1500, unit: 'bytes', description: 'MTU.' }),
  ipv4Masquerade: option({ schema: z.boolean(), default: true, description: 'Masquerade.' }),
  devices: option({ schema: z.array(z.string()), default: [], description: 'Devices.' }),
  folder: option({
    schema: z.union([z.string().regex(/^\//, 'expected an absolute path'), z.literal('')]),
    default: '',
    description: 'Folder.',
  }),
  enforcement: option({ schema: z.enum(['default', 'always', 'never']), default: 'default', description: 'Policy.' }),
};

function refusal(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    assert.ok(isCiliumError(error, 'InvalidArgument'));
    return error.message;
  }
  throw new assert.AssertionError({ message: 'nothing was refused' });
}

test('flag goes over environment over file over default, and the source of each is told', () => {
  const { values, sources } = loadOptions(table, {
    argv: ['--mtu=1400'],
    env: { CILIUM_MTU: '1401', CILIUM_STATE_DIR: '/env', PATH: '/bin' },
    file: { path: 'agent.conf', text: 'mtu: 1402\nstate-dir: /file\ndevices: eth0, eth1\n' },
  });
  assert.deepEqual(values, {
    stateDir: '/env',
    mtu: 1400,
    ipv4Masquerade: true,
    devices: ['eth0', 'eth1'],
    folder: '',
    enforcement: 'default',
  });
  assert.deepEqual(sources, {
    stateDir: 'environment',
    mtu: 'flag',
    ipv4Masquerade: 'default',
    devices: 'file',
    folder: 'default',
    enforcement: 'default',
  });
});

for (const [argv, expected] of [
  [['--ipv4-masquerade=false'], { ipv4Masquerade: false }],
  [['--ipv4-masquerade', '--mtu', '1300'], { ipv4Masquerade: true, mtu: 1300 }],
  [['--devices='], { devices: [] }],
  [['--state-dir', '/a=b'], { stateDir: '/a=b' }],
  [['--state-dir=a', '--state-dir=b'], { stateDir: 'b' }],
  [['--devices=a,b', '--mtu=1400', '--devices=c'], { devices: ['a', 'b', 'c'], mtu: 1400 }],
] as const) {
  test(`the command line "${argv.join(' ')}" is understood`, () => {
    const { values } = loadOptions(table, { argv });
    assert.deepEqual({ ...values, ...expected }, values);
  });
}

for (const [what, input, message] of [
  ['an unknown flag', { argv: ['--no-such=1'] }, 'there is no option --no-such; agent --help lists them'],
  ['an unknown flag without value', { argv: ['--no-such'] }, 'there is no option --no-such; agent --help lists them'],
  [
    'a misspelled flag',
    { argv: ['--state-dri=/x'] },
    'there is no option --state-dri (is --state-dir meant?); agent --help lists them',
  ],
  [
    'an unknown variable',
    { env: { CILIUM_MUT: '1' } },
    'CILIUM_MUT in the environment: there is no such option; agent --help lists them',
  ],
  [
    'an unknown key',
    { file: { path: 'f', text: 'mut: 1' } },
    'mut in f: there is no such option; agent --help lists them',
  ],
  [
    'a key in camel case',
    { file: { path: 'f', text: '{"stateDir":"/x"}' } },
    'stateDir in f: there is no such option (is --state-dir meant?); agent --help lists them',
  ],
  [
    'a flag without value',
    { argv: ['--mtu', '--devices=a'] },
    '--mtu: expected a number from 1280 to 65535, found nothing',
  ],
  ['a text without value', { argv: ['--state-dir'] }, '--state-dir: expected a value, found nothing'],
  ['a word that is no flag', { argv: ['up'] }, '"up" on the command line: expected --option=value'],
  ['a number out of range', { argv: ['--mtu=99999'] }, '--mtu: expected a number from 1280 to 65535, found 99999'],
  ['a number that is none', { argv: ['--mtu=1400.5'] }, '--mtu: expected a number from 1280 to 65535, found 1400.5'],
  [
    'a number with a unit',
    { env: { CILIUM_MTU: '1500b' } },
    'CILIUM_MTU in the environment: expected a number from 1280 to 65535, found 1500b',
  ],
  ['a number that is empty', { argv: ['--mtu='] }, '--mtu: expected a number from 1280 to 65535, found nothing'],
  [
    'a boolean in other words',
    { argv: ['--ipv4-masquerade=yes'] },
    '--ipv4-masquerade: expected true or false, found yes',
  ],
  [
    'a wrong choice',
    { argv: ['--enforcement=some times'] },
    '--enforcement: expected default, always or never, found "some times"',
  ],
  ['what its schema has words for', { argv: ['--folder=a'] }, '--folder: expected an absolute path, found a'],
  [
    'what has no words of its own',
    { argv: ['--state-dir='] },
    '--state-dir: Too small: expected string to have >=1 characters, found nothing',
  ],
  [
    'a value of another type',
    { file: { path: 'f', text: '{"folder":{"a":1}}' } },
    'folder in f: Invalid input, found {"a":1}',
  ],
  [
    'a very long value',
    { argv: [`--mtu=${'9'.repeat(1_000)}`] },
    `--mtu: expected a number from 1280 to 65535, found ${'9'.repeat(100)}…`,
  ],
  ['a line without colon', { file: { path: 'f', text: '# c\n\nmtu 1' } }, 'f:3: expected "key: value"'],
  ['a key given twice', { file: { path: 'f', text: 'mtu: 1300\nmtu: 1400' } }, 'f:2: mtu is given twice'],
  ['broken JSON', { file: { path: 'f', text: '{"mtu":' } }, 'f: Unexpected end of JSON input'],
  ['a name every object has', { argv: ['--to-string=x'] }, 'there is no option --to-string; agent --help lists them'],
] as const) {
  test(`${what} is refused, naming key, source and what was found`, () => {
    assert.equal(
      refusal(() => loadOptions(table, { ...input, program: 'agent' })),
      message,
    );
  });
}

test('all problems are reported together', () => {
  const message = refusal(() => loadOptions(table, { argv: ['--mtu=x', '--nope=1'], env: { CILIUM_ENFORCEMENT: '' } }));
  assert.equal(message.split('; ').length, 3);
});

test('variables of other programs are let through', () => {
  assert.equal(loadOptions(table, { env: { CILIUM_SOCK: '/x' }, foreignEnv: ['CILIUM_SOCK'] }).values.mtu, 1500);
});

test('a file may be JSON with typed values, or lines with quotes', () => {
  const json = { path: 'f', text: ' {"mtu": 1300, "devices": ["a"], "ipv4-masquerade": false}' };
  assert.deepEqual(loadOptions(table, { file: json }).values.devices, ['a']);
  assert.equal(loadOptions(table, { file: { path: 'f', text: 'state-dir: "/a b"' } }).values.stateDir, '/a b');
});

test('the result cannot be changed', () => {
  const { values } = loadOptions(table, { argv: ['--devices=a'] });
  assert.ok(Object.isFrozen(values) && Object.isFrozen(values.devices));
});

test('each option is described with flag, variable, default, unit and the values it takes', () => {
  const described = describeOptions(table);
  assert.deepEqual(described[1], {
    key: 'mtu',
    flag: '--mtu',
    variable: 'CILIUM_MTU',
    default: 1500,
    unit: 'bytes',
    values: '1280 to 65535',
    description: 'MTU.',
  });
  assert.deepEqual(
    described.map(({ values }) => values),
    [undefined, '1280 to 65535', 'true, false', undefined, undefined, 'default, always, never'],
  );
});
