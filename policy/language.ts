// SPDX-License-Identifier: Apache-2.0

/**
 * Which parts of the language are on. A rule that uses a part that is off is refused with the name of the field: a rule
 * that is accepted is enforced.
 */

export interface Language {
  /** L7 rules, server names, TLS contexts and listeners: they need a proxy. */
  readonly l7: boolean;
  /** toFQDNs: needs the DNS proxy. */
  readonly fqdns: boolean;
  /** toServices, fromGroups and toGroups: they need something that expands them. */
  readonly expanded: boolean;
  /** cidrGroupRef and cidrGroupSelector. */
  readonly cidrGroups: boolean;
  /** fromNodes and toNodes (`--enable-node-selector-labels`). */
  readonly nodes: boolean;
  /** nodeSelector: policy of the host itself. */
  readonly hostPolicies: boolean;
  /** Modes of authentication besides `disabled`. */
  readonly authentication: boolean;
  readonly namedPorts: boolean;
  /** VRRP and IGMP, and ports left out (`--enable-extended-ip-protocols`). */
  readonly extendedProtocols: boolean;
  /** fromRequires and toRequires, which Cilium has no more since 1.1: see docs/decisions/0009. */
  readonly requires: boolean;
}

/** What endpoints' policy maps enforce by themselves. */
export const DATAPATH_LANGUAGE: Language = {
  l7: false,
  fqdns: false,
  expanded: false,
  cidrGroups: true,
  nodes: false,
  hostPolicies: false,
  authentication: false,
  namedPorts: true,
  extendedProtocols: false,
  requires: true,
};

/** All that Cilium 1.19 accepts with its default options. */
export const WHOLE_LANGUAGE: Language = {
  l7: true,
  fqdns: true,
  expanded: true,
  cidrGroups: true,
  nodes: false,
  hostPolicies: true,
  authentication: true,
  namedPorts: true,
  extendedProtocols: false,
  requires: false,
};
