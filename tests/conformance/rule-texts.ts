// SPDX-License-Identifier: Apache-2.0

/** Rules as they are written, as far as random ones and the simulator know the language. */

export interface SelectorText {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface PortText {
  readonly port: string;
  readonly endPort?: number;
  readonly protocol?: string;
}

export interface L7Text {
  readonly http?: readonly { readonly method?: string; readonly path?: string }[];
  readonly kafka?: readonly { readonly apiKey?: string; readonly topic?: string }[];
  readonly dns?: readonly { readonly matchName?: string; readonly matchPattern?: string }[];
  readonly l7proto?: string;
  readonly l7?: readonly Readonly<Record<string, string>>[];
}

export interface PortRuleText {
  readonly ports?: readonly PortText[];
  readonly rules?: L7Text;
  readonly serverNames?: readonly string[];
  readonly listener?: object;
}

export interface CidrSetText {
  readonly cidr?: string;
  readonly cidrGroupRef?: string;
  readonly cidrGroupSelector?: SelectorText;
  readonly except?: readonly string[];
}

export interface FqdnText {
  readonly matchName?: string;
  readonly matchPattern?: string;
}

export interface EntryText {
  readonly fromEndpoints?: readonly SelectorText[];
  readonly toEndpoints?: readonly SelectorText[];
  readonly fromRequires?: readonly SelectorText[];
  readonly toRequires?: readonly SelectorText[];
  readonly fromEntities?: readonly string[];
  readonly toEntities?: readonly string[];
  readonly fromCIDR?: readonly string[];
  readonly toCIDR?: readonly string[];
  readonly fromCIDRSet?: readonly CidrSetText[];
  readonly toCIDRSet?: readonly CidrSetText[];
  readonly fromNodes?: readonly SelectorText[];
  readonly toNodes?: readonly SelectorText[];
  readonly toFQDNs?: readonly FqdnText[];
  readonly toServices?: readonly object[];
  readonly fromGroups?: readonly object[];
  readonly toGroups?: readonly object[];
  readonly toPorts?: readonly PortRuleText[];
  readonly icmps?: readonly { readonly fields: readonly { readonly type: number; readonly family?: string }[] }[];
}

export interface RuleText {
  readonly endpointSelector?: SelectorText;
  readonly nodeSelector?: SelectorText;
  readonly ingress?: readonly EntryText[];
  readonly ingressDeny?: readonly EntryText[];
  readonly egress?: readonly EntryText[];
  readonly egressDeny?: readonly EntryText[];
  readonly enableDefaultDeny?: { readonly ingress?: boolean; readonly egress?: boolean };
  readonly labels?: readonly string[];
}
