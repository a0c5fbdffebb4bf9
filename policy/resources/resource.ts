// SPDX-License-Identifier: Apache-2.0

/** Resources as Kubernetes has them, to the rules that they mean. */
import { LABEL_SOURCE } from '../../identity/label.ts';
import { LabelSet } from '../../identity/label-set.ts';
import type { Prefix } from '../../net/ip.ts';
import { Cursor, type Members } from '../parse/cursor.ts';
import { parsePrefix } from '../parse/peers.ts';
import { newParseContext } from '../parse/rule.ts';
import type { CidrGroup } from '../peer-selectors.ts';
import type { Rule } from '../rule.ts';
import { PolicyValidationError } from '../validation-error.ts';
import { readCiliumPolicy } from './cilium-policy.ts';
import { readMetadata, type Metadata, type ResourceOptions } from './metadata.ts';
import { readNetworkPolicy } from './network-policy.ts';

export type Resource =
  | { readonly kind: 'policy'; readonly rules: readonly Rule[] }
  | { readonly kind: 'cidr-group'; readonly name: string; readonly group: CidrGroup };

const KINDS: Readonly<Record<string, string>> = {
  CiliumNetworkPolicy: 'cilium.io/v2',
  CiliumClusterwideNetworkPolicy: 'cilium.io/v2',
  CiliumCIDRGroup: 'cilium.io/v2',
  NetworkPolicy: 'networking.k8s.io/v1',
};

/** True when the value calls itself a resource; rules do not. */
export function isResource(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'kind' in value;
}

/** Checks a resource and translates it. Throws PolicyValidationError with every fault; paths begin at the resource. */
export function parseResource(value: unknown, options: ResourceOptions = {}): Resource {
  const context = newParseContext(options);
  const resource = new Cursor(value, [], context).object((members) => readResource(members, options));
  if (context.problems.length > 0) throw new PolicyValidationError(context.problems);
  return resource!;
}

function readResource(members: Members, options: ResourceOptions): Resource | undefined {
  const kind = members.required('kind', (member) => member.oneOf(Object.keys(KINDS)));
  members.required('apiVersion', (member) => member.oneOf(versionsOf(kind)));
  const metadata = members.required('metadata', readMetadata) ?? { name: '', labels: {} };
  members.get('status');
  switch (kind) {
    case 'CiliumNetworkPolicy':
    case 'CiliumClusterwideNetworkPolicy':
      return { kind: 'policy', rules: readCiliumPolicy(members, kind, metadata, options) };
    case 'NetworkPolicy':
      return { kind: 'policy', rules: readNetworkPolicy(members, metadata, options.source) };
    case 'CiliumCIDRGroup':
      return { kind: 'cidr-group', name: metadata.name, group: readCidrGroup(members, metadata) };
    default:
      return undefined;
  }
}

/** CIDR groups began in an earlier version of the API. */
function versionsOf(kind: string | undefined): string[] {
  if (kind === undefined) return [...new Set(Object.values(KINDS))];
  return kind === 'CiliumCIDRGroup' ? ['cilium.io/v2', 'cilium.io/v2alpha1'] : [KINDS[kind]!];
}

function readCidrGroup(members: Members, metadata: Metadata): CidrGroup {
  const prefixes = members.required('spec', (spec) =>
    spec.object((inner) => inner.required('externalCIDRs', (list) => list.list(readPrefix))),
  );
  const labels = Object.entries(metadata.labels).map(([key, value]) => ({
    source: LABEL_SOURCE.cidrGroup,
    key,
    value,
  }));
  return { labels: LabelSet.of(labels), prefixes: prefixes ?? [] };
}

function readPrefix(cursor: Cursor): Prefix | undefined {
  const text = cursor.string();
  return text === undefined ? undefined : parsePrefix(cursor, text);
}
