// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cgroup } from './cgroup.ts';
import { LabNode, parseNodeNumber } from './node.ts';

test('a node is named by its number, with or without the word', () => {
  assert.equal(parseNodeNumber('1'), 1);
  assert.equal(parseNodeNumber('node3'), 3);
  for (const text of ['0', '10', 'x', '', 'node', '-1']) {
    assert.throws(() => parseNodeNumber(text), { code: 'InvalidArgument' }, text);
  }
});

test('inside a node docker and cilium are told of its engine and agent, whatever the caller had set', () => {
  const node = new LabNode(1, '/nowhere', new Cgroup('/cilium-lab-none'), { enginePath: ['/engine'] });
  const environment = node.environment({ DOCKER_HOST: 'tcp://elsewhere', DOCKER_CONTEXT: 'other', KEPT: 'yes' });
  assert.equal(environment.DOCKER_HOST, 'unix:///run/docker.sock');
  assert.equal(environment.DOCKER_CONTEXT, undefined);
  assert.equal(environment.KEPT, 'yes');
  assert.match(environment.PATH!, /bin:\/engine:/);
});
