// SPDX-License-Identifier: Apache-2.0

/** What a proxy decides, as checked data: L7 rules, TLS contexts, listeners (policy-language 7 and 8). */

/** Of one kind; a port rule has one at most. */
export type L7Rules =
  | { readonly kind: 'http'; readonly rules: readonly HttpRule[] }
  | { readonly kind: 'kafka'; readonly rules: readonly KafkaRule[] }
  | { readonly kind: 'dns'; readonly rules: readonly DnsRule[] }
  /** A parser by name, and texts that only it understands. */
  | {
      readonly kind: 'generic';
      readonly protocol: string;
      readonly rules: readonly Readonly<Record<string, string>>[];
    };

/** All members that are there must match; regular expressions match the whole value. */
export interface HttpRule {
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  /** `Name: value`, or a name alone for "present". */
  readonly headers?: readonly string[];
  readonly headerMatches?: readonly HeaderMatch[];
}

export const MISMATCH_ACTIONS = ['LOG', 'ADD', 'DELETE', 'REPLACE'] as const;
export type MismatchAction = (typeof MISMATCH_ACTIONS)[number];

export interface HeaderMatch {
  readonly name: string;
  readonly value?: string;
  readonly secret?: SecretRef;
  readonly mismatch?: MismatchAction;
}

export interface SecretRef {
  readonly namespace?: string;
  readonly name: string;
}

export interface KafkaRule {
  readonly role?: 'produce' | 'consume';
  readonly apiKey?: string;
  readonly apiVersion?: number;
  readonly clientID?: string;
  readonly topic?: string;
}

/** Either member matching is enough. */
export interface DnsRule {
  readonly matchName?: string;
  readonly matchPattern?: string;
}

export interface TlsContext {
  readonly secret: SecretRef;
  readonly trustedCA?: string;
  readonly certificate?: string;
  readonly privateKey?: string;
}

export interface Listener {
  readonly envoyConfig: { readonly kind?: string; readonly name: string };
  readonly name: string;
  /** 1..100, lower wins. */
  readonly priority?: number;
}

/** API keys of Kafka by name; the index is the number on the wire. */
export const KAFKA_API_KEYS = [
  'produce',
  'fetch',
  'offsets',
  'metadata',
  'leaderandisr',
  'stopreplica',
  'updatemetadata',
  'controlledshutdown',
  'offsetcommit',
  'offsetfetch',
  'findcoordinator',
  'joingroup',
  'heartbeat',
  'leavegroup',
  'syncgroup',
  'describegroups',
  'listgroups',
  'saslhandshake',
  'apiversions',
  'createtopics',
  'deletetopics',
  'deleterecords',
  'initproducerid',
  'offsetforleaderepoch',
  'addpartitionstotxn',
  'addoffsetstotxn',
  'endtxn',
  'writetxnmarkers',
  'txnoffsetcommit',
  'describeacls',
  'createacls',
  'deleteacls',
  'describeconfigs',
  'alterconfigs',
] as const;
