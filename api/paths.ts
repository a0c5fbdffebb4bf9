// SPDX-License-Identifier: Apache-2.0

/** Where the API is and what its paths are called; server and client read them from here. */

import { dirname, join } from 'node:path';

export const DEFAULT_SOCKET = '/var/run/cilium/cilium.sock';

/** In front of every path. */
export const BASE_PATH = '/v1';

/** The health API has a socket of its own, beside the agent's. */
export function healthSocketBeside(agentSocket: string): string {
  return join(dirname(agentSocket), 'health.sock');
}
export const HEALTH_BASE_PATH = '/v1beta';
export const HEALTH_PATHS = { hello: '/hello', status: '/status', probe: '/status/probe' } as const;

/** Paths with parameters in the notation of express. */
export const PATHS = {
  status: '/healthz',
  version: '/version',
  nodes: '/cluster/nodes',
  config: '/config',
  endpoints: '/endpoint',
  endpoint: '/endpoint/:id',
  endpointLabels: '/endpoint/:id/labels',
  identities: '/identity',
  identity: '/identity/:id',
  identityEndpoints: '/identity/endpoints',
  addresses: '/ip',
  kvstore: '/kvstore',
  policy: '/policy',
  policyExplain: '/policy/explain',
  policyResolve: '/policy/resolve',
  policySelectors: '/policy/selectors',
  policySimulate: '/policy/simulate',
  policySubjectSelectors: '/policy/subject-selectors',
  maps: '/map',
  map: '/map/:name',
  monitor: '/monitor',
} as const;

/** A request body beyond this is refused; 100,000 rules take about half of it. */
export const BODY_LIMIT_BYTES = 64 * 1024 * 1024;
