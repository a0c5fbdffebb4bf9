// SPDX-License-Identifier: Apache-2.0

/** Every structure that both sides read: what the layout test and the agent's start compare with the compiled objects. */
import type { Layout } from '../btf/layout.ts';
import { DROP_EVENT, EVENT_HEADER, POLICY_VERDICT_EVENT, TRACE_EVENT } from '../events/records.ts';
import { CT4_KEY, CT6_KEY, CT_ENTRY } from './conntrack-map.ts';
import { DEVICE_INFO } from './device-map.ts';
import { ENDPOINT_INFO, ENDPOINT_KEY } from './endpoint-map.ts';
import { FRAG4_KEY, FRAG6_KEY, FRAG_PORTS } from './fragment-map.ts';
import { IPCACHE_INFO, IPCACHE_KEY } from './ipcache-map.ts';
import { METRICS_VALUE } from './metrics-map.ts';
import { POLICY_ENTRY, POLICY_KEY } from './policy-map.ts';
import { SNAT4_ENTRY, SNAT4_KEY, SNAT6_ENTRY, SNAT6_KEY } from './snat-map.ts';

export const ALL_LAYOUTS: readonly Layout[] = [
  ENDPOINT_KEY,
  ENDPOINT_INFO,
  IPCACHE_KEY,
  IPCACHE_INFO,
  POLICY_KEY,
  POLICY_ENTRY,
  CT4_KEY,
  CT6_KEY,
  CT_ENTRY,
  SNAT4_KEY,
  SNAT6_KEY,
  SNAT4_ENTRY,
  SNAT6_ENTRY,
  DEVICE_INFO,
  FRAG4_KEY,
  FRAG6_KEY,
  FRAG_PORTS,
  METRICS_VALUE,
  EVENT_HEADER,
  DROP_EVENT,
  TRACE_EVENT,
  POLICY_VERDICT_EVENT,
];
