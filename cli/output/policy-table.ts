// SPDX-License-Identifier: Apache-2.0

/** Entries of a policy map as `cilium bpf policy` shows them. */
import { portText } from '../../datapath/maps/flow-text.ts';
import type { PolicyEntry } from '../../datapath/maps/policy-map.ts';
import type { IdentityLabels } from '../identity-labels.ts';
import { table } from './table.ts';

/** The maps keep no statistics and know no authentication; the columns stay where scripts look for them. */
const NO_STATISTICS = '-';
const NO_AUTHENTICATION = 'disabled';

const EMPTY = 'Policy map is empty: nothing may pass.\n';

/** Denials first, then by direction and identity; the further labels of an identity stand below the first. */
export function policyTable(entries: readonly PolicyEntry[], labels: IdentityLabels): string {
  const rows = entries.toSorted(compare).flatMap((entry) => {
    const [first = '', ...more] = peerTexts(entry.identity, labels);
    const row = [
      entry.deny ? 'Deny' : 'Allow',
      entry.egress ? 'Egress' : 'Ingress',
      first,
      portText(entry),
      entry.proxyPort === 0 ? 'NONE' : String(entry.proxyPort),
      NO_AUTHENTICATION,
      NO_STATISTICS,
      NO_STATISTICS,
      String(entry.bits),
      String(entry.cookie),
    ];
    return [row, ...more.map((label) => ['', '', label, '', '', '', '', '', '', ''])];
  });
  const peer = labels === undefined ? 'IDENTITY' : 'LABELS (source:key[=value])';
  const titles = [
    'POLICY',
    'DIRECTION',
    peer,
    'PORT/PROTO',
    'PROXY PORT',
    'AUTH TYPE',
    'BYTES',
    'PACKETS',
    'PREFIX',
    'COOKIE',
  ];
  return table([titles, ...rows]) + (entries.length === 0 ? EMPTY : '');
}

/** The same for programs; numbers in host order. */
export function policyJson(entries: readonly PolicyEntry[]): object[] {
  return entries
    .toSorted(compare)
    .map(({ identity, egress, protocol, port, bits, deny, proxyPort, precedence, cookie }) => ({
      Deny: deny,
      ProxyPort: proxyPort,
      Precedence: precedence,
      Cookie: cookie,
      Key: { Identity: identity, TrafficDirection: egress ? 1 : 0, Nexthdr: protocol, DestPort: port, Prefix: bits },
    }));
}

function peerTexts(identity: number, labels: IdentityLabels): readonly string[] {
  if (labels === undefined) return [String(identity)];
  if (identity === 0) return ['ANY'];
  return labels.get(identity) ?? [String(identity)];
}

function compare(a: PolicyEntry, b: PolicyEntry): number {
  return (
    Number(b.deny) - Number(a.deny) ||
    Number(a.egress) - Number(b.egress) ||
    a.identity - b.identity ||
    a.protocol - b.protocol ||
    a.port - b.port ||
    a.bits - b.bits
  );
}
