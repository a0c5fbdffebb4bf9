// SPDX-License-Identifier: Apache-2.0

/** The states of an endpoint and the ways between them. The names are those that `cilium endpoint list` shows. */

export const ENDPOINT_STATES = [
  'creating', // Docker asked for it; the veth pair exists, nothing passes
  'waiting-for-identity', // Docker wants to start the container; its labels are being looked up
  'regenerating', // identity known; policy is being written to the kernel
  'ready', // the kernel holds the policy of the revision shown
  'not-ready', // the last policy could not be written; the one before it is in force
  'restoring', // read back after a start of the agent
  'disconnecting', // Docker let go of it
] as const;

export type EndpointState = (typeof ENDPOINT_STATES)[number];

const NEXT: Readonly<Record<EndpointState, readonly EndpointState[]>> = {
  creating: ['waiting-for-identity', 'disconnecting'],
  'waiting-for-identity': ['regenerating', 'creating', 'disconnecting'],
  regenerating: ['ready', 'not-ready', 'disconnecting'],
  ready: ['waiting-for-identity', 'regenerating', 'not-ready', 'disconnecting'],
  'not-ready': ['waiting-for-identity', 'regenerating', 'ready', 'disconnecting'],
  restoring: ['waiting-for-identity', 'regenerating', 'creating', 'disconnecting'],
  disconnecting: [],
};

/** True when an endpoint may go from one state to the other. */
export function mayBecome(from: EndpointState, to: EndpointState): boolean {
  return NEXT[from].includes(to);
}
