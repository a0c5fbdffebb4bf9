// SPDX-License-Identifier: Apache-2.0
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { formatLabel } from '../../identity/label.ts';
import { WHOLE_LANGUAGE } from '../language.ts';
import type { Rule } from '../rule.ts';
import { formatProblem, PolicyValidationError } from '../validation-error.ts';
import { isResource, parseResource } from './resource.ts';

function rulesOf(value: unknown): readonly Rule[] {
  const resource = parseResource(value, { language: WHOLE_LANGUAGE, clusterName: 'default' });
  return resource.kind === 'policy' ? resource.rules : [];
}

function problemsOf(value: unknown): string[] {
  try {
    parseResource(value);
    return [];
  } catch (error) {
    if (error instanceof PolicyValidationError) return error.problems.map(formatProblem);
    throw error;
  }
}

function policy(spec: object, kind = 'CiliumNetworkPolicy'): object {
  return { apiVersion: 'cilium.io/v2', kind, metadata: { name: 'p', namespace: 'shop', uid: 'u' }, spec };
}

function peersOf(rule: Rule | undefined): (string | undefined)[] {
  const peers = rule?.entries.ingress.flatMap((entry) => entry.peers ?? []) ?? [];
  return peers.map((peer) => ('selector' in peer ? peer.selector.toString() : peer.kind));
}

test('a namespaced policy stays in its namespace and cluster, whatever its subject says', () => {
  const subject = { matchLabels: { app: 'web', 'k8s:io.kubernetes.pod.namespace': 'other' } };
  const [rule] = rulesOf(
    policy({ endpointSelector: subject, ingress: [{ fromEndpoints: [{}, { matchLabels: { 'reserved:host': '' } }] }] }),
  );
  assert.equal(rule?.subject.selector.toString(), 'any:app=web,k8s:io.kubernetes.pod.namespace=shop');
  assert.deepEqual(peersOf(rule), [
    'k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace=shop',
    'reserved:host=',
  ]);
  assert.deepEqual(rule.labels.map(formatLabel), [
    'k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy',
    'k8s:io.cilium.k8s.policy.name=p',
    'k8s:io.cilium.k8s.policy.namespace=shop',
    'k8s:io.cilium.k8s.policy.uid=u',
  ]);
});

test('everybody in a policy of the whole cluster means all pods, but for endpoints without labels', () => {
  const entry = { ingress: [{ fromEndpoints: [{}] }] };
  const kind = 'CiliumClusterwideNetworkPolicy';
  const [pods] = rulesOf(policy({ endpointSelector: {}, ...entry }, kind));
  assert.deepEqual(peersOf(pods), ['k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace Exists']);
  const [init] = rulesOf(policy({ endpointSelector: { matchLabels: { 'reserved:init': '' } }, ...entry }, kind));
  assert.deepEqual(peersOf(init), ['k8s:io.cilium.k8s.policy.cluster=default']);
});

test('where no cluster has a name, peers need no label of one', () => {
  const spec = { endpointSelector: {}, ingress: [{ fromEndpoints: [{ matchLabels: { app: 'web' } }] }] };
  const resource = parseResource(policy(spec, 'CiliumClusterwideNetworkPolicy'));
  assert.deepEqual(peersOf(resource.kind === 'policy' ? resource.rules[0] : undefined), ['any:app=web']);
});

test('spec and specs all count', () => {
  const spec = { endpointSelector: {}, ingress: [{}] };
  assert.equal(rulesOf({ ...policy(spec), specs: [spec, spec] }).length, 3);
});

test('faults are told with their place in the resource, all at once', () => {
  const spec = { endpointSelector: {}, ingress: [{ fromEntities: ['lan'] }], nodeSelector: {} };
  assert.deepEqual(
    problemsOf({ ...policy(spec), apiVersion: 'v1', metadata: {}, extra: 1 }).map((problem) => problem.split(':')[0]),
    ['apiVersion', 'metadata', 'spec', 'spec', 'spec.nodeSelector', 'spec.ingress[0].fromEntities[0]', 'extra'],
  );
  assert.deepEqual(problemsOf({ ...policy({}), spec: undefined }).length, 1);
  assert.match(
    problemsOf(policy({ endpointSelector: { matchLabels: { 'reserved:init': '' } }, ingress: [{}] }))[0]!,
    /reserved:init/,
  );
});

test('a NetworkPolicy becomes one rule with an entry for each peer', () => {
  const [rule] = rulesOf({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'n', namespace: 'shop' },
    spec: {
      podSelector: { matchLabels: { app: 'web' } },
      policyTypes: ['Egress'],
      ingress: [
        {
          from: [
            { podSelector: {} },
            { namespaceSelector: {} },
            { namespaceSelector: { matchLabels: { zone: 'a' } }, podSelector: { matchLabels: { app: 'lb' } } },
            { ipBlock: { cidr: '10.0.0.0/8' } },
          ],
          ports: [{ port: 80 }, { port: 'dns', protocol: 'UDP' }, {}],
        },
        {},
      ],
    },
  });
  assert.equal(rule?.subject.selector.toString(), 'k8s:app=web,k8s:io.kubernetes.pod.namespace=shop');
  assert.deepEqual(peersOf(rule), [
    'k8s:io.kubernetes.pod.namespace=shop',
    'k8s:io.kubernetes.pod.namespace Exists',
    'k8s:app=lb,k8s:io.cilium.k8s.namespace.labels.zone=a',
    'cidrSet',
    '',
  ]);
  assert.deepEqual(rule.entries.ingress[0]?.toPorts?.[0]?.ports, [
    { port: 80, protocol: 'TCP' },
    { port: 'dns', protocol: 'UDP' },
    { port: 0, protocol: 'TCP' },
  ]);
  assert.deepEqual(rule.entries.egress, [{}]);
  assert.deepEqual(rule.enableDefaultDeny, { ingress: true, egress: true });
});

test('a CIDR group gives its prefixes and labels', () => {
  const resource = parseResource({
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumCIDRGroup',
    metadata: { name: 'g', labels: { tier: 'a' } },
    spec: { externalCIDRs: ['10.0.0.0/8', '192.0.2.1'] },
  });
  assert.ok(resource.kind === 'cidr-group');
  assert.deepEqual(resource.group.prefixes.map(String), ['10.0.0.0/8', '192.0.2.1/32']);
  assert.deepEqual(resource.group.labels.toTexts(), ['cidrgroup:tier=a']);
});

test('rules are not taken for resources', () => {
  assert.equal(isResource([{ endpointSelector: {} }]), false);
  assert.equal(isResource(policy({})), true);
  assert.deepEqual(
    problemsOf({ kind: 'Pod' }).map((problem) => problem.split(':')[0]),
    ['kind', 'rules', 'rules'],
  );
});
