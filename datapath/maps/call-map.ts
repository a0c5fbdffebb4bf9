// SPDX-License-Identifier: Apache-2.0

/**
 * cilium_calls: the programs that others go on with, by number. The map keeps them alive while it is pinned.
 *
 * C twin: CALL_* in bpf-src/lib/abi.h.
 */
import type { BpfMap } from '../ffi/bpf-map.ts';
import type { BpfProgram } from '../ffi/bpf-program.ts';

/** What came through the tunnel, its device not passed. */
export const CALL_FROM_WIRE = 0;

/** From here on calls of this number go to `program`; without one they do nothing. */
export function setCall(map: BpfMap, call: number, program: BpfProgram | undefined): void {
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(4)];
  key.writeUInt32LE(call);
  if (program === undefined) {
    map.delete(key);
    return;
  }
  value.writeUInt32LE(program.fd);
  map.update(key, value);
}
