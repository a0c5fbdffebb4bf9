// SPDX-License-Identifier: Apache-2.0

/** What the datapath's tests on the running kernel share. */
import { setTimeout as delay } from 'node:timers/promises';
import { BpfMap, MAP_TYPE } from '../../datapath/ffi/bpf-map.ts';
import { createPolicyTrie } from '../../datapath/maps/policy-map.ts';

/** A map like cilium_policy, smaller. */
export function createPolicyOuter(slots: number, entriesPerSlot = 16_384): BpfMap {
  const inner = createPolicyTrie(entriesPerSlot);
  const spec = { type: MAP_TYPE.arrayOfMaps, keySize: 4, valueSize: 4, maxEntries: slots, flags: 0 };
  try {
    return BpfMap.create('policy_outer', spec, inner);
  } finally {
    inner.close();
  }
}

/** Asks again and again until `check` throws no more; its last error is thrown at the limit. */
export async function eventually(check: () => void, limitMs = 10_000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (true) {
    try {
      check();
      return;
    } catch (error) {
      if (performance.now() > limit) throw error;
      await delay(10);
    }
  }
}
