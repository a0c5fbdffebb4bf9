// SPDX-License-Identifier: Apache-2.0

/** What a repository is made of, to look at only: explanations and simulations read it and change nothing. */
import type { NumericIdentity } from '../identity/numeric-identity.ts';
import type { CidrIdentities } from './cidr-identities.ts';
import type { NamedPort } from './filter.ts';
import type { PeerContext } from './peer-selectors.ts';
import type { Rule } from './rule.ts';
import type { SelectorCache } from './selector-cache.ts';
import type { EnforcementMode, NumberedPort, SubjectFilter, SubjectPolicy } from './subject-policy.ts';

export interface RepositoryView {
  readonly context: PeerContext;
  readonly enforcement: EnforcementMode;
  readonly allowLocalhost: boolean;
  readonly hostFirewall: boolean;
  /** Without a proxy, rules that need one are refused. */
  readonly hasProxy: boolean;
  /** What is redirected is dropped. */
  readonly dropsRedirects: boolean;
  /** In the order of their import. */
  readonly rules: readonly Rule[];
  /** All identities known, and the selectors of peers. */
  readonly peers: Pick<SelectorCache<SubjectFilter>, 'labelsOf' | 'identities' | 'find' | 'selecting'>;
  readonly policies: Iterable<SubjectPolicy>;
  /** Undefined: the identity is no subject. */
  policyOf(id: NumericIdentity): SubjectPolicy | undefined;
  resolvePort(own: NumericIdentity | 'all' | undefined, port: NamedPort): readonly NumberedPort[];
  cidrUse: CidrIdentities['useOf'];
}
