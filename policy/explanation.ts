// SPDX-License-Identifier: Apache-2.0

/** Why a packet is judged as it is: everything that rules say about it. */
import type { EndpointSelector } from '../identity/selector.ts';
import type { Redirect } from './l7/redirect.ts';
import type { PortRule, Rule, Section } from './rule.ts';

/** Something a rule says about a packet. */
export interface Reason {
  readonly rule: Rule;
  readonly section: Section;
  /** Which entry of the section. */
  readonly entry: number;
  readonly deny: boolean;
  readonly redirect: Redirect | undefined;
  /** What to ask of requests when there is a redirect. */
  readonly portRule: PortRule | undefined;
  /** The selectors that select the peer; none: the entry names no peers. */
  readonly selectors: readonly EndpointSelector[];
}

export interface Explanation {
  /** Of all rules that hit the packet, in no particular order. */
  readonly reasons: readonly Reason[];
  /** The direction is open, or the peer is the host and the node lets it pass everywhere. */
  readonly allowedBySetting: boolean;
}
