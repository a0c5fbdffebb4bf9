// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../errors/cilium-error.ts';
import { loadOptions } from '../runtime/config.ts';
import { checkClusterOptions } from './cluster-options.ts';
import { AGENT_OPTIONS } from './options.ts';

function check(...argv: string[]): void {
  checkClusterOptions(loadOptions(AGENT_OPTIONS, { argv }).values);
}

test('with etcd all options of clusters are taken, without it what changes nothing', () => {
  check();
  check('--routing-mode=tunnel', '--kvstore-lease-ttl=60');
  check('--kvstore=etcd', '--routing-mode=native', '--cluster-pool-ipv4-cidr=10.0.0.0/12', '--ipv4-node=192.0.2.1');
});

for (const [argv, complaint] of [
  [['--routing-mode=native'], '--routing-mode=native needs --kvstore=etcd: '],
  [['--health-port=4241', '--kvstore=embedded'], '--health-port=4241 needs --kvstore=etcd: '],
  [
    ['--cluster-pool-ipv6-cidr=fd00::/48', '--ipv4-node=192.0.2.1'],
    '--ipv4-node=192.0.2.1, --cluster-pool-ipv6-cidr=fd00::/48 need --kvstore=etcd: ',
  ],
] as const) {
  test(`refused without etcd: ${argv.join(' ')}`, () => {
    assert.throws(
      () => check(...argv),
      (error) => isCiliumError(error, 'InvalidArgument') && error.message.startsWith(complaint),
    );
  });
}

test('every option that is described as one of clusters is known as such', () => {
  for (const [key, { description, default: value }] of Object.entries(AGENT_OPTIONS)) {
    if (!description.startsWith('With etcd')) continue;
    const options = loadOptions(AGENT_OPTIONS, {}).values;
    assert.throws(() => checkClusterOptions({ ...options, [key]: `not ${String(value)}` }), isCiliumError, key);
  }
});
