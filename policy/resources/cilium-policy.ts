// SPDX-License-Identifier: Apache-2.0

/** CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (policy-language 1.2). */
import { LABEL_SOURCE, type Label } from '../../identity/label.ts';
import { EndpointSelector, type Requirement } from '../../identity/selector.ts';
import type { Cursor, Members } from '../parse/cursor.ts';
import { CLUSTER_KEY } from '../peer-selectors.ts';
import { readRule } from '../parse/rule.ts';
import { SECTIONS, type Entry, type Peer, type Rule, type Section } from '../rule.ts';
import { derivedLabels, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX, requireLabel } from './kubernetes-labels.ts';
import { namespaceOf, type Metadata, type ResourceOptions } from './metadata.ts';

/** Nodes as peers of a resource are other hosts, never this one. */
const REMOTE_NODES = new EndpointSelector([
  { source: LABEL_SOURCE.reserved, key: 'remote-node', operator: 'Exists', values: [] },
]);

type Kind = 'CiliumNetworkPolicy' | 'CiliumClusterwideNetworkPolicy';

/** One rule of `spec` and those of `specs`. */
export function readCiliumPolicy(members: Members, kind: Kind, metadata: Metadata, options: ResourceOptions): Rule[] {
  const found: Rule[] = [];
  const add = (item: Cursor): void => {
    const namespaced = kind === 'CiliumNetworkPolicy';
    if (namespaced && typeof item.value === 'object' && 'nodeSelector' in (item.value ?? {}))
      item.fail('nodeSelector is possible in a CiliumClusterwideNetworkPolicy only');
    const rule = readRule(item, {
      index: found.length,
      ...(options.source === undefined ? {} : { source: options.source }),
    });
    if (rule === undefined) return;
    if (namespaced && isAboutInit(rule))
      item.fail('endpoints that have no labels yet (reserved:init) belong to a CiliumClusterwideNetworkPolicy only');
    found.push(rule);
  };
  const spec = members.get('spec');
  const specs = members.get('specs');
  if (spec === undefined && specs === undefined) members.cursor.fail('spec or specs is missing');
  if (spec !== undefined) add(spec);
  specs?.list(add);

  const namespace = kind === 'CiliumNetworkPolicy' ? namespaceOf(metadata) : undefined;
  const { name, uid } = metadata;
  const labels = derivedLabels(kind, {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
  });
  return found.map((rule) => translate(rule, namespace, options.clusterName, labels));
}

function isAboutInit({ subject }: Rule): boolean {
  return subject.selector.requirements.some(({ source, key }) => source === LABEL_SOURCE.reserved && key === 'init');
}

/** `namespace` is undefined for a policy of the whole cluster. */
function translate(
  rule: Rule,
  namespace: string | undefined,
  clusterName: string | undefined,
  labels: readonly Label[],
): Rule {
  const { subject } = rule;
  const selector = namespace === undefined ? subject.selector : inNamespace(subject.selector, namespace);
  const aboutInit = isAboutInit(rule);
  const peer = (original: Peer): Peer => {
    if (original.kind === 'nodes') return { ...original, selector: original.selector.and(REMOTE_NODES) };
    if (original.kind !== 'endpoints') return original;
    return { ...original, selector: peerSelector(original.selector, namespace, clusterName, aboutInit) };
  };
  const entries = Object.fromEntries(
    SECTIONS.map((section) => [section, rule.entries[section].map((entry) => withPeers(entry, peer))]),
  ) as unknown as Record<Section, Entry[]>;
  return { ...rule, subject: { ...subject, selector }, entries, labels: [...rule.labels, ...labels] };
}

function withPeers(entry: Entry, map: (peer: Peer) => Peer): Entry {
  return entry.peers === undefined ? entry : { ...entry, peers: entry.peers.map(map) };
}

/** A namespace that the selector names itself does not count. */
function inNamespace(selector: EndpointSelector, namespace: string): EndpointSelector {
  const others = selector.requirements.filter((requirement) => !isKey(requirement, NAMESPACE_KEY));
  return new EndpointSelector([...others, requireLabel(NAMESPACE_KEY, namespace)]);
}

function peerSelector(
  selector: EndpointSelector,
  namespace: string | undefined,
  clusterName: string | undefined,
  aboutInit: boolean,
): EndpointSelector {
  const { requirements } = selector;
  if (requirements.some(({ source }) => source === LABEL_SOURCE.reserved)) return selector;
  const added: Requirement[] = [];
  const namesNamespace = requirements.some(
    (requirement) => isKey(requirement, NAMESPACE_KEY) || requirement.key.startsWith(NAMESPACE_LABELS_PREFIX),
  );
  if (namespace !== undefined && !namesNamespace) added.push(requireLabel(NAMESPACE_KEY, namespace));
  // Everybody in a policy of the whole cluster means all pods; those that have no labels yet have no namespace either.
  if (namespace === undefined && selector.isWildcard && !aboutInit) {
    added.push({ source: LABEL_SOURCE.k8s, key: NAMESPACE_KEY, operator: 'Exists', values: [] });
  }
  if (clusterName !== undefined && !requirements.some((requirement) => isKey(requirement, CLUSTER_KEY))) {
    added.push(requireLabel(CLUSTER_KEY, clusterName));
  }
  return new EndpointSelector([...requirements, ...added]);
}

function isKey({ source, key }: Requirement, wanted: string): boolean {
  return key === wanted && (source === LABEL_SOURCE.k8s || source === LABEL_SOURCE.any);
}
