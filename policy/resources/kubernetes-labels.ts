// SPDX-License-Identifier: Apache-2.0

/** Labels by which Kubernetes' notions appear in rules. */
import { LABEL_SOURCE, type Label } from '../../identity/label.ts';
import type { Requirement } from '../../identity/selector.ts';

export const NAMESPACE_KEY = 'io.kubernetes.pod.namespace';
export const NAMESPACE_LABELS_PREFIX = 'io.cilium.k8s.namespace.labels.';

export function requireLabel(key: string, value: string): Requirement {
  return { source: LABEL_SOURCE.k8s, key, operator: 'Equals', values: [value] };
}

/** Labels of a rule that tell which object it comes from. */
export function derivedLabels(
  kind: string,
  { name, namespace, uid }: { readonly name: string; readonly namespace?: string; readonly uid?: string },
): Label[] {
  const values = { 'derived-from': kind, name, namespace, uid };
  return Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : [{ source: LABEL_SOURCE.k8s, key: `io.cilium.k8s.policy.${key}`, value }],
  );
}
