// SPDX-License-Identifier: Apache-2.0

/** Which events `cilium monitor` shows: of one of the types, from one of the endpoints, to one, related to one. */
import type { DatapathEvent } from '../datapath/events/records.ts';

export const EVENT_TYPES = ['drop', 'trace', 'policy-verdict', 'agent'] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** Empty lists let everything pass. */
export interface FilterOptions {
  readonly type: readonly EventType[];
  readonly from: readonly number[];
  readonly to: readonly number[];
  readonly relatedTo: readonly number[];
}

/** Makes the test that an event has to pass; events of the agent itself belong to no endpoint. */
export function eventFilter(options: FilterOptions): (event: DatapathEvent | { readonly type: 'agent' }) => boolean {
  const [types, from, to, related] = [options.type, options.from, options.to, options.relatedTo].map(
    (values) => new Set<string | number>(values),
  ) as [Set<string>, Set<number>, Set<number>, Set<number>];
  const anyEndpoint = from.size + to.size + related.size === 0;
  return (event) => {
    if (types.size > 0 && !types.has(event.type)) return false;
    if (anyEndpoint) return true;
    if (event.type === 'agent') return false;
    const { source, destination } = event;
    if (from.size > 0 && !from.has(source)) return false;
    if (to.size > 0 && !to.has(destination)) return false;
    return related.size === 0 || related.has(source) || related.has(destination);
  };
}
