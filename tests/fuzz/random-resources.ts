// SPDX-License-Identifier: Apache-2.0

/** Random resources of all four kinds, from the rules and selectors of the whole language. */
import fc from 'fast-check';
import { wholeRules } from '../conformance/random-language.ts';
import { prefix } from '../conformance/random-rules.ts';

const metadata = fc.record(
  { name: fc.constantFrom('a', 'b.c'), namespace: fc.constantFrom('shop', 'lab') },
  { requiredKeys: ['name'], noNullPrototype: true },
);

/** Endpoints only; and no label of the source `reserved`, since policies of a namespace know no `init`. */
const specs = wholeRules.map(({ ingress, ingressDeny, egress, egressDeny }) => ({
  endpointSelector: { matchLabels: { a: '1' } },
  ingress,
  ingressDeny,
  egress,
  egressDeny,
}));

const ciliumPolicies = fc
  .tuple(
    fc.constantFrom('CiliumNetworkPolicy', 'CiliumClusterwideNetworkPolicy'),
    metadata,
    specs,
    fc.array(specs, { maxLength: 2 }),
  )
  .map(([kind, meta, spec, more]) => ({
    apiVersion: 'cilium.io/v2',
    kind,
    metadata: meta,
    spec,
    ...(more.length > 0 ? { specs: more } : {}),
  }));

const podSelectors = fc.constantFrom(
  {},
  { matchLabels: { app: 'web' } },
  { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['web'] }] },
);
const peers = fc.oneof(
  podSelectors.map((podSelector) => ({ podSelector })),
  podSelectors.map((namespaceSelector) => ({ namespaceSelector })),
  fc.tuple(podSelectors, podSelectors).map(([podSelector, namespaceSelector]) => ({ podSelector, namespaceSelector })),
  prefix.map((cidr) => ({ ipBlock: { cidr } })),
);
const policyPorts = fc.constantFrom<object>(
  {},
  { port: 80 },
  { port: 80, endPort: 90 },
  { protocol: 'UDP' },
  { port: 'web', protocol: 'TCP' },
);
const policyRules = (side: 'from' | 'to'): fc.Arbitrary<object[]> =>
  fc.array(
    fc
      .tuple(fc.array(peers, { maxLength: 2 }), fc.array(policyPorts, { maxLength: 2 }))
      .map(([who, ports]) => ({ [side]: who, ports })),
    { maxLength: 2 },
  );
const networkPolicies = fc
  .tuple(metadata, podSelectors, policyRules('from'), policyRules('to'), fc.subarray(['Ingress', 'Egress']))
  .map(([meta, podSelector, ingress, egress, policyTypes]) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: meta,
    spec: { podSelector, ingress, egress, policyTypes },
  }));

let groups = 0;
const cidrGroups = fc.array(prefix, { maxLength: 3 }).map((externalCIDRs) => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumCIDRGroup',
  metadata: { name: `g${groups++}`, labels: { tier: 'a' } },
  spec: { externalCIDRs },
}));

export const randomPolicies: fc.Arbitrary<object> = fc.oneof(ciliumPolicies, networkPolicies);
export const randomResources: fc.Arbitrary<object> = fc.oneof(
  { weight: 3, arbitrary: randomPolicies },
  { weight: 1, arbitrary: cidrGroups },
);
