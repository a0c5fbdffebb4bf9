// SPDX-License-Identifier: Apache-2.0

/** One end of a flow that is asked about. */
import type { LabelSet } from '../../identity/label-set.ts';
import type { NumericIdentity } from '../../identity/numeric-identity.ts';
import type { IpAddress } from '../../net/ip.ts';

export interface FlowEnd {
  readonly identity: NumericIdentity;
  readonly labels: LabelSet;
  /** An endpoint of this node, or the local host: it has a policy here. */
  readonly managed: boolean;
  /** Where it is known; of a peer outside, a suggested rule then names it alone. */
  readonly address?: IpAddress;
}
