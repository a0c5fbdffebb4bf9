// SPDX-License-Identifier: Apache-2.0

/** Entries of policy maps, as the policy room computes and the datapath writes them, and how one map becomes another. */

export interface PolicyEntryKey {
  readonly identity: number;
  readonly egress: boolean;
  readonly protocol: number;
  readonly port: number;
  readonly bits: number;
}

export interface PolicyEntry extends PolicyEntryKey {
  readonly deny: boolean;
  readonly proxyPort: number;
  readonly precedence: number;
  readonly cookie: number;
}

export interface PolicyChanges {
  readonly upserts: readonly PolicyEntry[];
  readonly deletes: readonly PolicyEntryKey[];
}

/** What has to be written so that `have` becomes `want`. */
export function difference(have: Iterable<PolicyEntry>, want: Iterable<PolicyEntry>): PolicyChanges {
  const left = new Map<string, PolicyEntry>();
  for (const entry of have) left.set(keyOf(entry), entry);
  const upserts: PolicyEntry[] = [];
  for (const entry of want) {
    const key = keyOf(entry);
    const old = left.get(key);
    left.delete(key);
    if (!old || !sameValue(old, entry)) upserts.push(entry);
  }
  return { upserts, deletes: [...left.values()] };
}

function keyOf(key: PolicyEntryKey): string {
  return `${key.identity} ${key.egress ? 1 : 0} ${key.protocol} ${key.port} ${key.bits}`;
}

function sameValue(a: PolicyEntry, b: PolicyEntry): boolean {
  return a.deny === b.deny && a.proxyPort === b.proxyPort && a.precedence === b.precedence && a.cookie === b.cookie;
}
