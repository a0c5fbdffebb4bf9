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
    enforcement: 'default',
  });
  assert.deepEqual(sources, {
    stateDir: 'environment',
    mtu: 'flag',
    ipv4Masquerade: 'default',
    devices: 'file',
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
  ['an unknown flag', { argv: ['--mut=1'] }, '--mut: there is no such option'],
  ['an unknown variable', { env: { CILIUM_MUT: '1' } }, 'CILIUM_MUT in the environment: there is no such option'],
  ['an unknown key', { file: { path: 'f', text: 'mut: 1' } }, 'mut in f: there is no such option'],
  ['a key in camel case', { file: { path: 'f', text: '{"stateDir":"/x"}' } }, 'stateDir in f: there is no such option'],
  ['a flag without value', { argv: ['--mtu', '--devices=a'] }, '--mtu: it needs a value'],
  ['a word that is no flag', { argv: ['up'] }, '"up" on the command line: expected --option=value'],
  ['a number out of range', { argv: ['--mtu=12'] }, '--mtu: Too small: expected number to be >=1280'],
  [
    'a number with a unit',
    { env: { CILIUM_MTU: '1500b' } },
    'CILIUM_MTU in the environment: Invalid input: expected number',
  ],
  ['a number that is empty', { argv: ['--mtu='] }, '--mtu: Invalid input: expected number, received string'],
  [
    'a boolean in other words',
    { argv: ['--ipv4-masquerade=yes'] },
    '--ipv4-masquerade: Invalid input: expected boolean',
  ],
  [
    'a wrong choice',
    { argv: ['--enforcement=sometimes'] },
    '--enforcement: Invalid option: expected one of "default"|"always"|"never"',
  ],
  ['a line without colon', { file: { path: 'f', text: '# c\n\nmtu 1' } }, 'f:3: expected "key: value"'],
  ['a key given twice', { file: { path: 'f', text: 'mtu: 1300\nmtu: 1400' } }, 'f:2: mtu is given twice'],
  ['broken JSON', { file: { path: 'f', text: '{"mtu":' } }, 'f: Unexpected end of JSON input'],
  ['a name every object has', { argv: ['--to-string=x'] }, '--to-string: there is no such option'],
] as const) {
  test(`${what} is refused, naming key and source`, () => {
    assert.ok(
      refusal(() => loadOptions(table, input)).startsWith(message),
      refusal(() => loadOptions(table, input)),
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

test('each option is described with flag, variable, default and unit', () => {
  assert.deepEqual(describeOptions(table)[1], {
    key: 'mtu',
    flag: '--mtu',
    variable: 'CILIUM_MTU',
    default: 1500,
    unit: 'bytes',
    description: 'MTU.',
  });
});
