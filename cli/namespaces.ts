// SPDX-License-Identifier: Apache-2.0

/** Namespaces that imported resources are for, and whether a container here is in one: see docs/decisions/0011. */
import type { CiliumClient } from '../api/client.ts';
import { formatLabel, LABEL_SOURCE } from '../identity/label.ts';
import { listItems } from '../policy/resources/policy-item.ts';
import { NAMESPACE_KEY } from '../policy/resources/kubernetes-labels.ts';

const NAMESPACED_KINDS: readonly unknown[] = ['CiliumNetworkPolicy', 'NetworkPolicy'];

/** What to tell whoever imported these items; undefined when every namespace has an endpoint on this node. */
export async function emptyNamespacesNote(
  items: readonly unknown[],
  client: CiliumClient,
): Promise<string | undefined> {
  const namespaces = new Set(items.flatMap((item) => listItems(item) ?? [item]).flatMap(namespaceOf));
  if (namespaces.size === 0) return undefined;
  for (const { status } of await client.endpoints()) {
    for (const namespace of namespaces) {
      if (status.identity?.labels.includes(namespaceLabel(namespace)) === true) namespaces.delete(namespace);
    }
  }
  if (namespaces.size === 0) return undefined;
  const names = [...namespaces].join(', ');
  return (
    `Note: no container of this node is in namespace ${names}, so policies of that namespace are for none yet ` +
    `(docker run -l ${NAMESPACE_KEY}=…; a CiliumClusterwideNetworkPolicy is for all containers)`
  );
}

/** Of an accepted resource; none for what has no namespace. */
function namespaceOf(item: unknown): string[] {
  const { kind, metadata } = item as { kind?: unknown; metadata?: { namespace?: string } };
  return NAMESPACED_KINDS.includes(kind) ? [metadata?.namespace || 'default'] : [];
}

function namespaceLabel(namespace: string): string {
  return formatLabel({ source: LABEL_SOURCE.k8s, key: NAMESPACE_KEY, value: namespace });
}
