// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { isCiliumError } from '../errors/cilium-error.ts';
import { re2 } from '../runtime/re2.ts';
import { LabelFilter, VOLATILE_DOCKER_PATTERNS, type LabelFilterOptions } from './label-filter.ts';
import { LabelSet } from './label-set.ts';

function identity(options: Omit<LabelFilterOptions, 'regex'>, ...labels: string[]): string[] {
  return new LabelFilter({ ...options, regex: re2 }).split(LabelSet.fromTexts(labels)).identity.toTexts();
}

test('by default container labels count and bookkeeping of Kubernetes does not', () => {
  const kept = identity({}, 'container:app=web', 'container:io.kubernetes.x', 'k8s:io.kubernetes.pod.namespace=shop');
  assert.deepEqual(kept, ['container:app=web', 'k8s:io.kubernetes.pod.namespace=shop']);
});

test('one include of the user makes an allow list, which keeps reserved labels', () => {
  const labels = ['container:role2', 'container:myrole', 'container:app', 'reserved:init'];
  assert.deepEqual(identity({ patterns: ['role'] }, ...labels), ['reserved:init', 'container:role2']);
});

test('excludes alone leave all else in', () => {
  assert.deepEqual(identity({ patterns: ['!build'] }, 'container:buildhost', 'container:app'), ['container:app']);
});

test('the longer match decides between an include and an exclude', () => {
  const patterns = ['!net\\.', 'net\\.edge'];
  assert.deepEqual(identity({ patterns }, 'container:net.edge.x', 'container:net.core'), ['container:net.edge.x']);
});

test('the syntax is that of RE2', () => {
  const labels = ['container:App', 'container:[x', 'container:tier-é'];
  assert.deepEqual(identity({ patterns: ['(?i)app$', '\\Q[x\\E', 'tier-\\pL'] }, ...labels), labels.sort());
});

test('labels that Compose and image builds add do not make an identity', () => {
  const labels = [
    'container:com.docker.compose.config-hash=1',
    'container:com.docker.compose.container-number=1',
    'container:com.docker.compose.service=web',
    'container:org.opencontainers.image.created=now',
  ];
  assert.deepEqual(identity({ builtIn: VOLATILE_DOCKER_PATTERNS }, ...labels), [
    'container:com.docker.compose.service=web',
  ]);
});

test('a prefix file replaces the defaults and compares plain text', () => {
  const prefixFile = { version: 1, 'valid-prefixes': [{ prefix: 'id.', source: 'container' }] };
  assert.deepEqual(identity({ prefixFile }, 'container:id.a', 'container:idXa', 'k8s:id.b'), ['container:id.a']);
});

test('what did not pass is kept as information', () => {
  const { information } = new LabelFilter({ regex: re2 }).split(LabelSet.fromTexts(['container:annotation.x=1']));
  assert.deepEqual(information.toTexts(), ['container:annotation.x=1']);
});

test('malformed patterns and files are refused', () => {
  const wrong: Omit<LabelFilterOptions, 'regex'>[] = [
    { patterns: ['('] },
    { patterns: ['app', '!(?=x)'] },
    { prefixFile: { version: 2, 'valid-prefixes': [] } },
    { prefixFile: { version: 1, 'valid-prefixes': [{ prefix: '', source: 'k8s' }] } },
    { prefixFile: [] },
  ];
  for (const options of wrong) {
    assert.throws(
      () => new LabelFilter({ ...options, regex: re2 }),
      (error) => isCiliumError(error, 'InvalidArgument'),
    );
  }
});
