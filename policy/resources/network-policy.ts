// SPDX-License-Identifier: Apache-2.0

/** NetworkPolicy of Kubernetes (policy-language 1.3). */
import { LABEL_SOURCE } from '../../identity/label.ts';
import { EndpointSelector, type Requirement } from '../../identity/selector.ts';
import type { Cursor, Members } from '../parse/cursor.ts';
import { readCidrSet } from '../parse/peers.ts';
import { isPortName } from '../parse/ports.ts';
import { readSelector } from '../parse/selector.ts';
import type { Direction, Entry, Peer, PortSpec, Rule } from '../rule.ts';
import { derivedLabels, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX, requireLabel } from './kubernetes-labels.ts';
import { namespaceOf, type Metadata } from './metadata.ts';

const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const POLICY_TYPES = ['Ingress', 'Egress'] as const;
const MAX_PORT = 65_535;

export function readNetworkPolicy(members: Members, metadata: Metadata, source: string | undefined): Rule[] {
  const namespace = namespaceOf(metadata);
  const rule = members.required('spec', (spec) => spec.object((inner) => readSpec(inner, namespace)));
  if (rule === undefined) return [];
  return [
    {
      ...rule,
      labels: derivedLabels('NetworkPolicy', { ...metadata, namespace }),
      origin: { index: 0, ...(source === undefined ? {} : { source }) },
    },
  ];
}

function readSpec(members: Members, namespace: string): Omit<Rule, 'labels' | 'origin'> {
  const pods = members.required('podSelector', readSelector) ?? EndpointSelector.WILDCARD;
  const types = members.read('policyTypes', (list) => list.list((item) => item.oneOf(POLICY_TYPES))) ?? [];
  const ingress =
    members.read('ingress', (list) => list.list((item) => readEntries(item, 'ingress', namespace)))?.flat() ?? [];
  const egress =
    members.read('egress', (list) => list.list((item) => readEntries(item, 'egress', namespace)))?.flat() ?? [];
  // A direction that is only named closes: an entry that allows nothing.
  if (ingress.length === 0 && (types.includes('Ingress') || !types.includes('Egress'))) ingress.push({});
  if (egress.length === 0 && types.includes('Egress')) egress.push({});
  return {
    subject: { kind: 'endpoint', selector: podsOf(pods, [requireLabel(NAMESPACE_KEY, namespace)]) },
    entries: { ingress, ingressDeny: [], egress, egressDeny: [] },
    enableDefaultDeny: { ingress: ingress.length > 0, egress: egress.length > 0 },
  };
}

/** One rule of the policy: an entry for each of its peers, all with the same ports. */
function readEntries(cursor: Cursor, direction: Direction, namespace: string): Entry[] | undefined {
  return cursor.object((members) => {
    const peers = members.read(direction === 'ingress' ? 'from' : 'to', (list) =>
      list.list((item) => readPeer(item, namespace)),
    );
    const ports = members.read('ports', (list) => list.list(readPort)) ?? [];
    const anybody: Peer = { kind: 'endpoints', selector: EndpointSelector.WILDCARD };
    const found = peers === undefined || peers.length === 0 ? [anybody] : peers;
    return found.map((peer) => ({ peers: [peer], ...(ports.length > 0 ? { toPorts: [{ ports }] } : {}) }));
  });
}

function readPeer(cursor: Cursor, namespace: string): Peer | undefined {
  return cursor.object((members) => {
    const block = members.get('ipBlock');
    const pods = members.read('podSelector', readSelector);
    const namespaces = members.read('namespaceSelector', readSelector);
    if (block !== undefined) {
      if (pods !== undefined || namespaces !== undefined) cursor.fail('ipBlock stands alone in a peer');
      return readBlock(block);
    }
    if (pods === undefined && namespaces === undefined) {
      return cursor.fail('expected podSelector, namespaceSelector or ipBlock');
    }
    const where = namespaces === undefined ? [requireLabel(NAMESPACE_KEY, namespace)] : namespacesOf(namespaces);
    return { kind: 'endpoints', selector: podsOf(pods ?? EndpointSelector.WILDCARD, where) };
  });
}

function readBlock(cursor: Cursor): Peer | undefined {
  const set = readCidrSet(cursor);
  if (set === undefined || set.prefix !== undefined) return set;
  return 'cidr' in (cursor.value as object) ? undefined : cursor.fail('cidr is missing');
}

/** Labels of a namespace are labels of its pods, under a prefix; any namespace: the pod has one. */
function namespacesOf(selector: EndpointSelector): Requirement[] {
  if (selector.isWildcard) return [{ source: LABEL_SOURCE.k8s, key: NAMESPACE_KEY, operator: 'Exists', values: [] }];
  return selector.requirements.map((requirement) => ({
    ...requirement,
    source: LABEL_SOURCE.k8s,
    key: `${NAMESPACE_LABELS_PREFIX}${requirement.key}`,
  }));
}

function podsOf(selector: EndpointSelector, where: readonly Requirement[]): EndpointSelector {
  const own = selector.requirements.map((requirement) => ({ ...requirement, source: LABEL_SOURCE.k8s }));
  return new EndpointSelector([...own, ...where]);
}

function readPort(cursor: Cursor): PortSpec | undefined {
  return cursor.object((members) => {
    const protocol = members.read('protocol', (member) => member.oneOf(PROTOCOLS)) ?? 'TCP';
    const port = members.read('port', readPortNumberOrName) ?? 0;
    const endPort = members.read('endPort', (member) => member.integer(1, MAX_PORT));
    const isRange = typeof port === 'number' && endPort !== undefined && endPort > port;
    return { port, protocol, ...(isRange ? { endPort } : {}) };
  });
}

function readPortNumberOrName(cursor: Cursor): number | string | undefined {
  const { value } = cursor;
  if (typeof value !== 'string') return cursor.integer(0, MAX_PORT);
  if (!isPortName(value)) return cursor.expected('a number or the name of a port');
  if (!cursor.context.language.namedPorts) return cursor.unsupported('port names are not supported; write the number');
  return value.toLowerCase();
}
