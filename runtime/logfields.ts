// SPDX-License-Identifier: Apache-2.0

/**
 * Names and types of the facts in log lines, Cilium's where it has one. A fact that is not listed may be logged too;
 * one that is listed is logged under this name and no other.
 */
export interface KnownLogFields {
  /** The component that speaks; bound once by `child`. */
  subsys: string;
  endpointID: number;
  containerID: string;
  dockerEndpointID: string;
  dockerNetworkID: string;
  identity: number;
  /** The sorted label string, "container:id=app1;". */
  identityLabels: string;
  ipAddr: { toString(): string };
  prefix: { toString(): string };
  interface: string;
  ifindex: number;
  policyRevision: number;
  desiredPolicyRevision: number;
  /** Why something is done. */
  reason: string;
  durationMs: number;
  /** How many tries there have been. */
  attempt: number;
  /** Anything thrown; written with its code, its details and all its causes. */
  error: unknown;
}
