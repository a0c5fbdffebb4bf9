// SPDX-License-Identifier: Apache-2.0

/** What resources have in common. */
import type { Cursor } from '../parse/cursor.ts';
import type { ParseOptions } from '../parse/rule.ts';

export interface ResourceOptions extends ParseOptions {
  /**
   * Peers that name no cluster have to carry the label of this one (`--policy-default-local-cluster`). Without it they
   * may be of any: Docker's containers carry no such label.
   */
  readonly clusterName?: string;
}

/** What the rules need of an object's metadata; the rest is Kubernetes' own. */
export interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** That of a namespaced object. */
export function namespaceOf({ namespace = '' }: Metadata): string {
  return namespace === '' ? 'default' : namespace;
}

export function readMetadata(cursor: Cursor): Metadata | undefined {
  return cursor.openObject((members) => {
    const name = members.required('name', (member) => member.nonEmptyString());
    const namespace = members.read('namespace', (member) => member.string());
    const uid = members.read('uid', (member) => member.string());
    const labels = members.read('labels', (member) => member.record((label) => label.string()));
    return {
      name: name ?? '',
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      labels: labels ?? {},
    };
  });
}
