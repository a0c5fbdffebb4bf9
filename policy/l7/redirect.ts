// SPDX-License-Identifier: Apache-2.0

/** What in a port rule sends traffic to a proxy, and which one is stronger. */
import type { PortRule, Rule } from '../rule.ts';

export type Parser = 'http' | 'kafka' | 'generic' | 'tls' | 'dns' | 'listener';

export interface Redirect {
  readonly parser: Parser;
  /** Lower wins where several hit the same packet. */
  readonly priority: number;
  /** Of the generic parser, or of the listener; else empty. */
  readonly name: string;
}

const PRIORITY: Readonly<Record<Parser, number>> = {
  http: 101,
  kafka: 106,
  generic: 111,
  tls: 116,
  dns: 121,
  listener: 126,
};

/** Whether a rule sends anything to a proxy. */
export function needsProxy({ entries }: Rule): boolean {
  return [...entries.ingress, ...entries.egress].some(({ toPorts = [] }) =>
    toPorts.some((portRule) => redirectOf(portRule) !== undefined),
  );
}

/** Undefined: a plain port. */
export function redirectOf({
  l7,
  serverNames,
  terminatingTls,
  originatingTls,
  listener,
}: PortRule): Redirect | undefined {
  if (listener !== undefined) {
    return { parser: 'listener', priority: listener.priority ?? PRIORITY.listener, name: listener.name };
  }
  if (l7 !== undefined) {
    return { parser: l7.kind, priority: PRIORITY[l7.kind], name: l7.kind === 'generic' ? l7.protocol : '' };
  }
  const tls = serverNames !== undefined || terminatingTls !== undefined || originatingTls !== undefined;
  return tls ? { parser: 'tls', priority: PRIORITY.tls, name: '' } : undefined;
}
