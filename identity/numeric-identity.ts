// SPDX-License-Identifier: Apache-2.0

/** The numbers of identities: which are reserved, what labels those have, and how numbers are shown. */
import type { IpFamily, Prefix } from '../net/ip.ts';
import { formatCidrKey } from './cidr-label.ts';
import { LABEL_SOURCE, type Label } from './label.ts';
import { LabelSet } from './label-set.ts';

export type NumericIdentity = number & { readonly brand: 'NumericIdentity' };

export function numericIdentity(value: number): NumericIdentity {
  return value as NumericIdentity;
}

/** Names as they are shown, and numbers as the kernel and other nodes know them. */
export const RESERVED_IDENTITIES = {
  /** In a policy key: any identity. */
  unknown: numericIdentity(0),
  host: numericIdentity(1),
  /** Outside, where only one address family is on. */
  world: numericIdentity(2),
  unmanaged: numericIdentity(3),
  health: numericIdentity(4),
  /** Endpoints without labels yet. */
  init: numericIdentity(5),
  'remote-node': numericIdentity(6),
  'kube-apiserver': numericIdentity(7),
  ingress: numericIdentity(8),
  'world-ipv4': numericIdentity(9),
  'world-ipv6': numericIdentity(10),
} as const;

export type ReservedName = keyof typeof RESERVED_IDENTITIES;

/** Identities agreed on by all nodes, from the kvstore. */
export const GLOBAL_IDENTITY_MIN = 256;
export const GLOBAL_IDENTITY_MAX = 65_535;
/** Identities of prefixes and DNS names; they mean something on this node only. */
export const LOCAL_IDENTITY_MIN = 0x0100_0001;
export const LOCAL_IDENTITY_MAX = 0x01ff_ffff;

/** Which address families the node uses; with both, each has a world identity of its own. */
export interface Families {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

export const DUAL_STACK: Families = { ipv4: true, ipv6: true };

const NAMES = new Map<number, ReservedName>(
  Object.entries(RESERVED_IDENTITIES).map(([name, id]) => [id, name as ReservedName]),
);

const RESERVED_LABELS = new Map<number, LabelSet>(
  Array.from(NAMES, ([id, name]) => {
    const names: ReservedName[] = name === 'kube-apiserver' ? [name, 'remote-node'] : [name];
    return [id, LabelSet.of(names.map(reservedLabel))];
  }),
);

const RESERVED_BY_TEXT = new Map<string, NumericIdentity>(
  Array.from(reservedIdentities(), ([id, labels]) => [labels.toString(), id]),
);

/** The name of a reserved identity, else the number in decimal. */
export function identityName(id: number): string {
  return NAMES.get(id) ?? String(id);
}

/** The labels of a reserved identity. */
export function reservedLabels(id: number): LabelSet | undefined {
  return RESERVED_LABELS.get(id);
}

/** All reserved identities but "unknown", with their labels. */
export function* reservedIdentities(): Generator<[NumericIdentity, LabelSet]> {
  for (const [id, labels] of RESERVED_LABELS)
    if (id !== RESERVED_IDENTITIES.unknown) yield [numericIdentity(id), labels];
}

/** The reserved identity that has exactly these labels. */
export function reservedIdentityOf(labels: LabelSet): NumericIdentity | undefined {
  return RESERVED_BY_TEXT.get(labels.toString());
}

export function reservedLabel(name: ReservedName): Label {
  return { source: LABEL_SOURCE.reserved, key: name, value: '' };
}

/** The name of the identity that addresses of this family outside have. */
export function worldName(family: IpFamily, families: Families): 'world' | 'world-ipv4' | 'world-ipv6' {
  if (!families.ipv4 || !families.ipv6) return 'world';
  return family === 4 ? 'world-ipv4' : 'world-ipv6';
}

/** The labels of a prefix outside: itself and its family's world; of the whole family: the world alone. */
export function cidrLabels(prefix: Prefix, families: Families = DUAL_STACK): LabelSet {
  const world = reservedLabel(worldName(prefix.family, families));
  if (prefix.length === 0) return LabelSet.of([world]);
  return LabelSet.of([{ source: LABEL_SOURCE.cidr, key: formatCidrKey(prefix), value: '' }, world]);
}
