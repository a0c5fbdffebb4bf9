// SPDX-License-Identifier: Apache-2.0

/** An endpoint as the REST API shows it. */
import type { Endpoint as EndpointModel } from '../api/models.ts';
import type { Endpoint } from '../endpoint/endpoint.ts';
import { LabelSet } from '../identity/label-set.ts';

export interface PolicyFacts {
  /** Revision of the policy repository. */
  readonly revision: number;
  readonly enforced: { readonly ingress: boolean; readonly egress: boolean };
}

/** `derived`: labels of the container that are not part of the identity. */
export function endpointModel(endpoint: Endpoint, policy: PolicyFacts, derived: readonly string[]): EndpointModel {
  const { facts, identity, labelChanges } = endpoint;
  const enabled = policyEnabled(policy.enforced);
  const labels = identity ? LabelSet.parse(identity.labels).toTexts() : [];
  return {
    id: facts.id,
    status: {
      state: endpoint.state,
      'external-identifiers': {
        ...(identity && { 'container-id': identity.container.id, 'container-name': identity.container.name }),
        'docker-endpoint-id': facts.dockerEndpointId,
        'docker-network-id': facts.networkId,
      },
      ...(identity && { identity: { id: identity.identity, labels } }),
      labels: {
        realized: { user: [...labelChanges.added], disabled: [...labelChanges.disabled] },
        'security-relevant': labels,
        derived: [...derived],
      },
      networking: {
        addressing: [
          { ...(facts.ipv4 && { ipv4: facts.ipv4.toString() }), ...(facts.ipv6 && { ipv6: facts.ipv6.toString() }) },
        ],
        'host-mac': facts.hostMac.toString(),
        mac: facts.mac.toString(),
        'interface-name': facts.ifName,
        'interface-index': facts.ifindex,
      },
      policy: {
        spec: { 'policy-revision': policy.revision, 'policy-enabled': enabled },
        realized: { 'policy-revision': endpoint.policyRevision, 'policy-enabled': enabled },
      },
      health: healthOf(endpoint),
      log: endpoint.log.toReversed().map(({ at, state, reason }) => ({
        timestamp: new Date(at).toISOString(),
        code: state === 'not-ready' ? ('Failure' as const) : ('OK' as const),
        state,
        message: reason,
      })),
    },
  };
}

function policyEnabled(enforced: PolicyFacts['enforced']): 'none' | 'ingress' | 'egress' | 'both' {
  if (enforced.ingress) return enforced.egress ? 'both' : 'ingress';
  return enforced.egress ? 'egress' : 'none';
}

function healthOf(endpoint: Endpoint): EndpointModel['status']['health'] {
  if (endpoint.policyError !== undefined) return { overallHealth: 'Failure', connected: true };
  switch (endpoint.state) {
    case 'ready':
      return { overallHealth: 'OK', connected: true };
    case 'disconnecting':
      return { overallHealth: 'Disabled', connected: false };
    default:
      return { overallHealth: 'Bootstrap', connected: endpoint.policySlot !== 0 };
  }
}
